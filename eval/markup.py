"""Bits of HTML that the parts of a report share. What they are given as cells is HTML already; `e` makes it of text."""

import html
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

__all__ = ["count", "e", "interval", "link", "p_value", "signed", "table"]

_LEAST = 1e-6  # the smallest p that is told


def e(value: object) -> str:
    """Text as HTML."""
    return html.escape(str(value))


def count(row: dict[str, float]) -> str:
    """ "495 in 414": how many units, and of how many groups where those are fewer."""
    n, groups = f"{row['n']:.0f}", f"{row['groups']:.0f}"
    return n if n == groups else f"{n} in {groups}"


def interval(row: dict[str, float] | None, digits: int = 4) -> str:
    """ "0.5000 [0.4000, 0.6000]"; a dash for nothing."""
    if row is None:
        return "-"
    value, low, high = (f"{row[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def signed(row: dict[str, float], digits: int = 4) -> str:
    """A paired difference with its interval, "+0.1000 [+0.0500, +0.1500]"."""
    value, low, high = (f"{row[name]:+.{digits}f}" for name in ("difference", "low", "high"))
    return f"{value} [{low}, {high}]"


def p_value(p: float) -> str:
    """ "0.012"; what is smaller than records keep is not called 0."""
    return f"{p:.2g}" if p >= _LEAST else f"< {_LEAST:g}"


def link(text: str, file: Path, page: Path) -> str:
    """A link from the page in the folder `page` to a file."""
    return f'<a href="{quote(Path(os.path.relpath(file, page)).as_posix())}">{e(text)}</a>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls by itself where the page is narrow."""
    cells = "".join(f"<th>{cell}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=scroll><table><tr>{cells}</tr>{lines}</table></div>"
