"""Run tasks under arms, keep a record of every item, and say what the records show."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from eval.agreement import judged
from eval.arms import BLIND
from eval.blind import wins
from eval.options import Options
from eval.records import Journal
from eval.registry import Record, Task, TaskInfo, Values, load
from eval.statistics import are_outcomes, detectable, holm, mcnemar, paired_difference, sign_flips, summarise
from eval.units import groups_of
from negclip_core.errors import RequestError

__all__ = ["Subject", "TaskResult", "check_ids", "correct", "run_task"]

# What shapes no score of a picture that is there already; which items there are, their ids and marks say.
_ONLY_GENERATION = ("limit", "batch", "pictures", "steps", "guidance_scale", "judge", "split")
# How far pictures are from the first arm's: in its own pairs nothing to test.
_FROM_FIRST = ("identical", "drift")


@dataclass(frozen=True)
class Subject:
    """One arm on one kind of task; `settings` are all that shapes its scores.

    `make` builds it when it is first needed, and is given a name that no other settings share, for its files.
    """

    name: str
    settings: dict[str, Any]
    make: Callable[[str], Any]


@dataclass
class TaskResult:
    """What a task showed."""

    task: TaskInfo
    n: int
    arms: dict[str, dict[str, dict[str, float]]]
    paired: dict[str, dict[str, dict[str, float]]]
    records: dict[str, dict[str, Record]] = field(repr=False)  # arm -> item -> record
    files: dict[str, Path] = field(repr=False)  # arm -> records on disk
    chance: dict[str, float] = field(
        default_factory=dict
    )  # metric -> what guessing gets, where the task says
    judges: dict[str, Any] = field(default_factory=dict)  # what `eval.agreement.judged` found
    values: dict[str, Values] = field(default_factory=dict, repr=False)  # arm -> metric -> unit -> value
    items: dict[str, Any] = field(default_factory=dict, repr=False)  # item -> what the task made of its file
    left_out: dict[str, int] = field(default_factory=dict)  # what the task says that it has no way to judge
    command: str = ""  # which prints these figures

    @property
    def main(self) -> str:
        """The metric that the task is judged by, of which more is better."""
        return self.task.main or self.metrics[0]

    @property
    def metrics(self) -> list[str]:
        """What was measured under any arm, in the order of the task."""
        return list(dict.fromkeys(metric for metrics in self.arms.values() for metric in metrics))

    @property
    def blind_wins(self) -> list[dict[str, str]]:
        """Blind arms that do better than chance, with the metric."""
        return wins(self.arms, self.chance)

    def as_json(self) -> dict[str, Any]:
        """The command line's form; `paired` has "FIRST -> SECOND": metric: difference of second minus first.

        "n" units are of so many "groups": photographs, or items that have none. "p" is McNemar's where the units are right or
        wrong, else of a permutation test; "p_holm" is corrected as in `correct`; "main" is the metric that the task is judged
        by; "detectable" is the difference that so many pairs would show four times in five. Blind arms are compared with
        "chance" and paired with none.
        "judges", for tasks of generation: questions, how many got neither yes nor no, and how far two judges agree.
        "left_out", where a task has no way to judge some of its file's items: how many, by their kind.
        """
        judges = {"judges": self.judges} if self.judges else {}
        left_out = {"left_out": self.left_out} if self.left_out else {}
        return {
            "n": self.n,
            "main": self.main,
            "arms": self.arms,
            "paired": self.paired,
            "chance": self.chance,
            "blind_wins": self.blind_wins,
            "records": {k: str(v) for k, v in self.files.items()},
            "command": self.command,
            **judges,
            **left_out,
        }


def run_task(
    info: TaskInfo, subjects: list[Subject], data: Path, out: Path, options: Options, quiet: bool = False
) -> TaskResult:
    """Score every item under every arm, going on where an earlier run with the same settings stopped.

    Records go to `out`/records/TASK/. The first arm is the reference for measures of drift.

    Raises:
        RequestError: the data are missing or malformed, an arm gives scores that are not numbers, or a judge no answers.
    """
    task = load(info)
    items = task.items(data, options)
    if not items:
        raise RequestError(f"{data}: no items for the task {info.name}")
    check_ids(items, data, info.name)
    records, files = {}, {}
    for subject in subjects:
        journal = Journal(out / "records" / info.name, subject.name, _settings(info, subject, options))
        _score(task, items, journal, subject, options, quiet)
        records[subject.name] = {item.id: journal.records[item.id] for item in items}
        files[subject.name] = journal.path
    reference = list(records[subjects[0].name].values())
    values = {name: task.measure(list(own.values()), reference, out) for name, own in records.items()}
    seeing = {name: own for name, own in values.items() if name not in BLIND}
    guessed = task.chance(reference) if info.kind == "understanding" else {}
    judges = judged(records, out) if info.kind == "generation" else {}
    by_id = {item.id: item for item in items}
    return TaskResult(
        info, len(items), _estimates(values, by_id), _pairs(seeing, by_id), records, files, guessed, judges, values,
        by_id, task.left_out(data) if hasattr(task, "left_out") else {},
    )  # fmt: skip


def check_ids(items: list[Any], data: Path, name: str) -> None:
    """Raise RequestError where two items have one id: they would share a record."""
    counts = Counter(item.id for item in items)
    twice = next((key for key, count in counts.items() if count > 1), None)
    if twice is not None:
        raise RequestError(
            f"{data}: {name} has {counts[twice]} items with the id {twice!r}; give each its own"
        )


def correct(results: list[TaskResult]) -> None:
    """Add "p_holm" to every paired difference: p corrected for the number of tests of its family.

    The tasks' main metrics are one family, over all tasks and pairs of arms; all other metrics are a second one, so that
    a task that measures forty things takes nothing from what another one shows.
    """
    families: tuple[list[dict[str, float]], ...] = ([], [])
    for result in results:
        for metrics in result.paired.values():
            for metric, row in metrics.items():
                families[metric != result.main].append(row)
    for rows in families:
        for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
            row["p_holm"] = round(p, 9)


def _score(
    task: Task, items: list[Any], journal: Journal, subject: Subject, options: Options, quiet: bool
) -> None:
    """Add the records that are missing, or that were made of an item that has changed since."""
    marks = {item.id: _mark(item) for item in items}
    done = {key for key, mark in marks.items() if journal.records.get(key, {}).get("item") == mark}
    if len(done) == len(items):
        return
    name = f"{journal.path.parent.name} {subject.name}"
    with tqdm(total=len(items), initial=len(done), desc=name, disable=quiet) as bar:
        for chunk in task.run(items, done, subject.make(journal.path.stem), options):
            new = [record for record in chunk if record["id"] not in done]
            journal.append([{**record, "item": marks[record["id"]]} for record in new])
            bar.update(len(new))


def _mark(item: Any) -> str:
    """What tells an item from one that has changed: all that it says, and the state of its picture's file."""
    said, path = repr(item), getattr(item, "image", None)
    if isinstance(path, Path):
        found = path.stat()
        said += f" {found.st_size} {found.st_mtime_ns}"
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def _settings(info: TaskInfo, subject: Subject, options: Options) -> dict[str, Any]:
    """All that shapes a record besides its item."""
    chosen = asdict(options)
    for free in ("limit",) if info.kind == "generation" else _ONLY_GENERATION:
        chosen.pop(free)
    return {"task": info.name, "options": chosen, **subject.settings}


