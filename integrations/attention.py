"""What a pipeline computes attention with: PyTorch's own kernels, or xformers' on CUDA."""

from importlib.util import find_spec
from typing import Any

from negclip_core.errors import RequestError, reason_of

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


def use_attention(pipe: Any, chosen: str, asked: str) -> None:
    """Let a diffusers pipeline compute with "sdpa", which it does by itself, or "xformers", as was chosen.

    Raises:
        RequestError: xformers was asked for, and cannot compute here; if it was not, the pipeline stays as it is.
    """
    if chosen == "sdpa":
        return
    try:
        pipe.enable_xformers_memory_efficient_attention()
    except (ImportError, NotImplementedError, RuntimeError, ValueError) as error:
        # diffusers tries it once: a build for another torch or CUDA is installed, and has no kernels.
        if asked == "xformers":
            raise RequestError(
                f"--attention xformers: is installed, and cannot compute here ({reason_of(error)}); install the build for "
                "this torch, or leave it out"
            ) from error
