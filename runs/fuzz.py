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
from pathlib import Path
from random import Random
from types import FrameType

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from damage import outcome, spoiled  # noqa: E402
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


def fuzz(name: str, minutes: float, out: Path, seed: int) -> dict[str, object]:
    """Fuzz one parser; returns the figures."""
    counts = {"read": 0, "refused": 0}
    failures: dict[str, int] = {}
    signal.signal(signal.SIGPROF, _too_slow)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        targets = PARSERS[name](folder)
        for target in targets:
            outcome(target, folder, target.file.read_bytes())
        begun = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (begun + _MEMORY, resource.RLIM_INFINITY))
        end, number = time.monotonic() + 60 * minutes, 0
        while time.monotonic() < end:
            random = Random(f"{seed} {name} {number}")
            number += 1
            target = random.choice(targets)
            content = spoiled(target, random)
            running = out / f"{name}-running{target.file.suffix}"
            running.write_bytes(content)  # stays, should it end the process
            signal.setitimer(signal.ITIMER_PROF, _SECONDS)
            try:
                counts[outcome(target, folder, content)] += 1
            except (Exception, TooSlow) as error:
                signal.setitimer(signal.ITIMER_PROF, 0)
                what = _where(error)
                if what not in failures:
                    stem = f"{name}-{len(failures)}-{target.file.stem}"
                    (out / f"{stem}{target.file.suffix}").write_bytes(content)
                    text = "".join(traceback.format_exception(error))
                    (out / f"{stem}.trace").write_text(text, "utf-8", "backslashreplace")
                failures[what] = failures.get(what, 0) + 1
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                running.unlink()
    return {"parser": name, "minutes": minutes, "seed": seed, "tried": number, **counts, "failed": failures}


def main(name: str, minutes: float, out: Path, seed: int) -> int:
    """Fuzz one parser, or each in a process of its own."""
    out.mkdir(parents=True, exist_ok=True)
    if name != "all":
        found = fuzz(name, minutes, out, seed)
        print(json.dumps(found), flush=True)
        return bool(found["failed"])
    worst = 0
    for each in PARSERS:
        words = [sys.executable, __file__, each, str(minutes), str(out), str(seed)]
        code = subprocess.run(words).returncode
        if code < 0:
            print(json.dumps({"parser": each, "failed": f"ended by signal {-code}"}), flush=True)
        worst = worst or code
    return int(worst != 0)


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in (*PARSERS, "all"):
        sys.exit(f"{(__doc__ or '').strip()}\n\nParsers: {', '.join(PARSERS)}")
    place = Path(sys.argv[3]) if len(sys.argv) > 3 else Path("fuzz-failures")
    sys.exit(main(sys.argv[1], float(sys.argv[2]), place, int(sys.argv[4]) if len(sys.argv) > 4 else 0))