def _estimates(values: dict[str, Values], items: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    # What a blind arm says of two texts of one photograph does not hang together: it does not see it.
    alone = dict.fromkeys(items)
    return {
        arm: {
            metric: _estimate(units, alone if arm in BLIND else items)
            for metric, units in metrics.items()
            if units
        }
        for arm, metrics in values.items()
    }


def _estimate(units: dict[str, float], items: dict[str, Any]) -> dict[str, float]:
    groups = groups_of(units, items)
    return {**summarise(list(units.values()), groups).as_json(), "n": len(units), "groups": max(groups) + 1}


def _pairs(values: dict[str, Values], items: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Each arm against each later one, unit by unit."""
    paired: dict[str, dict[str, dict[str, float]]] = {}
    reference = next(iter(values), "")
    for first, second in combinations(values, 2):
        shared = {
            metric: [unit for unit in values[first][metric] if unit in values[second].get(metric, {})]
            for metric in values[first]
            if first != reference or metric not in _FROM_FIRST
        }
        paired[f"{first} -> {second}"] = {
            metric: _pair(values[first][metric], values[second][metric], units, items)
            for metric, units in shared.items()
            if units
        }
    return paired


def _pair(
    first: dict[str, float], second: dict[str, float], units: list[str], items: dict[str, Any]
) -> dict[str, float]:
    a, b = (np.array([values[unit] for unit in units]) for values in (first, second))
    groups = groups_of(units, items)
    difference = paired_difference(a, b, groups)
    row = {"difference": difference.value, "low": difference.low, "high": difference.high,
           "n": len(units), "groups": max(groups) + 1}  # fmt: skip
    if len(units) > 1:
        row["detectable"] = detectable(a, b, groups)
    if are_outcomes(a, b):
        test = mcnemar(a, b, groups)
        row |= {"only_first": test.only_first, "only_second": test.only_second, "p": test.p}
    else:
        row["p"] = sign_flips(a, b, groups)
    return {name: round(value, 9) for name, value in row.items()}
