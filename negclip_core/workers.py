"""Processes that share a command's work, and end when it does."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

__all__ = ["workers"]


@contextmanager
def workers(count: int | None = None) -> Iterator[ProcessPoolExecutor]:
    """A pool of `count` processes, by default one a core.

    Where the block is left by an exception, an interrupt's for one, they finish what they have begun and no more.
    """
    with ProcessPoolExecutor(count, initializer=_belong) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _belong() -> None:
    """In a worker: signals are the command's affair, and without the command there is nothing to do."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
