"""The pen of all sprites: each stroke paints the picture and, in the same shape, the map of instances."""

from collections.abc import Sequence

from PIL import ImageDraw

from negclip_core.world.scenes import Box

__all__ = ["COLOURS", "DARK", "OUTLINE", "RGB", "Pen", "mix", "outline_of", "shade"]

RGB = tuple[int, int, int]
Point = tuple[float, float]

COLOURS: dict[str, RGB] = {
    "red": (218, 38, 38),
    "blue": (36, 86, 214),
    "yellow": (252, 208, 36),
    "white": (244, 244, 240),
    "black": (34, 34, 40),
    "brown": (138, 84, 42),
    "orange": (242, 138, 34),
}
DARK: RGB = (40, 40, 48)
OUTLINE = 0.011  # the width of outlines, in units of the picture's side


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """A colour between two, `share` of the way to the second."""
    r, g, b = (round(a + (c - a) * share) for a, c in zip(first, second, strict=True))
    return (r, g, b)


def shade(colour: RGB, amount: float) -> RGB:
    """A darker (amount < 0) or lighter (amount > 0) colour; amount in [-1, 1]."""
    return mix(colour, (0, 0, 0) if amount < 0 else (255, 255, 255), abs(amount))


def outline_of(colour: RGB) -> RGB:
    """A line around a colour that sets it off from any backdrop: darker, but lighter around black."""
    return (150, 150, 158) if sum(colour) < 150 else shade(colour, -0.5)


class Pen:
    """Draws in units of a box: (0, 0) is its top left, (1, 1) its bottom right; mirrored if asked.

    `mark` is what the strokes leave in the map of instances: a thing's number, or 0 for the backdrop.
    """

    def __init__(
        self,
        picture: ImageDraw.ImageDraw,
        marks: ImageDraw.ImageDraw | None,
        side: int,
        box: Box = (0.0, 0.0, 1.0, 1.0),
        mark: int = 0,
        mirrored: bool = False,
    ) -> None:
        self._picture, self._marks, self._side = picture, marks, side
        self.box, self.mark, self.mirrored = box, mark, mirrored

    def within(self, box: Box, mark: int | None = None, mirrored: bool = False) -> "Pen":
        """A pen for another box of the same picture (in units of the picture's side)."""
        return Pen(self._picture, self._marks, self._side, box, self.mark if mark is None else mark, mirrored)

    def polygon(self, points: Sequence[Point], fill: RGB, outline: RGB | None = None) -> None:
        """A filled shape through these points."""
        at = [self._at(x, y) for x, y in points]
        self._picture.polygon(at, fill=fill)
        if self._marks is not None:
            self._marks.polygon(at, fill=self.mark)
        if outline is not None:
            self._stroke([*at, at[0], at[1]], outline, self._width(OUTLINE))

    def rectangle(
        self, x0: float, y0: float, x1: float, y1: float, fill: RGB, outline: RGB | None = None
    ) -> None:
        """A filled rectangle between two corners."""
        corners = self._corners(x0, y0, x1, y1)
        self._picture.rectangle(
            corners, fill=fill, outline=outline, width=self._width(OUTLINE) if outline else 0
        )
        if self._marks is not None:
            self._marks.rectangle(corners, fill=self.mark)

    def rounded(
        self, x0: float, y0: float, x1: float, y1: float, radius: float, fill: RGB, outline: RGB | None = None
    ) -> None:
        """A filled rectangle with round corners; `radius` in units of the box's width."""
        corners = self._corners(x0, y0, x1, y1)
        pixels = radius * self.box[2] * self._side
        width = self._width(OUTLINE) if outline else 0
        self._picture.rounded_rectangle(corners, pixels, fill=fill, outline=outline, width=width)
        if self._marks is not None:
            self._marks.rounded_rectangle(corners, pixels, fill=self.mark)

    def ellipse(
        self, x0: float, y0: float, x1: float, y1: float, fill: RGB, outline: RGB | None = None
    ) -> None:
        """A filled ellipse that just fits between two corners."""
        corners = self._corners(x0, y0, x1, y1)
        self._picture.ellipse(
            corners, fill=fill, outline=outline, width=self._width(OUTLINE) if outline else 0
        )
        if self._marks is not None:
            self._marks.ellipse(corners, fill=self.mark)

    def sector(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        start: float,
        end: float,
        fill: RGB,
        outline: RGB | None = None,
    ) -> None:
        """The part of an ellipse between two angles, in degrees clockwise from the right, cut straight."""
        if self.mirrored:
            start, end = 180 - end, 180 - start
        corners = self._corners(x0, y0, x1, y1)
        width = self._width(OUTLINE) if outline else 0
        self._picture.chord(corners, start, end, fill=fill, outline=outline, width=width)
        if self._marks is not None:
            self._marks.chord(corners, start, end, fill=self.mark)

    def line(self, points: Sequence[Point], fill: RGB, width: float) -> None:
        """A stroke with round joints; `width` in units of the picture's side, so that it does not stretch."""
        at = [self._at(x, y) for x, y in points]
        pixels = self._width(width)
        self._stroke(at, fill, pixels)
        if self._marks is not None:
            self._marks.line(at, fill=self.mark, width=pixels, joint="curve")

    def _stroke(self, at: list[Point], fill: RGB, pixels: int) -> None:
        self._picture.line(at, fill=fill, width=pixels, joint="curve")

    def _width(self, width: float) -> int:
        return max(1, round(width * self._side))

    def _at(self, x: float, y: float) -> Point:
        left, top, wide, high = self.box
        return (left + wide * (1 - x if self.mirrored else x)) * self._side, (top + high * y) * self._side

    def _corners(self, x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        (ax, ay), (bx, by) = self._at(x0, y0), self._at(x1, y1)
        return min(ax, bx), ay, max(ax, bx), by
