"""What a unit of a metric belongs to: its item, and with it the photograph that several items may share."""

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["groups_of", "item_of"]


def item_of(unit: str, items: Mapping[str, Any]) -> str:
    """The item that a unit is, or is a part of: "7/0" is part of "7" unless there is an item "7/0"."""
    return unit if unit in items or "/" not in unit else item_of(unit.rpartition("/")[0], items)


def groups_of(units: Iterable[str], items: Mapping[str, Any]) -> list[int]:
    """The group of each unit: units of one photograph share one, or of one item where items have no photograph.

    What a CLIP makes of five captions of one picture hangs together, so they are not five independent units.
    """
    names = [item_of(unit, items) for unit in units]
    of = [str(getattr(items.get(name), "image", name)) for name in names]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(of))}
    return [numbers[name] for name in of]
