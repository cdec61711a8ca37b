"""Fuzz what reads bytes from outside, led by coverage.

    python runs/fuzz_led.py PARSER|all MINUTES [OUT] [SEED]

As `runs/fuzz.py`, but what is spoiled next is, above all, what took a reader where no input had taken it before: atheris watches
the branches of this project's own code. Half of the inputs are spoiled as a target's files are, half as libFuzzer does it. Needs
atheris (`pip install atheris`). What it learned is kept in OUT/PARSER, and the next run begins with it.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import atheris  # type: ignore[import-not-found]

_OURS = ["negclip_core", "integrations", "eval", "pipelines"]
_LONGEST = 1 << 20  # bytes of an input

# Nothing of ours may be imported before, or it is not watched; and much is imported by the function that needs it.
atheris.instrument_imports(include=_OURS).__enter__()
from fuzz import Tries, main  # noqa: E402
from spoiling import spoil_bytes  # noqa: E402


def fuzz(name: str, minutes: float, out: Path, seed: int) -> dict[str, object]:
    """Fuzz one parser; does not return, since libFuzzer does not: it tells the figures and ends the process."""
    learned = out / name
    learned.mkdir(exist_ok=True)
    folder = tempfile.TemporaryDirectory()
    tries = Tries(name, Path(folder.name), out)
    end = time.monotonic() + 60 * minutes
    # An input is the number of a target, and its content.
    for number, target in enumerate(tries.targets):
        (learned / f"good-{number}").write_bytes(bytes([number]) + target.file.read_bytes())

    def take(content: bytes) -> None:
        if time.monotonic() > end:
            print(json.dumps(tries.told(minutes, seed)), flush=True)
            folder.cleanup()
            os._exit(bool(tries.failures))
        if content:
            tries.take(tries.targets[content[0] % len(tries.targets)], content[1:])

    def spoil(content: bytes, longest: int, seed: int) -> bytes:
        random = Random(seed)
        if not content or random.random() < 0.5:
            return bytes(atheris.Mutate(content, longest))
        try:
            changed = tries.targets[content[0] % len(tries.targets)].spoil(content[1:], random)
        except Exception:  # of a document that is none any more
            changed = spoil_bytes(content[1:], random)
        return (content[:1] + changed)[:longest]

    # The limits of time and memory are those of `Tries`.
    limits = ["-rss_limit_mb=0", "-timeout=100000"]
    options = [f"-max_len={_LONGEST}", f"-seed={seed + 1}", f"-artifact_prefix={out}/", "-verbosity=0"]
    atheris.Setup([sys.argv[0], str(learned), *options, *limits], take, custom_mutator=spoil)
    atheris.Fuzz()
    raise AssertionError("libFuzzer came back")


if __name__ == "__main__":
    sys.exit(main(__file__, fuzz, __doc__ or ""))
