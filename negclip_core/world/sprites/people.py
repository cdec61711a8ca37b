"""People: standing, on a bench or sofa, on a chair in profile, or in a boat; with hat, glasses and umbrella.

Everything is measured in heads: x from the middle of the head, y down from its top.
"""

from negclip_core.world.layout import person_size, pose
from negclip_core.world.scenes import Thing
from negclip_core.world.sprites.pen import COLOURS, DARK, RGB, Pen, mix, outline_of, shade

__all__ = ["draw_person"]

_SKIN = ((250, 208, 170), (226, 172, 124), (172, 116, 78))
_HAIR = ((70, 42, 26), (40, 32, 34), (168, 84, 36))
_HATS = ((236, 196, 112), (120, 66, 160), (40, 124, 92))
_UMBRELLAS = ((150, 66, 178), (22, 150, 144), (236, 110, 160))
_TROUSERS = ((58, 66, 104), (92, 84, 76), (60, 60, 66))


class _Heads:
    """A pen that measures in heads."""

    def __init__(self, pen: Pen, size: tuple[float, float, float], top: float) -> None:
        self._pen, self._top = pen, top
        self._wide, self._high, self._centre = size

    def _x(self, x: float) -> float:
        return (x + self._centre) / self._wide

    def _y(self, y: float) -> float:
        return (y + self._top) / self._high

    def shape(self, points: list[tuple[float, float]], fill: RGB, outline: RGB | None = None) -> None:
        self._pen.polygon([(self._x(x), self._y(y)) for x, y in points], fill, outline)

    def ellipse(
        self, x0: float, y0: float, x1: float, y1: float, fill: RGB, outline: RGB | None = None
    ) -> None:
        self._pen.ellipse(self._x(x0), self._y(y0), self._x(x1), self._y(y1), fill, outline)

    def block(
        self, x0: float, y0: float, x1: float, y1: float, fill: RGB, outline: RGB | None = None
    ) -> None:
        corners = self._x(x0), self._y(y0), self._x(x1), self._y(y1)
        self._pen.rounded(*corners, 0.12 / self._wide, fill, outline)

    def sector(self, x0: float, y0: float, x1: float, y1: float, start: float, end: float, fill: RGB,
               outline: RGB | None = None) -> None:  # fmt: skip
        self._pen.sector(self._x(x0), self._y(y0), self._x(x1), self._y(y1), start, end, fill, outline)

    def line(self, points: list[tuple[float, float]], fill: RGB, width: float) -> None:
        self._pen.line([(self._x(x), self._y(y)) for x, y in points], fill, width)


