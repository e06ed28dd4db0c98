#!/usr/bin/env python3
"""Check a Kaldi data directory (see python -m s3router.data.validate --help)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from s3router.data.validate import main

sys.exit(main())
