"""Lines over steps as one picture, drawn with Pillow: enough to see at a glance how a run goes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

__all__ = ["Line", "line_chart"]

_SIZE = (1000, 560)  # pixels
_LEFT, _TOP, _RIGHT, _BOTTOM = 90, 60, 970, 500  # of the frame that lines are drawn in
_INK, _GRID = "#222222", "#dddddd"


class Line(NamedTuple):
    """One line, under the name that the legend gives it."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]  # (x, y), by rising x; those that are no number are left out
    dots: bool = False  # mark each point


def line_chart(title: str, x_name: str, lines: Sequence[Line]) -> Image.Image:
    """The lines in one frame with a common scale; a line without points is not in the legend either."""
    picture = Image.new("RGB", _SIZE, "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(16)
    shown = [line._replace(points=[p for p in line.points if all(map(math.isfinite, p))]) for line in lines]
    points = [point for line in shown for point in line.points]
    xs, ys = (_ticks([point[axis] for point in points]) for axis in (0, 1))
    for value in ys:
        y = _place(value, ys, _BOTTOM, _TOP)
        draw.line([(_LEFT, y), (_RIGHT, y)], _GRID)
        draw.text((_LEFT - 8, y), f"{value:.6g}", _INK, font, anchor="rm")
    for value in xs:
        x = _place(value, xs, _LEFT, _RIGHT)
        draw.line([(x, _BOTTOM), (x, _BOTTOM + 5)], _INK)
        draw.text((x, _BOTTOM + 8), f"{value:,.6g}", _INK, font, anchor="ma")
    draw.rectangle([_LEFT, _TOP, _RIGHT, _BOTTOM], outline=_INK)
    draw.text((_LEFT, 18), title, _INK, ImageFont.load_default(20), anchor="lm")
    draw.text(((_LEFT + _RIGHT) / 2, _SIZE[1] - 16), x_name, _INK, font, anchor="mm")
    at = float(_LEFT)
    for line in shown:
        if not line.points:
            continue
        places = [(_place(x, xs, _LEFT, _RIGHT), _place(y, ys, _BOTTOM, _TOP)) for x, y in line.points]
        draw.line(places, line.colour, 2)
        for x, y in places if line.dots or len(places) == 1 else ():
            draw.ellipse([x - 4, y - 4, x + 4, y + 4], line.colour)
        draw.line([(at, 44), (at + 24, 44)], line.colour, 3)
        draw.text((at + 32, 44), line.name, _INK, font, anchor="lm")
        at += 32 + font.getlength(line.name) + 30
    return picture


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers at one distance from each other, from below the least value to above the greatest."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / 6
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * each for each in (1, 2, 5, 10) if size * each >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, last + 1)]


def _place(value: float, ticks: Sequence[float], start: float, end: float) -> float:
    return start + (end - start) * (value - ticks[0]) / (ticks[-1] - ticks[0])
