"""Trees and potted plants."""

from negclip_core.world.scenes import Thing
from negclip_core.world.sprites.pen import Pen, shade

__all__ = ["SPRITES"]

_LEAVES = ((48, 138, 60), (70, 150, 50), (38, 122, 74))


def _tree(pen: Pen, thing: Thing) -> None:
    leaf = _LEAVES[thing.variant // 2 % 3]
    pen.polygon([(0.42, 0.5), (0.58, 0.5), (0.62, 1.0), (0.38, 1.0)], (116, 74, 42), (74, 46, 26))
    crown = [(0.0, 0.2, 0.62, 0.6), (0.38, 0.2, 1.0, 0.6), (0.18, 0.0, 0.82, 0.42), (0.2, 0.28, 0.8, 0.66)]
    for lobe in crown:
        pen.ellipse(*lobe, leaf, shade(leaf, -0.4))
    for x0, y0, x1, y1 in crown:
        pen.ellipse(x0 + 0.035, y0 + 0.02, x1 - 0.035, y1 - 0.02, leaf)
    pen.ellipse(0.28, 0.07, 0.56, 0.24, shade(leaf, 0.18))


def _plant(pen: Pen, thing: Thing) -> None:
    leaf = _LEAVES[thing.variant // 2 % 3]
    edge = shade(leaf, -0.45)
    for tip, low in (
        ((0.0, 0.3), 0.1),
        ((1.0, 0.3), 0.1),
        ((0.16, 0.05), 0.06),
        ((0.84, 0.05), 0.06),
        ((0.5, 0.0), 0),
    ):
        x, y = tip
        middle_x, middle_y = (x + 0.5) / 2, (y + 0.66) / 2
        spread = 0.13
        side = [(middle_x - spread, middle_y - low), (middle_x + spread, middle_y - low)]
        pen.polygon([tip, side[1], (0.52, 0.68), (0.48, 0.68), side[0]], leaf, edge)
    pen.polygon([(0.22, 0.66), (0.78, 0.66), (0.68, 1.0), (0.32, 1.0)], (200, 100, 58), (128, 58, 30))
    pen.rectangle(0.18, 0.62, 0.82, 0.72, (216, 118, 74), (128, 58, 30))


SPRITES = {"tree": _tree, "plant": _plant}
