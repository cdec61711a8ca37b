"""Loaded models, kept for whoever runs a verb again and again."""

from collections.abc import Callable, Hashable
from typing import Any, ParamSpec, TypeVar, cast

__all__ = ["Shelf"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Shelf:
    """What loaders have given, by loader and arguments. Not for several threads at once."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def get(self, load: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What `load` gives for these arguments, which must be hashable; it is called for them once."""
        key = (load, args, tuple(sorted(kwargs.items())))
        if key not in self._kept:
            self._kept[key] = load(*args, **kwargs)
        return cast(_T, self._kept[key])
