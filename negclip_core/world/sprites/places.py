"""The backdrop of each place: one clean picture, with small differences by the scene's variant."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from negclip_core.world.sprites.pen import RGB, Pen, mix, shade

__all__ = ["draw_place"]


@dataclass(frozen=True)
class _Mood:
    """What differs between two pictures of a place: chance, the light, and the side of window or barn."""

    chance: Random
    light: RGB
    share: float
    left: bool

    def __call__(self, r: int, g: int, b: int) -> RGB:
        return mix((r, g, b), self.light, self.share)

    def shift(self, amount: float) -> float:
        return self.chance.uniform(-amount, amount)


_LIGHTS: tuple[tuple[RGB, float], ...] = (
    ((255, 255, 255), 0.0), ((255, 255, 255), 0.1), ((255, 186, 110), 0.14), ((120, 150, 220), 0.12),
)  # fmt: skip


def draw_place(pen: Pen, place: str, variant: int) -> None:
    """Paint the backdrop over the whole of the pen's box."""
    chance = Random(variant)
    light, share = _LIGHTS[chance.randrange(len(_LIGHTS))]
    _PLACES[place](pen, _Mood(chance, light, share, left=variant % 2 == 0))


def _sky(pen: Pen, mood: _Mood, horizon: float, clouds: int = 2) -> None:
    pen.rectangle(0, 0, 1, horizon, mood(150, 206, 246))
    for _ in range(clouds):
        x, y = mood.chance.uniform(0.0, 0.8), mood.chance.uniform(0.03, 0.15)
        pen.ellipse(x, y, x + 0.2, y + 0.08, mood(246, 250, 255))
        pen.ellipse(x + 0.05, y - 0.035, x + 0.15, y + 0.06, mood(246, 250, 255))


def _street(pen: Pen, mood: _Mood) -> None:
    _sky(pen, mood, 0.6, clouds=1)
    walls = [(214, 150, 126), (226, 204, 160), (166, 182, 196), (198, 172, 186), (178, 194, 160)]
    mood.chance.shuffle(walls)
    edges = [0.0, 0.3 + mood.shift(0.05), 0.65 + mood.shift(0.05), 1.0]
    for wall, x0, x1 in zip(walls, edges, edges[1:], strict=False):
        top = 0.18 + mood.chance.uniform(0.0, 0.2)
        pen.rectangle(x0, top, x1, 0.6, mood(*wall))
        pen.rectangle(x0, top, x1, top + 0.025, shade(mood(*wall), -0.2))
        third = (x1 - x0) / 7
        for column in (1, 4):
            for row in (0.07, 0.21):
                if top + row + 0.09 < 0.56:
                    left = x0 + column * third
                    pen.rectangle(left, top + row, left + 2 * third, top + row + 0.08, mood(122, 146, 170))
    pen.rectangle(0, 0.58, 1, 0.74, mood(206, 202, 194))
    pen.rectangle(0, 0.73, 1, 0.75, mood(164, 160, 154))
    pen.rectangle(0, 0.75, 1, 1, mood(116, 118, 124))
    start = mood.chance.uniform(-0.2, 0.0)
    for step in range(5):
        pen.rectangle(start + step * 0.28, 0.865, start + step * 0.28 + 0.15, 0.89, mood(244, 240, 220))


def _park(pen: Pen, mood: _Mood) -> None:
    horizon = 0.46 + mood.shift(0.03)
    _sky(pen, mood, horizon)
    for step in range(6):
        x = -0.12 + step * 0.22 + mood.shift(0.03)
        pen.ellipse(x, horizon - 0.07 + mood.shift(0.015), x + 0.28, horizon + 0.12, mood(96, 160, 92))
    pen.rectangle(0, horizon + 0.02, 1, 1, mood(142, 204, 98))
    path = [(0.44, horizon + 0.02), (0.5, horizon + 0.02), (0.56, 0.62), (0.5, 0.74), (0.72, 1.0),
            (0.26, 1.0), (0.32, 0.76), (0.46, 0.62)]  # fmt: skip
    bend = mood.shift(0.15)
    pen.polygon([((x if mood.left else 1 - x) + bend, y) for x, y in path], mood(228, 208, 164))


