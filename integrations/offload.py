"""Exchange a part of a pipeline whose weights wait on the processor, or nowhere (diffusers' offloading).

diffusers hangs hooks on each part when offloading is enabled, and knows of none that comes later. Taking all hooks away and
enabling it again is its own way to lay out what is there now: it does so after each picture.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

__all__ = ["parts_at_hand"]


@contextmanager
def parts_at_hand(pipe: Any) -> Iterator[None]:
    """Within the block the weights of a diffusers pipeline are where they are when nothing is drawn, and hooks on none;
    afterwards it is offloaded as it was."""
    offload = _offloading(pipe)
    if offload is None:
        yield
        return
    pipe.remove_all_hooks()
    try:
        yield
    finally:
        offload()


def _offloading(pipe: Any) -> Callable[[], None] | None:
    """What enables the offloading that a pipeline is under; None where it is under none, or under a device map's."""
    if getattr(pipe, "hf_device_map", None):
        return None
    if getattr(pipe, "_all_hooks", None):
        return partial(pipe.enable_model_cpu_offload, device=pipe._offload_device)
    parts = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
    if any(parameter.is_meta for part in parts for parameter in part.parameters()):
        return partial(pipe.enable_sequential_cpu_offload, device=pipe._execution_device)
    return None
