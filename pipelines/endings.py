"""How a command may end that nobody asked for: signals, memory that is full, arguments that are no text."""

import asyncio
import signal
import threading
from collections.abc import Sequence
from types import FrameType

from negclip_core.errors import RequestError

__all__ = ["check_arguments", "out_of_memory", "stop_on_signals"]

_SIGNALS = ("SIGTERM", "SIGHUP")
_NO_MEMORY = (
    "allocate memory",
    "out of memory",
    "failed to map segment",
    "bad_alloc",
    "can't start new thread",
)


def stop_on_signals() -> list[int]:
    """From now on SIGTERM and SIGHUP end a command as Ctrl-C does, so that it leaves nothing half-written.

    Returns a list to which each that comes adds the exit code that belongs to it, 128 and its number.
    """
    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(128 + number)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise KeyboardInterrupt from None
        # An exception out of a task would leave the loop waiting for the others, without end.
        for task in asyncio.all_tasks(loop):
            loop.call_soon_threadsafe(task.cancel)

    if threading.current_thread() is threading.main_thread():
        for name in _SIGNALS:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            # What was told to be ignored, as by nohup, stays so.
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, stop)
    return stopped


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
