"""A training run killed at random instants and resumed, against one that was left alone: are the weights the same?

    python bench/kills.py [KILLS] [IMAGES] [EPOCHS]

The shipped miniature CLIP is trained on captions of the drawn world by `negclip train`, in processes of its own, which
save their state every half second so that little is done twice. Prints each instant, what had been saved by then, and
the SHA-256 of both runs' weights; exits with 1 where they differ.
"""

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from pipelines import synthesize
from pipelines.miniature import export

# The command line as it is, but for the time between two states.
_NEGCLIP = "import sys, negclip_core.training.loop as loop; loop._CHECKPOINT_SECONDS = 0.5; import pipelines.cli as c; c.main()"
_WEIGHTS = "open_clip_model.safetensors"


def _negclip(*arguments: object) -> list[str]:
    return [sys.executable, "-c", _NEGCLIP, *map(str, arguments)]


def _captions(folder: Path, images: int) -> Path:
    """Negated captions of the drawn world's training split, beside its images."""
    files = {name: Path(path) for name, path in export.run(folder, images, 0, "train")["files"].items()}
    out = folder / "negated.json"
    synthesize.run(files["captions"], files["instances"], [], "p1", out, seed=0)
    return out


class _Run:
    """One folder's run, with a cache of image features of its own."""

    def __init__(self, train: list[object], out: Path) -> None:
        self.out, self.command = out, _negclip(*train, "--out", out)
        self.environment = {**os.environ, "HF_ASSETS_CACHE": str(out.with_suffix(".cache"))}

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command, stdout=subprocess.PIPE, env=self.environment)

    def finish(self) -> dict[str, float]:
        process = self.start()
        out, _ = process.communicate()
        if process.returncode:
            sys.exit(f"negclip train ended with {process.returncode}")
        return dict(json.loads(out))

    def touched(self) -> int:
        """Changes when training begins or goes on, and with each line of its log."""
        log = self.out / "log.jsonl"
        return log.stat().st_mtime_ns if log.exists() else 0

    def until_it_trains(self, process: subprocess.Popen[bytes], before: int) -> None:
        while self.touched() == before and process.poll() is None:
            time.sleep(0.02)

    def saved(self) -> int:
        """The step of the last state, 0 where there is none."""
        states = [path for path in (self.out / "run.ckpt", self.out / "run.older.ckpt") if path.exists()]
        return int(torch.load(states[0], weights_only=True)["step"]) if states else 0

    def sha256(self) -> str:
        return hashlib.sha256((self.out / _WEIGHTS).read_bytes()).hexdigest()


def _kill(run: _Run, number: int, starting: float, training: float, instants: random.Random) -> bool:
    """Kill a run: every third time as it starts, else as it trains. False if it had ended by then."""
    before, process = run.touched(), run.start()
    if number % 3:
        run.until_it_trains(process, before)
    wait = instants.uniform(0, training if number % 3 else starting)
    time.sleep(wait)
    if process.poll() is not None:
        return False
    process.kill()
    process.wait()
    print(
        f"killed {wait:.2f} s after it began {'to train' if number % 3 else 'to start'}; saved: step {run.saved()}",
        flush=True,
    )
    return True


def main(kills: int, images: int, epochs: int) -> bool:
    """Whether both runs end with the same weights."""
    instants = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        captions = _captions(work / "world", images)
        train = ["train", "--captions", captions, "--images", captions.parent / "images", "--clip", "miniature/clip",
                 "--batch-size", 16, "--epochs", epochs, "--learning-rate", 1e-4, "--quiet", "--json"]  # fmt: skip
        alone, killed = (_Run(train, work / which) for which in ("alone", "killed"))
        begun = time.monotonic()
        done = alone.finish()
        starting = time.monotonic() - begun - done["seconds"]
        print(
            f"left alone: {done['pairs']} captions, {alone.saved()} steps in {done['seconds']:.1f} s",
            flush=True,
        )
        # So that the killed run is not over before the last kill, even where it finds the machine less busy.
        each = 0.6 * done["seconds"] / kills
        if not all(_kill(killed, number, starting, each, instants) for number in range(1, kills + 1)):
            print("the run had ended before it could be killed; take more images or epochs")
            return False
        killed.finish()
        sums = {run.out.name: run.sha256() for run in (alone, killed)}
        for which, digest in sums.items():
            print(f"{which}: {digest}")
    return sums["alone"] == sums["killed"]


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    sys.exit(0 if main(*(given + [10, 240, 30][len(given) :])) else 1)
