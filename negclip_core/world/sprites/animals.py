"""Dogs, cats, birds and cows. All look to the right unless mirrored."""

from negclip_core.world.scenes import Thing
from negclip_core.world.sprites.pen import COLOURS, DARK, Pen, outline_of, shade

__all__ = ["SPRITES"]

_PINK = (240, 168, 168)
_LIGHT = (250, 250, 246)


def _eye(pen: Pen, x: float, y: float, rx: float, ry: float, dark_fur: bool) -> None:
    pen.ellipse(x - rx, y - ry, x + rx, y + ry, _LIGHT if dark_fur else DARK)


def _dog(pen: Pen, thing: Thing) -> None:
    fur = COLOURS[thing.colour]
    edge, ear = outline_of(fur), shade(fur, 0.25 if thing.colour == "black" else -0.4)
    pen.line([(0.14, 0.5), (0.04, 0.2)], edge, 0.038)
    pen.line([(0.14, 0.5), (0.045, 0.21)], fur, 0.022)
    for x in (0.12, 0.25, 0.52, 0.65):
        pen.rectangle(x, 0.6, x + 0.1, 1.0, fur, edge)
    pen.rounded(0.08, 0.4, 0.78, 0.76, 0.12, fur, edge)
    pen.rounded(0.76, 0.26, 1.0, 0.5, 0.06, fur, edge)
    pen.ellipse(0.52, 0.02, 0.9, 0.54, fur, edge)
    pen.ellipse(0.47, 0.08, 0.62, 0.58, ear, edge)
    pen.ellipse(0.92, 0.25, 1.0, 0.36, _PINK if thing.colour == "black" else DARK)
    _eye(pen, 0.76, 0.21, 0.035, 0.045, thing.colour == "black")


def _cat(pen: Pen, thing: Thing) -> None:
    fur = COLOURS[thing.colour]
    edge = outline_of(fur)
    tail = [(0.3, 0.93), (0.1, 0.85), (0.06, 0.6), (0.16, 0.46), (0.24, 0.52)]
    pen.line(tail, edge, 0.046)
    pen.line(tail, fur, 0.028)
    pen.ellipse(0.24, 0.44, 0.9, 1.04, fur, edge)
    pen.rectangle(0.46, 0.8, 0.58, 0.99, fur, edge)
    pen.rectangle(0.62, 0.8, 0.74, 0.99, fur, edge)
    for tip, base in ((0.3, 0.5), (0.92, 0.72)):
        pen.polygon([(tip, 0.0), (base, 0.12), (tip + (0.04 if tip < 0.5 else -0.04), 0.3)], fur, edge)
    pen.ellipse(0.27, 0.08, 0.95, 0.56, fur, edge)
    dark_fur = thing.colour == "black"
    for x in (0.47, 0.75):
        pen.ellipse(x - 0.07, 0.24, x + 0.07, 0.36, (214, 226, 70) if dark_fur else (70, 150, 60))
        pen.ellipse(x - 0.025, 0.24, x + 0.025, 0.36, DARK)
    pen.polygon([(0.55, 0.39), (0.67, 0.39), (0.61, 0.46)], _PINK)


def _bird(pen: Pen, thing: Thing) -> None:
    plume = COLOURS[thing.colour]
    edge = outline_of(plume)
    for x in (0.4, 0.56):
        pen.line([(x, 0.74), (x, 0.98), (x + 0.1, 0.98)], (226, 126, 30), 0.018)
    pen.polygon([(0.22, 0.42), (0.0, 0.4), (0.02, 0.56), (0.24, 0.66)], plume, edge)
    pen.ellipse(0.12, 0.3, 0.76, 0.82, plume, edge)
    pen.ellipse(0.48, 0.02, 0.84, 0.46, plume, edge)
    pen.polygon([(0.82, 0.16), (1.0, 0.26), (0.82, 0.34)], (244, 150, 28), (190, 104, 10))
    pen.ellipse(0.2, 0.4, 0.56, 0.68, shade(plume, 0.3 if thing.colour == "black" else -0.25))
    _eye(pen, 0.69, 0.18, 0.04, 0.045, thing.colour != "white")


def _cow(pen: Pen, thing: Thing) -> None:
    hide = COLOURS[thing.colour]
    edge = outline_of(hide)
    patch = DARK if thing.colour == "white" else _LIGHT
    pen.line([(0.05, 0.3), (0.02, 0.62)], edge, 0.018)
    for x in (0.08, 0.22, 0.5, 0.63):
        pen.rectangle(x, 0.62, x + 0.09, 0.97, hide, edge)
        pen.rectangle(x, 0.93, x + 0.09, 1.0, DARK)
    pen.ellipse(0.3, 0.66, 0.46, 0.84, _PINK)
    pen.rounded(0.04, 0.2, 0.76, 0.74, 0.1, hide, edge)
    pen.ellipse(0.12, 0.24, 0.34, 0.56, patch)
    pen.ellipse(0.42, 0.36, 0.62, 0.68, patch)
    for x, tip in ((0.72, 0.69), (0.86, 0.91)):
        pen.polygon([(x - 0.02, 0.12), (x + 0.04, 0.12), (tip, 0.0)], (236, 222, 178), (150, 130, 90))
    pen.ellipse(0.58, 0.12, 0.72, 0.26, shade(hide, -0.2), edge)
    pen.rounded(0.66, 0.08, 0.93, 0.52, 0.07, hide, edge)
    pen.ellipse(0.67, 0.38, 1.0, 0.62, _PINK, (176, 100, 100))
    _eye(pen, 0.8, 0.25, 0.025, 0.045, thing.colour != "white")


SPRITES = {"dog": _dog, "cat": _cat, "bird": _bird, "cow": _cow}
