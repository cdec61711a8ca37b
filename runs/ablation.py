"""The paper's ablation on the drawn world: which captions, and which objective, teach a text tower what "no" means?

    python runs/ablation.py OUT [--seeds 0,1,2] [--arms p1,p2] [--threads 1] [--shipped FOLDER,FOLDER,FOLDER]

    vanilla                   the shipped CLIP as it is
    rand-p1, p1, p2, p1+p2    the paper's objective on captions of these pipelines; P1+P2 in the paper's shares
    con-clip                  CoN-CLIP's contrast on the captions of p1+p2
    paper                     the captions of p1+p2 with the paper's own batch size and learning rate
    tokens                    targets for every token, on all captions
    host-ways                 the shipped recipe on all captions, or three towers that are trained already (--shipped)

The contrastive arms take as many captions, steps and samples each. Every tower is trained as `negclip train` does it and asked
what `negclip eval` asks, on the test split. The tables are printed and written to OUT/ablation.md. A run that was stopped
goes on with the same command; the same command given twice at once shares the work.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from scipy import stats

from negclip_core.errors import NegclipError, RequestError
from negclip_core.files import atomic_write_json, atomic_write_text, make_output_folder, read_json
from negclip_core.training.recipe import load_recipe
from pipelines import evaluate, train
from pipelines.console import clean_output
from pipelines.miniature import export
from pipelines.miniature.build import negated_captions

_CLIP, _HOST = "miniature/clip", "miniature"
_SHIPPED = "host-ways"
_QUIET = not sys.stderr.isatty()  # no bars in a log
_BOTH = {"p1": 147 / 229, "p2": 82 / 229}  # the paper's 147K and 82K captions
_TASKS = ("valse-existence", "negrefcocog", "retrieval", "celeba")
_FIGURES = {
    "VALSE-existence form": ("valse-existence", "accuracy"),
    "NegRefCOCOg form": ("negrefcocog", "accuracy"),
    "text to image R@1": ("retrieval", "text-to-image-r@1"),
    "image to text R@1": ("retrieval", "image-to-text-r@1"),
    "CelebA form": ("celeba", "balanced-accuracy"),
}


@dataclass(frozen=True)
class Arm:
    """What a text tower is trained on, and how; the recipe's own settings but for `changes`."""

    recipe: str = ""  # "": not trained
    shares: Mapping[str, float] = field(
        default_factory=dict
    )  # of the pipelines' captions; none: all captions
    published: bool = False  # with the recipe's own batch size and learning rate


ARMS = {
    "vanilla": Arm(),
    "rand-p1": Arm("paper", {"rand-p1": 1.0}),
    "p1": Arm("paper", {"p1": 1.0}),
    "p2": Arm("paper", {"p2": 1.0}),
    "p1+p2": Arm("paper", _BOTH),
    "con-clip": Arm("con-clip", _BOTH),
    "paper": Arm("paper", _BOTH, published=True),
    "tokens": Arm("tokens"),
    _SHIPPED: Arm(_SHIPPED),
}


@dataclass(frozen=True)
class Plan:
    """How much is trained and asked."""

    pictures: int = 16_000  # of the training split, as many as the shipped tower was trained on
    # Four fifths of them are 50.5 batches, so that the validation split, by caption as the paper's, leaves each arm 50 steps
    # an epoch, whatever its file holds beside them.
    captions: int = 16_160
    batch: int = 256
    learning_rate: float = 3e-4
    epochs: int = 15
    tested: int = 2_000  # pictures of the test split, as `negclip eval` draws them
    items: int | None = None  # at most so many a task

    def changes(self, arm: Arm) -> dict[str, Any]:
        """To the settings of an arm's recipe."""
        if not arm.shares:
            return {}
        own = {} if arm.published else {"batch_size": self.batch, "learning_rate": self.learning_rate}
        return {**own, "epochs": self.epochs, "split": "caption"}


@dataclass(frozen=True)
class _Work:
    out: Path
    plan: Plan
    shipped: Mapping[int, Path]  # seed -> a tower that is trained already

    @property
    def world(self) -> Path:
        return self.out / "captioned"

    @property
    def test(self) -> Path:
        return self.out / "test"

    def folder(self, name: str, seed: int) -> Path:
        return self.out / name / f"seed{seed}"

    def record(self, name: str, seed: int) -> Path:
        return self.folder(name, seed) / "figures.json"

    def captions(self, name: str) -> Path:
        chosen = self.out / "captions" / f"{name}.json"
        return chosen if ARMS[name].shares else self.world / "negated_captions.json"


