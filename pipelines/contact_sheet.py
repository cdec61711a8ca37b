"""Pictures side by side: a column an arm, rows under the prompt that they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

__all__ = ["Row", "contact_sheet"]

_PAPER, _INK, _FAINT = (252, 251, 248), (28, 28, 30), (122, 120, 116)
_MARGIN, _GAP = 28, 14
_PROMPT, _ARM, _NOTE = 22, 17, 13  # sizes of type in pixels
_SMALLEST_CELL = 256


@dataclass(frozen=True)
class Row:
    """A picture for each arm, under a prompt; `note` says which row of the prompt's it is."""

    prompt: str
    note: str
    pictures: Sequence[Image.Image]


def contact_sheet(rows: Sequence[Row], arms: Sequence[str], note: str = "") -> Image.Image:
    """Lay out rows (each prompt's together) under the names of the arms; `note` goes below in small type.

    Small pictures are enlarged by a whole number of times without smoothing, so that they show what was drawn.
    """
    cell_width, cell_height, scale = _cell(rows[0].pictures[0])
    width = max(2 * _MARGIN + len(arms) * (cell_width + _GAP) - _GAP, 2 * _MARGIN + 2 * _SMALLEST_CELL + _GAP)
    titles = {row.prompt: _wrap(row.prompt, _font(_PROMPT), width - 2 * _MARGIN) for row in rows}
    notes = _wrap(note, _font(_NOTE), width - 2 * _MARGIN) if note else []
    title_heights = (
        sum(len(lines) * _line(_PROMPT) + _line(_ARM) + 2 * _GAP for lines in titles.values()) - _GAP
    )
    height = (
        2 * _MARGIN
        + title_heights
        + len(rows) * (cell_height + _line(_NOTE) + _GAP)
        + len(notes) * _line(_NOTE)
    )
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen, y, shown = ImageDraw.Draw(sheet), _MARGIN, ""
    columns = [_MARGIN + i * (cell_width + _GAP) for i in range(len(arms))]
    for row in rows:
        if row.prompt != shown:
            y += _GAP if shown else 0
            shown = row.prompt
            y = _heading(pen, titles[shown], arms, columns, y)
        for x, picture in zip(columns, row.pictures, strict=True):
            enlarged = picture.resize(
                (picture.width * scale, picture.height * scale), Image.Resampling.NEAREST
            )
            sheet.paste(enlarged, (x, y))
        y += cell_height
        pen.text((_MARGIN, y + 5), row.note, _FAINT, _font(_NOTE))
        y += _line(_NOTE) + _GAP
    for line in notes:
        pen.text((_MARGIN, y), line, _FAINT, _font(_NOTE))
        y += _line(_NOTE)
    return sheet


def _heading(
    pen: ImageDraw.ImageDraw, title: list[str], arms: Sequence[str], columns: list[int], y: int
) -> int:
    for line in title:
        pen.text((_MARGIN, y), line, _INK, _font(_PROMPT))
        y += _line(_PROMPT)
    y += _GAP // 2
    for x, arm in zip(columns, arms, strict=True):
        pen.text((x, y), arm, _FAINT, _font(_ARM))
    return y + _line(_ARM) + _GAP // 2


def _cell(picture: Image.Image) -> tuple[int, int, int]:
    scale = max(1, -(-_SMALLEST_CELL // max(picture.size)))
    return picture.width * scale, picture.height * scale, scale


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _line(size: int) -> int:
    return round(size * 1.45)


def _wrap(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break at spaces; a word wider than the line is left whole."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
