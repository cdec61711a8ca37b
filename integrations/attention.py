"""What a pipeline computes attention with: PyTorch's own kernels, or xformers' on CUDA."""

from importlib.util import find_spec
from typing import Any

from negclip_core.errors import RequestError

__all__ = ["ATTENTION", "choose_attention", "use_attention"]

ATTENTION = ("auto", "sdpa", "xformers")


def choose_attention(name: str, device: str) -> str:
    """ "sdpa" or "xformers" for what was asked for on a torch device; "auto" is xformers where it can be.

    Raises:
        RequestError: another name, or xformers where it is not installed or cannot compute.
    """
    if name not in ATTENTION:
        raise RequestError(f"--attention {name}: expected {', '.join(ATTENTION)}")
    installed, cuda = find_spec("xformers") is not None, device.startswith("cuda")
    if name == "auto":
        return "xformers" if installed and cuda else "sdpa"
    if name == "xformers" and not cuda:
        raise RequestError("--attention xformers: computes on CUDA only; leave it out, or give --device cuda")
    if name == "xformers" and not installed:
        raise RequestError("--attention xformers: is not installed (negclip's extra xformers); leave it out")
    return name


def use_attention(pipe: Any, name: str) -> None:
    """Let a diffusers pipeline compute with "sdpa", which it does by itself, or "xformers"."""
    if name == "xformers":
        pipe.enable_xformers_memory_efficient_attention()