def _prepare(work: _Work, names: list[str]) -> None:
    """Draw the training and test pictures, and choose each arm's captions; once, whichever process comes first."""
    make_output_folder(work.out)
    with FileLock(work.out / "prepare.lock"):
        record = work.out / "plan.json"
        if record.exists() and read_json(record) != asdict(work.plan):
            raise RequestError(f"{work.out}: holds an ablation with another plan; give another folder")
        atomic_write_json(record, asdict(work.plan))
        everything = negated_captions(work.world, work.plan.pictures, _QUIET)
        if not (work.test / export.LAST).exists():
            export.run(work.test, work.plan.tested, 0, "test", _QUIET)
        for name in names:
            if ARMS[name].shares and not work.captions(name).exists():
                _choose(read_json(everything), ARMS[name].shares, work.plan.captions, work.captions(name))


def _choose(document: dict[str, Any], shares: Mapping[str, float], count: int, out: Path) -> None:
    """Write `count` captions at random, in `shares` of the pipelines, and all that these pipelines wrongly say.

    Raises:
        RequestError: a pipeline has written too few.
    """
    rng = np.random.default_rng(0)
    chosen: list[dict[str, Any]] = []
    for pipeline, part in shares.items():
        written = [entry for entry in document["annotations"] if entry["pipeline"] == pipeline]
        wanted = round(part * count)
        if len(written) < wanted:
            raise RequestError(f"{pipeline}: {len(written)} captions for {wanted}; draw more pictures")
        chosen += [written[row] for row in sorted(rng.choice(len(written), wanted, replace=False))]
    # What is wrongly said is no caption of a contrastive arm; con-clip finds its distractors by it.
    wrong = [entry for entry in document["present"] if entry["pipeline"] in shares]
    atomic_write_text(out, json.dumps({**document, "annotations": chosen, "present": wrong}))


def _trained(work: _Work, name: str, seed: int) -> tuple[str, dict[str, Any]]:
    """Where an arm's CLIP lies, trained first if it is not, and what is to be told of its training."""
    if not ARMS[name].recipe:
        return _CLIP, {}
    if name == _SHIPPED and work.shipped:
        return str(work.shipped[seed]), {}
    arm, folder = ARMS[name], work.folder(name, seed) / "clip"
    changes = work.plan.changes(arm)
    told = train.run(work.captions(name), work.world / "images", _CLIP, folder, arm.recipe, _HOST, seed=seed, quiet=_QUIET,
                     **changes)  # fmt: skip
    batch = load_recipe(arm.recipe, **changes).batch_size
    steps = round(told["samples_per_second"] * told["seconds"] / batch)
    return str(folder), {"steps": steps, "batch": batch, "best_epoch": told["best_epoch"], "seconds": told["seconds"]}  # fmt: skip


def _asked(work: _Work, name: str, seed: int, clip: str) -> dict[str, Any]:
    """The figures of a CLIP on the test split: heading -> {"value", "low", "high", "n"}."""
    arm = name if clip == _CLIP else f"{name}-seed{seed}={clip}"
    options = {
        "seed": 0, "limit": work.plan.items, "split": "test", "pictures": 1, "steps": None, "guidance_scale": None,
        "batch": 64, "judge": "miniature/judge",
    }  # fmt: skip
    with clean_output():
        document, _ = evaluate.run(list(_TASKS), arm, "miniature", "miniature", None, work.test,
                                   work.folder(name, seed) / "eval", options, "cpu", _QUIET)  # fmt: skip
    found = {task: next(iter(result["arms"].values())) for task, result in document["tasks"].items()}
    return {heading: found[task][metric] for heading, (task, metric) in _FIGURES.items()}


