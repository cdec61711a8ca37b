"""Cups, clocks and laptops."""

from math import cos, pi, sin

from negclip_core.world.scenes import Thing
from negclip_core.world.sprites.pen import COLOURS, DARK, Pen, outline_of, shade

__all__ = ["SPRITES"]


def _cup(pen: Pen, thing: Thing) -> None:
    paint = COLOURS[thing.colour]
    edge = outline_of(paint)
    handle = [(0.66, 0.3), (0.92, 0.32), (0.94, 0.6), (0.64, 0.74)]
    pen.line(handle, edge, 0.034)
    pen.line(handle, paint, 0.018)
    pen.polygon([(0.02, 0.12), (0.74, 0.12), (0.66, 0.98), (0.1, 0.98)], paint, edge)
    pen.ellipse(0.02, 0.02, 0.74, 0.24, shade(paint, 0.4), edge)
    pen.ellipse(0.12, 0.07, 0.64, 0.2, (94, 56, 34))


def _clock(pen: Pen, thing: Thing) -> None:
    pen.ellipse(0.0, 0.0, 1.0, 1.0, DARK)
    pen.ellipse(0.12, 0.12, 0.88, 0.88, (252, 252, 248))
    hour = thing.variant // 2 % 12
    for angle, length, width in ((hour * pi / 6, 0.2, 0.02), ((hour * 5 + 3) * pi / 6, 0.31, 0.016)):
        pen.line([(0.5, 0.5), (0.5 + length * sin(angle), 0.5 - length * cos(angle))], DARK, width)
    for quarter in range(4):
        x, y = 0.5 + 0.32 * sin(quarter * pi / 2), 0.5 - 0.32 * cos(quarter * pi / 2)
        pen.ellipse(x - 0.035, y - 0.035, x + 0.035, y + 0.035, (120, 120, 128))


def _laptop(pen: Pen, thing: Thing) -> None:
    pen.rounded(0.12, 0.0, 0.88, 0.72, 0.04, (64, 66, 74))
    pen.rectangle(0.18, 0.08, 0.82, 0.62, (112, 190, 240))
    pen.polygon([(0.18, 0.62), (0.18, 0.3), (0.4, 0.08), (0.6, 0.08)], (160, 214, 248))
    pen.polygon([(0.12, 0.7), (0.88, 0.7), (1.0, 1.0), (0.0, 1.0)], (178, 182, 190), (84, 86, 94))
    pen.polygon([(0.19, 0.76), (0.81, 0.76), (0.86, 0.88), (0.14, 0.88)], (84, 86, 94))


SPRITES = {"cup": _cup, "clock": _clock, "laptop": _laptop}
