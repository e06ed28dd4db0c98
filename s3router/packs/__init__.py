"""Mask packs: what one route (a language or task) adds to a shared backbone, in one safetensors file.

    from s3router.packs import read_pack, write_pack
    pack = read_pack("es.pack", backbone)

The format is specified in docs/packs.md. Importing this package imports no torch.
"""

from __future__ import annotations

import importlib

_WHERE = {"MaskPack": "contents", "PackMeta": "contents", "read_pack": "pack_file", "write_pack": "pack_file"}

__all__ = ["MaskPack", "PackMeta", "read_pack", "write_pack"]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
