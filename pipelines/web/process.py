"""A page in a process of its own, for whoever wants to look at one from outside."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Running", "running"]

_READY = "the page is at "


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
    command = [
        sys.executable,
        "-c",
        "from pipelines.cli import main; main()",
        "web",
        "--port",
        str(port),
        *options,
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert process.stderr is not None
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if _READY in line:
                break
        else:
            raise RuntimeError("".join(said))
        yield Running(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.terminate()
        process.communicate(timeout=60)