def draw_person(pen: Pen, thing: Thing, seat: str) -> None:
    """Paint a person into the pen's box; `seat` is the kind of what they sit on, "" for nothing."""
    how = pose(seat)
    top = 0.3 * ("hat" in thing.attributes) + 0.8 * ("umbrella" in thing.attributes)
    heads = _Heads(pen, person_size(thing.attributes, how), top)
    look = thing.variant // 2
    skin, hair, trousers = _SKIN[look % 3], _HAIR[look // 3 % 3], _TROUSERS[look // 9 % 3]
    clothes = COLOURS[thing.colour]
    if "umbrella" in thing.attributes:
        heads.line([(0.6, -0.3), (0.6, 1.75)], (70, 60, 60), 0.02)
    if thing.gender == "woman":
        heads.block(-0.6, 0.1, 0.6, 1.42, hair, outline_of(hair))
    _legs(heads, how, thing.gender, skin, clothes, trousers)
    _torso(heads, how, thing.gender, skin, clothes, "umbrella" in thing.attributes)
    _head(heads, thing.gender, skin, hair, "glasses" in thing.attributes)
    if "hat" in thing.attributes:
        _hat(heads, _HATS[look // 27 % 3])
    if "umbrella" in thing.attributes:
        _umbrella(heads, _UMBRELLAS[look // 81 % 3], -0.8 - 0.3 * ("hat" in thing.attributes))


def _legs(heads: _Heads, how: str, gender: str, skin: RGB, clothes: RGB, trousers: RGB) -> None:
    cloth = skin if gender == "woman" else trousers
    edge = shade(cloth, -0.4)
    if how == "standing":
        for x in (-0.4, 0.06):
            heads.block(x, 2.2, x + 0.34, 3.42, cloth, edge)
            heads.block(x - 0.04, 3.32, x + 0.4, 3.5, DARK)
    elif how == "front":
        for x in (-0.44, 0.08):
            heads.block(x, 2.3, x + 0.36, 3.05, cloth, edge)
            heads.block(x - 0.04, 2.98, x + 0.42, 3.15, DARK)
    elif how == "side":
        heads.block(0.57, 1.95, 0.92, 3.28, cloth, edge)
        heads.block(0.57, 3.18, 1.05, 3.35, DARK)
        thigh = clothes if gender == "woman" else trousers
        heads.block(-0.45, 1.9, 0.92, 2.24, thigh, shade(thigh, -0.4))


def _torso(heads: _Heads, how: str, gender: str, skin: RGB, clothes: RGB, holding: bool) -> None:
    edge = outline_of(clothes)
    arms = [(-0.76, -0.5), (0.5, 0.76)] if how != "side" else []
    for x0, x1 in arms:
        if holding and x0 > 0:
            continue
        heads.block(x0, 1.06, x1, 1.95, skin, shade(skin, -0.4))
        heads.block(x0, 1.04, x1, 1.5, clothes, edge)
    if how in ("standing", "front") and gender == "woman":
        hem = 2.7 if how == "standing" else 2.45
        heads.shape([(-0.46, 1.0), (0.46, 1.0), (0.74, hem), (-0.74, hem)], clothes, edge)
    else:
        heads.block(
            -0.54, 1.0, 0.54, {"standing": 2.32, "front": 2.42, "side": 2.2, "bust": 2.0}[how], clothes, edge
        )
    if holding:
        heads.line([(0.36, 1.24), (0.62, 1.5)], edge, 0.05)
        heads.line([(0.36, 1.24), (0.6, 1.48)], clothes, 0.032)
        heads.ellipse(0.46, 1.34, 0.74, 1.62, skin)
    elif how == "side":
        heads.block(0.0, 1.3, 0.24, 2.06, mix(clothes, edge, 0.3), edge)


def _head(heads: _Heads, gender: str, skin: RGB, hair: RGB, glasses: bool) -> None:
    heads.ellipse(-0.5, 0.0, 0.5, 1.08, skin, shade(skin, -0.4))
    heads.sector(-0.54, -0.04, 0.54, 0.98, 195, 345, hair)
    if gender == "woman":
        heads.shape([(-0.56, 0.3), (-0.34, 0.2), (-0.36, 1.1), (-0.6, 1.2)], hair)
        heads.shape([(0.56, 0.3), (0.34, 0.2), (0.36, 1.1), (0.6, 1.2)], hair)
    heads.line([(-0.16, 0.86), (0.16, 0.86)], (176, 60, 60), 0.014)
    for x in (-0.22, 0.22):
        if glasses:
            heads.ellipse(x - 0.225, 0.36, x + 0.225, 0.76, (22, 22, 30))
        else:
            heads.ellipse(x - 0.07, 0.47, x + 0.07, 0.63, DARK)
    if glasses:
        heads.line([(-0.5, 0.46), (0.5, 0.46)], (22, 22, 30), 0.014)


def _hat(heads: _Heads, felt: RGB) -> None:
    edge = shade(felt, -0.5)
    heads.block(-0.44, -0.3, 0.44, 0.24, felt, edge)
    heads.block(-0.44, 0.02, 0.44, 0.16, shade(felt, -0.55))
    heads.ellipse(-0.78, 0.1, 0.78, 0.34, felt, edge)


def _umbrella(heads: _Heads, cloth: RGB, top: float) -> None:
    edge = shade(cloth, -0.45)
    heads.sector(-0.6, top, 1.64, top + 1.9, 180, 360, cloth, edge)
    for x in (-0.2, 0.55):
        heads.sector(x, top + 0.04, x + 0.7, top + 1.86, 180, 360, shade(cloth, 0.3 if x < 0 else 0.12))
