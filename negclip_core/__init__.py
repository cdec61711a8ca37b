"""CLIP and the word "no": captions, text-tower training, checkpoints. Knows nothing of diffusion or segmentation."""

from typing import TYPE_CHECKING, Any

from negclip_core import torchvision_cpu

if TYPE_CHECKING:
    from negclip_core.clip import Clip as Clip
    from negclip_core.clip import load_clip as load_clip
    from negclip_core.language import parse as parse

__all__ = ["Clip", "load_clip", "parse"]

torchvision_cpu.install()

_HOME = {"Clip": "negclip_core.clip", "load_clip": "negclip_core.clip", "parse": "negclip_core.language"}


def __getattr__(name: str) -> Any:
    # Lazy, so that `import negclip_core` does not import torch.
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module 'negclip_core' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
