"""Where bfloat16 is faster than float32, and nowhere else, torch is told to use it."""

from contextlib import AbstractContextManager

import torch

__all__ = ["bf16_pays", "mixed_precision"]

_CPU = torch.device("cpu")


def bf16_pays() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware; elsewhere they are emulated, and slower."""
    return bool(torch.cpu._is_amx_tile_supported())


def mixed_precision(wanted: bool = True, device: torch.device = _CPU) -> AbstractContextManager[None]:
    """`torch.autocast` to bfloat16 on a device where `wanted` and worth it, else nothing."""
    pays = bf16_pays() if device.type == "cpu" else torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and pays)
