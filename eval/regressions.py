"""What an arm lost: the items that another arm got right, or more right, the worst first."""

from dataclasses import dataclass
from statistics import fmean

from eval.registry import Record
from eval.runner import TaskResult
from eval.units import item_of

__all__ = ["Loss", "losses", "verdicts"]


@dataclass(frozen=True)
class Loss:
    """How right an item was under the first arm, and is under the other: 0 to 1."""

    item: str
    before: float
    after: float


def losses(result: TaskResult, first: str, second: str) -> list[Loss]:
    """The items on which `second` is less right than `first`, by how much; equals in the order in which they were drawn.

    How right a picture is, is the share of the judge's verdicts that are as the prompt wants them; else it is the main
    metric's.
    """
    before, after = _rightness(result, first), _rightness(result, second)
    found = [Loss(item, before[item], after[item]) for item in before if after.get(item, 1.0) < before[item]]
    return sorted(found, key=lambda loss: loss.after - loss.before)


def verdicts(record: Record) -> list[tuple[str, bool | None]]:
    """What the prompt of a picture wants, and whether the judge says that it is so; None where it said neither."""
    wanted = [(f"no {thing}", None if there is None else not there)
              for thing, there in record.get("negated", {}).items()]  # fmt: skip
    return wanted + [pair for field in ("asked", "place") for pair in record.get(field, {}).items()]


def _rightness(result: TaskResult, arm: str) -> dict[str, float]:
    records = result.records[arm]
    if result.task.kind == "generation":
        said = {item: [v for _, v in verdicts(record) if v is not None] for item, record in records.items()}
        return {item: fmean(own) for item, own in said.items() if own}
    units: dict[str, list[float]] = {}
    for unit, value in result.values.get(arm, {}).get(result.main, {}).items():
        units.setdefault(item_of(unit, records), []).append(value)
    return {item: fmean(own) for item, own in units.items()}
