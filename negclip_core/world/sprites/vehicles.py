"""Cars, buses and boats."""

from negclip_core.world.scenes import Thing
from negclip_core.world.sprites.pen import COLOURS, DARK, Pen, outline_of, shade

__all__ = ["SPRITES"]

_GLASS = (186, 222, 240)
_HUB = (196, 196, 202)


def _wheel(pen: Pen, x: float, y: float, rx: float, ry: float) -> None:
    pen.ellipse(x - rx, y - ry, x + rx, y + ry, DARK)
    pen.ellipse(x - rx * 0.45, y - ry * 0.45, x + rx * 0.45, y + ry * 0.45, _HUB)


def _car(pen: Pen, thing: Thing) -> None:
    paint = COLOURS[thing.colour]
    edge = outline_of(paint)
    pen.polygon([(0.2, 0.45), (0.33, 0.02), (0.7, 0.02), (0.86, 0.45)], paint, edge)
    pen.polygon([(0.27, 0.43), (0.365, 0.11), (0.5, 0.11), (0.5, 0.43)], _GLASS)
    pen.polygon([(0.545, 0.43), (0.545, 0.11), (0.67, 0.11), (0.77, 0.43)], _GLASS)
    pen.rounded(0.0, 0.4, 1.0, 0.82, 0.07, paint, edge)
    pen.rectangle(0.2, 0.4, 0.85, 0.5, paint)
    pen.rectangle(0.93, 0.5, 0.99, 0.6, (255, 240, 170))
    for x in (0.23, 0.77):
        _wheel(pen, x, 0.78, 0.115, 0.22)


def _bus(pen: Pen, thing: Thing) -> None:
    paint = COLOURS[thing.colour]
    pen.rounded(0.0, 0.0, 1.0, 0.88, 0.05, paint, outline_of(paint))
    for x in (0.06, 0.26, 0.46):
        pen.rectangle(x, 0.14, x + 0.16, 0.46, _GLASS)
    pen.rectangle(0.68, 0.14, 0.82, 0.84, _GLASS)
    pen.rectangle(0.86, 0.14, 0.985, 0.5, _GLASS)
    pen.rectangle(0.02, 0.58, 0.66, 0.66, shade(paint, 0.65))
    for x in (0.2, 0.76):
        _wheel(pen, x, 0.85, 0.095, 0.15)


def _boat(pen: Pen, thing: Thing) -> None:
    paint = COLOURS[thing.colour]
    pen.rectangle(0.46, 0.0, 0.49, 0.74, (110, 74, 44))
    pen.polygon([(0.44, 0.03), (0.44, 0.64), (0.05, 0.64)], (252, 250, 240), (170, 168, 160))
    pen.polygon([(0.51, 0.04), (0.7, 0.13), (0.51, 0.2)], shade(paint, -0.1))
    pen.polygon([(0.0, 0.7), (1.0, 0.7), (0.84, 1.0), (0.17, 1.0)], paint, outline_of(paint))
    pen.polygon([(0.0, 0.7), (1.0, 0.7), (0.955, 0.78), (0.045, 0.78)], shade(paint, 0.45))


SPRITES = {"car": _car, "bus": _bus, "boat": _boat}
