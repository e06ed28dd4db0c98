"""s3router from Python (docs/python.md). Programs reach what is here as ``s3router.NAME``."""
