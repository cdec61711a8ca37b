"""A forest plot: what each arm changes, task by task, with its interval and a line at 0. An SVG inside a page.

Widths are shares of the page's and type is the page's own, so that it is read on a phone as on a screen, in light and dark.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from eval.arms import BLIND
from eval.markup import e
from eval.runner import TaskResult

__all__ = ["Change", "changes", "forest_plot"]

_HEADING, _ROW, _AXIS = 30, 40, 26  # heights in pixels
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_TICKS = 6  # at most


class Change(NamedTuple):
    """What an arm changes of a task's main metric, against the run's first arm."""

    task: str
    metric: str
    arm: str
    difference: float
    low: float
    high: float
    n: int


def changes(results: list[TaskResult]) -> list[Change]:
    """Each task's main metric under each arm that sees, against the first of them."""
    found = []
    for result in results:
        first, *others = [arm for arm in result.arms if arm not in BLIND] or [""]
        for arm in others:
            row = result.paired.get(f"{first} -> {arm}", {}).get(result.main)
            if row:
                numbers = (row["difference"], row["low"], row["high"], int(row["n"]))
                found.append(Change(result.task.name, result.main, arm, *numbers))
    return found


def forest_plot(rows: list[Change]) -> str:
    """The plot as HTML; nothing for no rows. Right of the line is better."""
    if not rows:
        return ""
    low, high = min(0.0, *(row.low for row in rows)), max(0.0, *(row.high for row in rows))
    room = 0.04 * (high - low or 1.0)
    scale = _Scale(low - room, high + room)
    parts, y, task = [], 0, ""
    for row in rows:
        if row.task != task:
            task = row.task
            parts.append(
                f"<text class=task x=0 y={y + 20}>{e(task)}<tspan class=faint dx=8>{e(row.metric)}, n = {row.n}</tspan></text>"
            )
            y += _HEADING
        parts.append(_row(row, scale, y))
        y += _ROW
    parts += _axis(scale, y)
    zero = scale.at(0.0)
    line = f'<line class=zero x1="{zero}" x2="{zero}" y1=0 y2={y} />'
    return (
        f'<svg class=forest width="100%" height={y + _AXIS} role=img aria-label="Differences in pairs, by task and arm">'
        f"{line}{''.join(parts)}</svg>"
    )


class _Scale:
    """From a difference to its place across the plot, in per cent."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def at(self, value: float) -> str:
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"

    def ticks(self) -> Iterator[float]:
        step = next((s for s in _STEPS if (self.high - self.low) / s <= _TICKS), 1.0)
        return (
            number * step for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)
        )


def _row(row: Change, scale: _Scale, y: int) -> str:
    kind = "better" if row.low > 0 else "worse" if row.high < 0 else "unsure"
    low, at, high = (scale.at(value) for value in (row.low, row.difference, row.high))
    numbers = f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
    return (
        f'<text x=0 y={y + 12}>{e(row.arm)}</text><a href="#{e(row.task)}"><text class=number x="100%" y={y + 12}>{numbers}</text></a>'
        f'<g class={kind}><line x1="{low}" x2="{high}" y1={y + 24} y2={y + 24} />'
        f'<circle cx="{at}" cy={y + 24} r=4.5 /></g>'
    )


def _axis(scale: _Scale, y: int) -> Iterator[str]:
    yield f'<line class=axis x1="0%" x2="100%" y1={y} y2={y} />'
    for tick in scale.ticks():
        at = scale.at(tick)
        yield f'<line class=axis x1="{at}" x2="{at}" y1={y} y2={y + 5} />'
        yield f'<text class=tick x="{at}" y={y + 20}>{f"{tick:+.2f}" if round(tick, 9) else "0"}</text>'
