"""What a verb says besides its result: messages and progress, on standard error, or nowhere with `--quiet`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any

from negclip_core.errors import RequestError

__all__ = ["clean_output", "overheard", "pick_device", "progress", "read_lines", "warn"]

_HEARD: ContextVar[list[str] | None] = ContextVar("heard", default=None)


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Within the block, in this thread, the lines of `warn` are put into the list, whether they are said or not."""
    lines: list[str] = []
    token = _HEARD.set(lines)
    try:
        yield lines
    finally:
        _HEARD.reset(token)


def warn(message: str, quiet: bool) -> None:
    """Say one line on standard error."""
    if (heard := _HEARD.get()) is not None:
        heard.append(message)
    if not quiet:
        print(f"negclip: {message}", file=sys.stderr, flush=True)


def progress(total: int | None, what: str, quiet: bool) -> Any:
    """A progress bar of `total` steps (None: a count and its rate) on standard error: `update(n)`, and `close()` or a `with` block."""
    from tqdm import tqdm

    return tqdm(total=total, desc=what, disable=quiet, file=sys.stderr, leave=False, dynamic_ncols=True)


@contextmanager
def clean_output() -> Iterator[None]:
    """Within the block, what libraries print goes to standard error: standard output is for the result."""
    with redirect_stdout(sys.stderr):
        yield


def read_lines() -> list[str]:
    """The lines of standard input; bytes that are not UTF-8 become U+FFFD. None where it is closed."""
    if sys.stdin is None:
        return []
    raw = getattr(sys.stdin, "buffer", None)
    text = sys.stdin.read() if raw is None else raw.read().decode("utf-8", "replace")
    return text.splitlines()


def pick_device(name: str) -> str:
    """The torch device for `--device auto|cpu|cuda[:n]`. Raises RequestError for another name or a missing device."""
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and (kind != "cuda" or not index.isdecimal())):
        raise RequestError(f"--device {name}: expected auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return name
    import torch

    count = torch.cuda.device_count()
    if kind == "auto":
        return "cuda" if count else "cpu"
    if int(index or 0) >= count:
        raise RequestError(
            f"--device {name}: this machine has {count} CUDA devices that torch can use; try --device cpu"
        )
    return name
