"""An HTTP server for routes (``s3router serve``): OpenAI's API for transcription, and a page to try it on."""
