"""A suite: tasks with their limits, and what a source says of the arms on them, to be held against what is found here.

Every file in eval/suites/ is one, a JSON object:

    {"title", "source", "note", "arms": "vanilla,negationclip", "options": {task: {option: value}},
     "tables": [{"title", "source", "rows": [{"task", "metric", "says", "first", "second", "expect", "margin"}]}]}

"options" names the tasks in their order, each with its limit, steps and guidance_scale, or some of them. A row says of one metric that under
the arm `second` it is "higher" or "lower" than under `first`, or "kept": not lower by `margin` or more. "says" gives the
source's own figures.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.arms import parse_arms, suits
from eval.options import refuse
from eval.registry import task
from eval.runner import TaskResult
from negclip_core.errors import RequestError
from negclip_core.files import read_json

__all__ = ["Claim", "Suite", "Table", "held_against", "load_suite", "suites", "verdict"]

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"
_FOLDER = Path(__file__).parent / "suites"
_OPTIONS = {"limit", "steps", "guidance_scale"}
_EXPECTED = ("higher", "lower", "kept")


@dataclass(frozen=True)
class Claim:
    """What a source says of a metric under two arms; `margin` belongs to "kept", in the metric's own unit."""

    task: str
    metric: str
    says: str
    first: str
    second: str
    expect: str
    margin: float = 0.0


@dataclass(frozen=True)
class Table:
    """A table of the source: its claims."""

    title: str
    source: str
    rows: tuple[Claim, ...]


@dataclass(frozen=True)
class Suite:
    """See the head of this file."""

    title: str
    source: str
    note: str
    arms: str
    options: dict[str, dict[str, Any]]
    tables: tuple[Table, ...]

    def refuse_missing_arms(self, arms: set[str]) -> None:
        """Raise RequestError if an arm that the suite compares is not among these."""
        needed = {arm for table in self.tables for row in table.rows for arm in (row.first, row.second)}
        if missing := sorted(needed - arms):
            raise RequestError(f"--arms: the suite compares {', '.join(missing)} as well; add it")


def suites() -> dict[str, Path]:
    """The shipped suites by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.json"))}


def load_suite(name: str) -> Suite:
    """A shipped suite by its name, or one from a file.

    Raises:
        RequestError: there is none, or it is of another form; one of its tasks, arms or options does not exist.
    """
    path = suites().get(name, Path(name))
    if not path.is_file():
        raise RequestError(f"--suite {name}: no such suite; there are {', '.join(suites())}, or a JSON file")
    document = read_json(path)
    try:
        tables = tuple(
            Table(t["title"], t["source"], tuple(Claim(**row) for row in t["rows"]))
            for t in document["tables"]
        )
        suite = Suite(**{**document, "tables": tables})
        _check(suite)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RequestError(
            f"{path}: not a suite, an object of title, source, note, arms, options and tables ({error!r})"
        ) from error
    return suite


def _check(suite: Suite) -> None:
    compared = [arm for arm in parse_arms(suite.arms) if not arm.blind]  # a blind one is paired with none
    suited = {name: {arm.name for arm in compared if suits(arm, task(name).kind)} for name in suite.options}
    for name, chosen in suite.options.items():
        if unknown := chosen.keys() - _OPTIONS:
            raise ValueError(f"{name}: {min(unknown)} is none of {', '.join(sorted(_OPTIONS))}")
        for option, value in chosen.items():
            try:
                refuse(option, value)
            except ValueError as error:
                raise ValueError(f"{name}: {option} {value!r}: {error}") from error
    for claim in (row for table in suite.tables for row in table.rows):
        if claim.expect not in _EXPECTED:
            raise ValueError(f"{claim.metric}: expected one of {', '.join(_EXPECTED)}, got {claim.expect!r}")
        if not isinstance(claim.margin, int | float) or not claim.margin >= 0:
            raise ValueError(f"{claim.metric}: margin {claim.margin!r}: expected a number, 0 or more")
        if len({claim.first, claim.second} & suited.get(claim.task, set())) < 2:
            raise ValueError(f"{claim.metric}: its task or arms are not the suite's")


def verdict(claim: Claim, row: dict[str, float]) -> str:
    """Whether a claim holds, from the paired difference of `second` minus `first` and its 95 % interval.

    It holds, or does not, where the whole interval lies on one side of 0 (of the margin below 0 for "kept").
    """
    low, high = (-row["high"], -row["low"]) if claim.expect == "lower" else (row["low"], row["high"])
    line = -claim.margin if claim.expect == "kept" else 0.0
    return HOLDS if low > line else FAILS if high < line else OPEN


def held_against(suite: Suite, results: list[TaskResult]) -> dict[str, Any]:
    """The suite's tables with what was found, as JSON.

    {"title", "source", "note", "tables": [{"title", "source", "verdict", "rows"}]}; a row is its claim, "values" of both
    arms and the "paired" difference, with a "verdict" that is "holds", "does not hold" or "cannot be told". A table does
    not hold if one of its rows does not, and holds if all do.
    """
    by_name = {result.task.name: result for result in results}
    tables = []
    for table in suite.tables:
        rows = [_found(claim, by_name[claim.task]) for claim in table.rows]
        said = {row["verdict"] for row in rows}
        whole = FAILS if FAILS in said else OPEN if OPEN in said else HOLDS
        tables.append({"title": table.title, "source": table.source, "verdict": whole, "rows": rows})
    return {"title": suite.title, "source": suite.source, "note": suite.note, "tables": tables}


def _found(claim: Claim, result: TaskResult) -> dict[str, Any]:
    """Raises RequestError where the task measures no such metric."""
    row = _paired(claim, result)
    if row is None:
        raise RequestError(
            f"the suite asks for {claim.metric} of {claim.task} under {claim.first} and {claim.second}, which this run lacks"
        )
    values = {arm: result.arms[arm][claim.metric] for arm in (claim.first, claim.second)}
    return {**asdict(claim), "values": values, "paired": row, "verdict": verdict(claim, row)}


def _paired(claim: Claim, result: TaskResult) -> dict[str, float] | None:
    """The difference of `second` minus `first`, whichever of the two was named first in `--arms`."""
    row = result.paired.get(f"{claim.first} -> {claim.second}", {}).get(claim.metric)
    if row is not None:
        return row
    row = result.paired.get(f"{claim.second} -> {claim.first}", {}).get(claim.metric)
    if row is None:
        return None
    turned = {"difference": 0.0 - row["difference"], "low": 0.0 - row["high"], "high": 0.0 - row["low"]}
    if "only_first" in row:
        turned |= {"only_first": row["only_second"], "only_second": row["only_first"]}
    return {**row, **turned}
