"""A page in a process of its own, for whoever wants to look at one from outside."""

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Running", "running"]

_NEGCLIP = "from pipelines.cli import main; main()"


@dataclass(frozen=True)
class Running:
    """A page that answers at `url`, and its process's id."""

    url: str
    pid: int


@contextmanager
def running(options: Sequence[str] = ()) -> Iterator[Running]:
    """`negclip web` with these options at a free port, until the end of the block.

    Raises RuntimeError with what it said where it does not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", _NEGCLIP, "web", "--port", str(port), *options]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)
        assert process.stdout is not None
        try:
            if not (url := process.stdout.readline().strip()):
                said.seek(0)
                raise RuntimeError(said.read())
            yield Running(url, process.pid)
        finally:
            process.terminate()
            process.communicate(timeout=60)
