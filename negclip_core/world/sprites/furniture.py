"""Benches, tables, chairs, sofas and standing lamps."""

from negclip_core.world.scenes import Thing
from negclip_core.world.sprites.pen import COLOURS, DARK, Pen, outline_of, shade

__all__ = ["SPRITES"]

_WOOD = (172, 110, 58)
_METAL = (72, 76, 84)


def _bench(pen: Pen, thing: Thing) -> None:
    edge = outline_of(_WOOD)
    for x in (0.08, 0.84):
        pen.rectangle(x, 0.06, x + 0.08, 1.0, _METAL)
    for y in (0.0, 0.22):
        pen.rectangle(0.0, y, 1.0, y + 0.17, _WOOD, edge)
    pen.rectangle(0.0, 0.5, 1.0, 0.68, shade(_WOOD, 0.18), edge)


def _table(pen: Pen, thing: Thing) -> None:
    wood = COLOURS[thing.colour]
    edge = outline_of(wood)
    for x in (0.06, 0.83):
        pen.rectangle(x, 0.2, x + 0.11, 1.0, shade(wood, -0.12), edge)
    pen.rectangle(0.06, 0.2, 0.94, 0.36, shade(wood, -0.12), edge)
    pen.rounded(0.0, 0.0, 1.0, 0.24, 0.03, wood, edge)


def _chair(pen: Pen, thing: Thing) -> None:
    paint = COLOURS[thing.colour]
    edge = outline_of(paint)
    for x in (0.1, 0.74):
        pen.rectangle(x, 0.64, x + 0.14, 1.0, shade(paint, -0.25), edge)
    pen.rounded(0.02, 0.0, 0.26, 0.7, 0.08, paint, edge)
    pen.rounded(0.02, 0.56, 0.98, 0.73, 0.08, paint, edge)


def _sofa(pen: Pen, thing: Thing) -> None:
    cloth = COLOURS[thing.colour]
    edge = outline_of(cloth)
    for x in (0.08, 0.85):
        pen.rectangle(x, 0.88, x + 0.07, 1.0, DARK)
    pen.rounded(0.06, 0.0, 0.94, 0.7, 0.07, cloth, edge)
    pen.rectangle(0.494, 0.05, 0.506, 0.5, edge)
    pen.rounded(0.1, 0.46, 0.9, 0.78, 0.05, shade(cloth, 0.16), edge)
    pen.rectangle(0.1, 0.72, 0.9, 0.92, cloth, edge)
    for x in (0.0, 0.84):
        pen.rounded(x, 0.28, x + 0.16, 0.94, 0.06, cloth, edge)


def _lamp(pen: Pen, thing: Thing) -> None:
    paint = COLOURS[thing.colour]
    pen.rectangle(0.46, 0.3, 0.54, 0.96, _METAL)
    pen.ellipse(0.2, 0.92, 0.8, 1.0, _METAL)
    pen.ellipse(0.36, 0.26, 0.64, 0.4, (255, 246, 196))
    pen.polygon([(0.28, 0.0), (0.72, 0.0), (1.0, 0.33), (0.0, 0.33)], paint, outline_of(paint))
    pen.polygon([(0.36, 0.04), (0.5, 0.04), (0.44, 0.29), (0.2, 0.29)], shade(paint, 0.35))


SPRITES = {"bench": _bench, "table": _table, "chair": _chair, "sofa": _sofa, "lamp": _lamp}
