"""Let a CUDA-built torchvision import beside a CPU-only torch.

The package index carries torchvision only as built for CUDA. Beside a CPU torch its compiled operators
cannot load, and `torchvision/_meta_registrations.py` then fails on operators that do not exist, which takes
open_clip, diffusers, transformers and segment_anything down with it. None of them needs those operators to
load a model, so this import hook leaves that one module empty when, and only when, the operators are absent.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

__all__ = ["install"]

_MODULE = "torchvision._meta_registrations"


class _SkipWithoutOperators(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        from torchvision.extension import _has_ops

        if _has_ops():
            self._loader.exec_module(module)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _SkipWithoutOperators(spec.loader)
        return spec


def install() -> None:
    """Put the hook first in `sys.meta_path`, once. Imports nothing heavy."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
