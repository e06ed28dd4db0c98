"""``python -m s3router`` is the ``s3router`` command."""

from __future__ import annotations

import sys

from s3router.cli import main

if __name__ == "__main__":
    sys.exit(main())
