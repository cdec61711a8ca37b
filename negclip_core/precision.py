"""Where bfloat16 is faster than float32, and nowhere else, torch is told to use it."""

from contextlib import AbstractContextManager

import torch

__all__ = ["bf16_pays", "mixed_precision"]


def bf16_pays() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware; elsewhere they are emulated, and slower."""
    return bool(torch.cpu._is_amx_tile_supported())


def mixed_precision(wanted: bool = True) -> AbstractContextManager[None]:
    """`torch.autocast` to bfloat16 on the CPU where `wanted` and worth it, else nothing."""
    return torch.autocast("cpu", torch.bfloat16, enabled=wanted and bf16_pays())
