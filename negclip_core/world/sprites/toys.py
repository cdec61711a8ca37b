"""Balls and kites."""

from negclip_core.world.scenes import Thing
from negclip_core.world.sprites.pen import COLOURS, Pen, outline_of, shade

__all__ = ["SPRITES"]

_WHITE = (250, 250, 246)


def _ball(pen: Pen, thing: Thing) -> None:
    paint = COLOURS[thing.colour]
    pen.ellipse(0.0, 0.0, 1.0, 1.0, paint, outline_of(paint))
    pen.polygon([(0.07, 0.56), (0.93, 0.32), (0.95, 0.54), (0.13, 0.78)], _WHITE)
    pen.ellipse(0.24, 0.12, 0.44, 0.28, shade(paint, 0.55))


def _kite(pen: Pen, thing: Thing) -> None:
    paint = COLOURS[thing.colour]
    pen.line([(0.5, 0.62), (0.6, 0.74), (0.44, 0.84), (0.54, 0.98)], (90, 90, 100), 0.014)
    for x, y in ((0.58, 0.72), (0.47, 0.86)):
        pen.polygon(
            [(x - 0.16, y - 0.05), (x + 0.16, y + 0.05), (x + 0.16, y - 0.05), (x - 0.16, y + 0.05)], paint
        )
    diamond = [(0.5, 0.0), (1.0, 0.26), (0.5, 0.64), (0.0, 0.26)]
    pen.polygon(diamond, paint)
    pen.polygon([(0.5, 0.0), (1.0, 0.26), (0.5, 0.26)], shade(paint, 0.45))
    pen.polygon([(0.0, 0.26), (0.5, 0.64), (0.5, 0.26)], shade(paint, 0.45))
    pen.line([*diamond, diamond[0]], outline_of(paint), 0.012)


SPRITES = {"ball": _ball, "kite": _kite}
