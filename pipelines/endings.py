"""How a command may end that nobody asked for: signals, memory that is full, arguments that are no text."""

import asyncio
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from negclip_core.errors import RequestError

__all__ = ["check_arguments", "out_of_memory", "stop_on_signals"]

_SIGNALS = ("SIGTERM", "SIGHUP")
_AT_ONCE = 1.0  # seconds
_NO_MEMORY = (
    "allocate memory",
    "out of memory",
    "failed to map segment",
    "bad_alloc",
    "can't start new thread",
)


@contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """Within the block SIGTERM and SIGHUP end a command as Ctrl-C does, so that it leaves nothing half-written.

    Gives a list to which each that comes adds the exit code that belongs to it, 128 and its number. `timeout` sends one to
    the command and to its group: what comes within a second of another does not interrupt the ending.
    """
    stopped: list[int] = []
    last = -_AT_ONCE

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        stopped.append(128 + number)
        before, last = last, time.monotonic()
        if last - before < _AT_ONCE:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise KeyboardInterrupt from None
        # An exception out of a task would leave the loop waiting for the others, without end.
        for task in asyncio.all_tasks(loop):
            loop.call_soon_threadsafe(task.cancel)

    here = threading.current_thread() is threading.main_thread()
    # Windows has no SIGHUP; what was told to be ignored, as by nohup, stays so.
    known = [getattr(signal, name) for name in _SIGNALS if here and hasattr(signal, name)]
    taken = [number for number in known if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there is not enough memory; torch has no kind of its own for it on a CPU."""
    link: BaseException | None = error
    while link is not None:
        said = str(link).lower()
        if isinstance(link, MemoryError) or any(words in said for words in _NO_MEMORY):
            return True
        link = link.__cause__ or link.__context__
    return False


def check_arguments(arguments: Sequence[str]) -> None:
    """Raise RequestError for an argument that is not UTF-8: it can be neither printed, nor written to a file."""
    for position, argument in enumerate(arguments, 1):
        if not argument.isascii() and argument.encode("utf-8", "replace").decode() != argument:
            raise RequestError(
                f"argument {position}, {argument!r}, is not UTF-8; rename the file, or write the text anew"
            )
