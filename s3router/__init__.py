"""S3-Router: learnt weight masks on frozen speech upstreams (https://arxiv.org/abs/2211.01522).

Importing this package costs nothing: torch, ESPnet and s3prl come with the subpackage that needs them.
"""

from __future__ import annotations

__version__ = "0.1.0.dev0"
