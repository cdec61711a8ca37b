"""A swap in force: modules of a host that others stand in for, until they are put back exactly."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

from torch import nn

from negclip_core.errors import RequestError

__all__ = ["Swap"]


class Swap:
    """A swap that is in force until `restore()`, or until the end of its `with` block."""

    def __init__(
        self, owner: Any, replacements: Mapping[str, nn.Module], restored: Callable[[], None] = lambda: None,
        restoring: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:  # fmt: skip
        """Put `replacements` into the attributes of `owner` that they are named by.

        The originals are put back within `restoring()`, and then `restored` is called.
        """
        self._owner, self._replacements = owner, dict(replacements)
        self._restored, self._restoring = restored, restoring
        self._originals = {name: getattr(owner, name) for name in replacements}
        for name, module in replacements.items():
            setattr(owner, name, module)

    def restore(self) -> None:
        """Put the host's own modules back, the very objects that they were. A second call does nothing.

        Raises:
            RequestError: something else has been put into the slot since.
        """
        current = {name: getattr(self._owner, name) for name in self._originals}
        if all(current[name] is own for name, own in self._originals.items()):
            return
        for name, module in self._replacements.items():
            if current[name] is not module:
                raise RequestError(f"{name}: was changed after this swap; undo that first")
        with self._restoring():
            for name, own in self._originals.items():
                setattr(self._owner, name, own)
        self._restored()

    def __enter__(self) -> "Swap":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()
