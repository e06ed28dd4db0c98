"""The arithmetic that training runs in: float32, or bfloat16 under autocast."""

from __future__ import annotations

ARITHMETIC = ("auto", "bfloat16", "float32")


def has_bfloat16(ngpu: int) -> bool:
    """Whether matrix products in bfloat16 are done by hardware here; elsewhere they are slower than float32's."""
    import torch

    if ngpu > 0:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16") or able.get("bf16"))