def _beach(pen: Pen, mood: _Mood) -> None:
    horizon = 0.38 + mood.shift(0.03)
    _sky(pen, mood, horizon, clouds=1)
    x = 0.1 if mood.left else 0.76
    pen.ellipse(x, 0.05, x + 0.15, 0.2, mood(255, 226, 96))
    pen.rectangle(0, horizon, 1, 0.64, mood(48, 142, 204))
    pen.rectangle(0, 0.54, 1, 0.66, mood(96, 184, 222))
    shore = 0.61 + mood.shift(0.02)
    pen.ellipse(-0.3, shore, 0.7, shore + 0.2, mood(250, 250, 246))
    pen.ellipse(0.4, shore, 1.4, shore + 0.2, mood(250, 250, 246))
    pen.ellipse(-0.3, shore + 0.02, 0.7, shore + 0.24, mood(244, 220, 160))
    pen.ellipse(0.4, shore + 0.02, 1.4, shore + 0.24, mood(244, 220, 160))
    pen.rectangle(0, shore + 0.09, 1, 1, mood(244, 220, 160))


def _lake(pen: Pen, mood: _Mood) -> None:
    horizon = 0.42 + mood.shift(0.02)
    _sky(pen, mood, horizon, clouds=1)
    peak = 0.3 + mood.shift(0.12)
    for centre, height, hill in ((peak, 0.26, (132, 156, 184)), (peak + 0.45, 0.2, (112, 150, 150))):
        points = [(centre - 0.5, horizon), (centre, horizon - height), (centre + 0.5, horizon)]
        pen.polygon(points, mood(*hill))
    pen.rectangle(0, horizon - 0.02, 1, horizon + 0.02, mood(84, 136, 96))
    pen.rectangle(0, horizon + 0.02, 1, 0.8, mood(66, 134, 190))
    for y in (0.5, 0.58, 0.64):
        x = mood.chance.uniform(0.0, 0.7)
        pen.rectangle(x, y, x + 0.24, y + 0.012, mood(130, 186, 222))
    pen.ellipse(-0.6, 0.7 + mood.shift(0.015), 1.1, 1.6, mood(126, 186, 92))
    pen.ellipse(-0.1, 0.7 + mood.shift(0.015), 1.6, 1.6, mood(126, 186, 92))


def _farm(pen: Pen, mood: _Mood) -> None:
    horizon = 0.44 + mood.shift(0.02)
    _sky(pen, mood, horizon, clouds=1)
    pen.rectangle(0, horizon, 1, 1, mood(196, 196, 98))
    for step in range(-4, 6):
        x = 0.5 + step * 0.3
        pen.polygon([(0.5 + step * 0.12, horizon), (0.53 + step * 0.12, horizon), (x + 0.1, 1.0), (x, 1.0)],
                    mood(168, 168, 76))  # fmt: skip
    x = 0.06 if mood.left else 0.62
    x += mood.shift(0.04)
    pen.rectangle(x, horizon - 0.18, x + 0.3, horizon + 0.06, mood(176, 62, 52))
    roof = [
        (x - 0.03, horizon - 0.17),
        (x + 0.06, horizon - 0.31),
        (x + 0.24, horizon - 0.31),
        (x + 0.33, horizon - 0.17),
    ]
    pen.polygon(roof, mood(112, 84, 80))
    pen.rectangle(x + 0.1, horizon - 0.08, x + 0.2, horizon + 0.06, mood(250, 246, 236))
    pen.rectangle(x + 0.115, horizon - 0.065, x + 0.185, horizon + 0.06, mood(128, 44, 38))
    for y in (horizon + 0.03, horizon + 0.085):
        pen.rectangle(0, y, 1, y + 0.022, mood(240, 232, 214))
    for step in range(6):
        post = 0.04 + step * 0.18
        pen.rectangle(post, horizon, post + 0.028, horizon + 0.14, mood(240, 232, 214))


