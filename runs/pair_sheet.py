"""Pairs of small pictures on one sheet: vanilla's on the left, NegationCLIP's on the right, their text below."""

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

__all__ = ["pair_sheet"]

_COLUMNS, _SCALE, _GAP, _LINE, _LINES = 4, 3, 18, 17, 2


def pair_sheet(texts: Sequence[str], columns: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """A pair for each text, numbered, enlarged without smoothing; `columns` holds each arm's pictures."""
    side = columns[0][0].width * _SCALE
    cell = (2 * side + _GAP, side + _LINES * _LINE + _GAP)
    sheet = Image.new(
        "RGB", (_COLUMNS * cell[0] + _GAP, -(-len(texts) // _COLUMNS) * cell[1] + _GAP), (252, 251, 248)
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, text in enumerate(texts):
        x, y = _GAP + number % _COLUMNS * cell[0], _GAP + number // _COLUMNS * cell[1]
        for place, pictures in enumerate(columns):
            enlarged = pictures[number].resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (x + place * side, y))
        for line, words in enumerate(textwrap.wrap(f"{number}: {text}", 56)[:_LINES]):
            pen.text((x, y + side + 3 + line * _LINE), words, (28, 28, 30), font)
    return sheet