def _do(work: _Work, name: str, seed: int) -> str:
    """Train and ask one tower, unless that is done or another process is at it; returns what is to be said of it."""
    record = work.record(name, seed)
    record.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(record.with_name("lock")).acquire(blocking=False):
            if not record.exists():
                clip, training = _trained(work, name, seed)
                atomic_write_json(record, {"training": training, "figures": _asked(work, name, seed, clip)})
    except Timeout:
        return "another process is at it"
    done = read_json(record)
    figures = ", ".join(f"{heading} {_short(row['value'])}" for heading, row in done["figures"].items())
    steps, seconds = (done["training"].get(key, 0) for key in ("steps", "seconds"))
    return f"{steps} steps in {seconds:.0f} s; {figures}"


def _short(value: float) -> str:
    """Three digits without the leading zero, as the tables of docs/results have them."""
    return f"{value:.3f}".replace("0.", ".", 1)


def _with(value: float, low: float, high: float) -> str:
    return f"{_short(value)} [{_short(low)}, {_short(high)}]"


def _over_seeds(values: list[float]) -> str:
    """The mean and, from two seeds on, Student's 95 % interval of the mean over seeds, within what a share can be."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return _short(mean)
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return _with(mean, max(0.0, mean - half), min(1.0, mean + half))


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _tables(work: _Work, names: list[str], seeds: list[int]) -> str:
    """Two tables in Markdown, of what is done: each arm's mean over seeds, and each seed's own figures."""
    means, each = [], []
    for name in names:
        done = [(seed, read_json(work.record(name, seed))) for seed in _seeds(name, seeds) if work.record(name, seed).exists()]  # fmt: skip
        for seed, found in done:
            training = [str(found["training"].get(key, "-")) for key in ("steps", "batch", "best_epoch")]
            figures = [_with(row["value"], row["low"], row["high"]) for row in found["figures"].values()]
            each.append([name, str(seed) if ARMS[name].recipe else "-", *training, *figures])
            heads = [f"{heading}, n = {row['n']:,}" for heading, row in found["figures"].items()]
        if done:
            values = [[found["figures"][heading]["value"] for _, found in done] for heading in _FIGURES]
            means.append([name, str(len(done)) if ARMS[name].recipe else "-", *map(_over_seeds, values)])
    if not each:
        return "Nothing is done yet.\n"
    return (
        f"Mean over seeds, with Student's 95 % interval over seeds:\n\n{_table(['arm', 'seeds', *_FIGURES], means)}\n\n"
        "Each seed, with 95 % intervals over items:\n\n"
        f"{_table(['arm', 'seed', 'steps', 'batch', 'best epoch', *heads], each)}\n"
    )


def _seeds(name: str, seeds: list[int]) -> list[int]:
    """The seeds of an arm: what is not trained has but one."""
    return seeds if ARMS[name].recipe else seeds[:1]


def main(
    out: Path, names: list[str], seeds: list[int], shipped: list[Path] | None = None, plan: Plan | None = None
) -> str:
    """Train and ask what is not done yet, a line each, and return the tables, which OUT/ablation.md holds as well.

    Args:
        shipped: a folder for each seed, with the towers of the shipped recipe.

    Raises:
        RequestError: an arm is not known, `shipped` are not as many folders as seeds, or `out` holds another ablation.
    """
    if unknown := [name for name in names if name not in ARMS]:
        raise RequestError(f"--arms: {unknown[0]!r} is not known; there are: {', '.join(ARMS)}")
    if shipped and len(shipped) != len(seeds):
        raise RequestError(f"--shipped: {len(shipped)} folders for {len(seeds)} seeds; give one for each")
    if missing := [folder for folder in shipped or [] if not folder.is_dir()]:
        raise RequestError(f"--shipped: {missing[0]} is no folder of a trained tower")
    work = _Work(out, plan or Plan(), dict(zip(seeds, shipped or [], strict=False)))
    _prepare(work, names)
    # A seed after the other, so that all arms can be compared as early as may be.
    for seed in seeds:
        for name in names:
            if seed in _seeds(name, seeds):
                print(f"{name}, seed {seed}: {_do(work, name, seed)}", flush=True)
    tables = _tables(work, names, seeds)
    atomic_write_text(out / "ablation.md", tables)
    return tables


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shipped", default="", metavar="FOLDER,FOLDER,...")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    torch.set_num_threads(given.threads)
    try:
        seeds = [int(seed) for seed in given.seeds.split(",")]
        folders = [Path(folder) for folder in given.shipped.split(",") if folder]
        print(main(given.out, given.arms.split(","), seeds, folders))
    except NegclipError as error:
        print(f"ablation: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
