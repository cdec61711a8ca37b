"""A run's state on disk: the last two are kept, each whole or not at all, and damage shows before one is read."""

import json
import os
import pickle
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from negclip_core.errors import RequestError, UnfinishedWork, reason_of
from negclip_core.files import atomic_path
from negclip_core.training import processes

__all__ = ["States"]

_DAMAGE = (
    AssertionError, AttributeError, BadZipFile, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError,
    struct.error, zlib.error,
)  # fmt: skip
_ANEW = "give another --out, or delete it to start anew"


class States:
    """The last two states of a run: the newer at `path`, the older beside it, read where the newer is damaged."""

    def __init__(self, path: Path, quiet: bool = False) -> None:
        self.path = Path(os.path.realpath(path))
        self.older = self.path.with_name(f"{self.path.stem}.older{self.path.suffix}")
        self.quiet = quiet
        self._sound = False  # whether what is at `path` may take the place of the older

    def save(self, state: dict[str, Any]) -> None:
        """Write a state of tensors, numbers, texts and dicts and lists of them; the first of several processes does.

        Raises:
            UnfinishedWork: it cannot be written, as on a full disk; what was there still is.
        """
        if not processes.is_first():
            return
        try:
            with atomic_path(self.path) as temporary:
                # Through a file of Python's: torch's own does not say why it could not write.
                with temporary.open("wb") as file:
                    torch.save(state, file)
                if self._sound:
                    self.path.replace(self.older)
        except (OSError, RuntimeError) as error:
            # torch tells what stopped it, a full disk or Ctrl-C, by a RuntimeError of its own.
            cause = error if isinstance(error, OSError) else error.__context__
            if isinstance(cause, KeyboardInterrupt):
                raise cause from None
            reason = cause.strerror if isinstance(cause, OSError) else reason_of(error)
            kept = (
                "the last one is kept" if self.path.exists() or self.older.exists() else "there is none yet"
            )
            raise UnfinishedWork(
                f"{self.path}: the run's state cannot be written ({reason}); {kept}: make room, and repeat the command"
            ) from error
        self._sound = True

    def load(self) -> dict[str, Any] | None:
        """The newest state that is whole; None where there is none yet.

        Raises:
            RequestError: there are states, and all of them are damaged.
        """
        if processes.is_first():
            # Of writing that was killed.
            for half in self.path.parent.glob(f".{self.path.stem}.*{self.path.suffix}"):
                half.unlink()
        damaged: list[str] = []
        for path in (self.path, self.older):
            if not path.exists():
                continue
            try:
                state = _read(path)
            except _DAMAGE as error:
                damaged.append(f"{path} is damaged ({reason_of(error)})")
                continue
            self._sound = path == self.path
            if damaged and processes.is_first() and not self.quiet:
                print(f"negclip: {damaged[0]}; going on from {path}, the state before it", file=sys.stderr)
            return state
        if damaged:
            raise RequestError(
                f"{', and '.join(damaged)}; delete what is damaged to start anew, or give another --out"
            )
        return None

    @contextmanager
    def put_to_use(self) -> Iterator[None]:
        """Within the block, a state is put into a run. Raises RequestError where it does not fit."""
        try:
            yield
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise RequestError(
                f"{self.path}: is not a state of this run ({reason_of(error)}); {_ANEW}"
            ) from error

    def check(self, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
        """Compare what the state's run is made of with what this one is, by name; what the state does not name is the same.

        Raises:
            RequestError: something differs; the line says what.
        """
        now = json.loads(json.dumps(here))
        for name, value in there.items():
            if now.get(name) != value:
                raise RequestError(
                    f"{self.path}: belongs to a run with other settings ({name}: {value!r:.80} there, {now.get(name)!r:.80} "
                    f"now); {_ANEW}"
                )


def _read(path: Path) -> dict[str, Any]:
    # Each tensor lies in the file with a checksum, which torch writes and does not look at.
    with ZipFile(path) as archive:
        if (wrong := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {wrong} is wrong")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}")
    return state