def _window(pen: Pen, mood: _Mood, x: float, y: float, w: float, h: float) -> None:
    pen.rectangle(x - 0.022, y - 0.022, x + w + 0.022, y + h + 0.022, mood(250, 248, 242))
    pen.rectangle(x, y, x + w, y + h, mood(160, 214, 246))
    pen.rectangle(x + w / 2 - 0.01, y, x + w / 2 + 0.01, y + h, mood(250, 248, 242))


def _floor(pen: Pen, mood: _Mood, top: float, boards: RGB) -> None:
    pen.rectangle(0, top, 1, 1, mood(*boards))
    pen.rectangle(0, top - 0.025, 1, top, mood(248, 244, 236))


def _kitchen(pen: Pen, mood: _Mood) -> None:
    wall = mood.chance.choice([(214, 238, 226), (240, 234, 204), (214, 230, 242)])
    pen.rectangle(0, 0, 1, 0.5, mood(*wall))
    for step in range(1, 8):
        pen.rectangle(step * 0.13, 0, step * 0.13 + 0.008, 0.48, shade(mood(*wall), 0.55))
    for step in range(1, 4):
        pen.rectangle(0, step * 0.12, 1, step * 0.12 + 0.008, shade(mood(*wall), 0.55))
    _window(pen, mood, 0.08 if mood.left else 0.6, 0.08, 0.32, 0.24)
    door = mood.chance.choice([(92, 150, 148), (196, 208, 214), (150, 176, 120)])
    pen.rectangle(0, 0.5, 1, 0.74, mood(*door))
    for step in range(4):
        pen.rectangle(0.02 + step * 0.25, 0.535, 0.23 + step * 0.25, 0.71, shade(mood(*door), 0.18))
        pen.rectangle(0.09 + step * 0.25, 0.56, 0.16 + step * 0.25, 0.577, mood(90, 90, 96))
    pen.rectangle(0, 0.455, 1, 0.51, mood(234, 224, 208))
    pen.rectangle(0, 0.505, 1, 0.52, mood(150, 136, 120))
    pen.rectangle(0, 0.74, 1, 1, mood(216, 190, 160))


def _living_room(pen: Pen, mood: _Mood) -> None:
    wall = mood.chance.choice([(246, 214, 170), (244, 200, 180), (234, 220, 160)])
    pen.rectangle(0, 0, 1, 0.72, mood(*wall))
    x = (0.1 if mood.left else 0.62) + mood.shift(0.03)
    pen.rectangle(x, 0.09, x + 0.28, 0.3, mood(126, 84, 50))
    pen.rectangle(x + 0.025, 0.115, x + 0.255, 0.275, mood(188, 224, 236))
    pen.polygon([(x + 0.025, 0.275), (x + 0.1, 0.16), (x + 0.17, 0.275)], mood(110, 160, 120))
    pen.polygon([(x + 0.11, 0.275), (x + 0.19, 0.19), (x + 0.255, 0.275)], mood(80, 130, 104))
    _floor(pen, mood, 0.72, (190, 140, 96))
    rug = mood.chance.choice([(172, 96, 110), (110, 140, 150), (150, 130, 170)])
    pen.ellipse(0.08, 0.8, 0.92, 0.99, mood(*rug))
    pen.ellipse(0.15, 0.825, 0.85, 0.965, shade(mood(*rug), 0.3))


def _office(pen: Pen, mood: _Mood) -> None:
    wall = mood.chance.choice([(196, 212, 230), (186, 206, 218), (204, 208, 232)])
    pen.rectangle(0, 0, 1, 0.74, mood(*wall))
    x = 0.06 if mood.left else 0.54
    _window(pen, mood, x, 0.08, 0.4, 0.3)
    for step in range(6):
        pen.rectangle(x, 0.085 + step * 0.05, x + 0.4, 0.11 + step * 0.05, mood(238, 240, 242))
    _floor(pen, mood, 0.74, (126, 138, 158))


_PLACES: dict[str, Callable[[Pen, _Mood], None]] = {
    "street": _street, "park": _park, "beach": _beach, "lake": _lake, "farm": _farm, "kitchen": _kitchen,
    "living room": _living_room, "office": _office,
}  # fmt: skip
