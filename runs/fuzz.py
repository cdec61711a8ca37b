"""Fuzz what reads bytes from outside, for as long as is asked.

    python runs/fuzz.py PARSER|all MINUTES [OUT] [SEED]

Spoils good files at random (tests/spoiling.py) and reads them (tests/parsers.py). A reader must come to a right result or refuse
the file in one clear line (tests/damage.py), in at most 20 seconds of the processor and 4 GiB more memory than it began with. Says how many
examples were tried, read and refused, and keeps one input of each failure in OUT (fuzz-failures). The same seed tries the same.
"""

import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import FrameType

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from damage import Target, outcome, spoiled  # noqa: E402
from parsers import PARSERS  # noqa: E402

_SECONDS = 20
_MEMORY = 4 * 2**30  # bytes of address space above what the good files took


class TooSlow(BaseException):
    """Reading took longer than it may; no `except Exception` on the way catches it."""


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlow(f"more than {_SECONDS} s")


def _where(error: BaseException) -> str:
    """What tells one failure from another: its kind, and the last line of ours that it came through."""
    ours = [f for f in traceback.extract_tb(error.__traceback__) if str(ROOT) in f.filename]
    last = next(
        (f for f in reversed(ours) if "/tests/" not in f.filename and "/runs/" not in f.filename), ours[-1]
    )
    kept = str(error)[:12] if type(error).__name__ == "Damage" else ""
    return f"{type(error).__name__} {Path(last.filename).name}:{last.lineno} {kept}".strip()


class Tries:
    """One parser, in a folder of its own: what was tried and what came of it."""

    def __init__(self, name: str, folder: Path, out: Path) -> None:
        self.name, self.folder, self.out = name, folder, out
        self.counts = {"read": 0, "refused": 0}
        self.failures: dict[str, int] = {}
        signal.signal(signal.SIGPROF, _too_slow)
        self.targets: list[Target] = PARSERS[name](folder)
        for target in self.targets:
            outcome(target, folder, target.file.read_bytes())
        begun = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (begun + _MEMORY, resource.RLIM_INFINITY))

    def take(self, target: Target, content: bytes) -> None:
        """Read a target with this content."""
        running = self.out / f"{self.name}-running{target.file.suffix}"
        running.write_bytes(content)  # stays, should it end the process
        signal.setitimer(signal.ITIMER_PROF, _SECONDS)
        try:
            self.counts[outcome(target, self.folder, content)] += 1
        except (Exception, TooSlow) as error:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self._keep(target, content, error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            running.unlink()

    def _keep(self, target: Target, content: bytes, error: BaseException) -> None:
        what = _where(error)
        if what not in self.failures:
            stem = f"{self.name}-{len(self.failures)}-{target.file.stem}"
            (self.out / f"{stem}{target.file.suffix}").write_bytes(content)
            text = "".join(traceback.format_exception(error))
            (self.out / f"{stem}.trace").write_text(text, "utf-8", "backslashreplace")
        self.failures[what] = self.failures.get(what, 0) + 1

    def told(self, minutes: float, seed: int) -> dict[str, object]:
        """The figures."""
        tried = sum(self.counts.values()) + sum(self.failures.values())
        return {
            "parser": self.name,
            "minutes": minutes,
            "seed": seed,
            "tried": tried,
            **self.counts,
            "failed": self.failures,
        }


def fuzz(name: str, minutes: float, out: Path, seed: int) -> dict[str, object]:
    """Fuzz one parser; returns the figures."""
    with tempfile.TemporaryDirectory() as temporary:
        tries = Tries(name, Path(temporary), out)
        end, number = time.monotonic() + 60 * minutes, 0
        while time.monotonic() < end:
            random = Random(f"{seed} {name} {number}")
            number += 1
            target = random.choice(tries.targets)
            tries.take(target, spoiled(target, random))
    return tries.told(minutes, seed)


def main(script: str, fuzz: Callable[[str, float, Path, int], dict[str, object]], usage: str) -> int:
    """Fuzz the parser that the command line names, or each in a process of its own."""
    words = sys.argv[1:]
    if len(words) < 2 or words[0] not in (*PARSERS, "all"):
        sys.exit(f"{usage.strip()}\n\nParsers: {', '.join(PARSERS)}")
    name, minutes, out, seed = (*words, *["fuzz-failures", "0"][len(words) - 2 :])[:4]
    Path(out).mkdir(parents=True, exist_ok=True)
    if name != "all":
        found = fuzz(name, float(minutes), Path(out), int(seed))
        print(json.dumps(found), flush=True)
        return bool(found["failed"])
    worst = 0
    for each in PARSERS:
        code = subprocess.run([sys.executable, script, each, minutes, out, seed]).returncode
        if code < 0:
            print(json.dumps({"parser": each, "failed": f"ended by signal {-code}"}), flush=True)
        worst = worst or code
    return int(worst != 0)


if __name__ == "__main__":
    sys.exit(main(__file__, fuzz, __doc__ or ""))
