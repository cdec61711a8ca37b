"""Find the public files of a benchmark below a data folder, in whatever layout they were unpacked."""

import os
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from negclip_core.errors import RequestError
from negclip_core.files import parse_json
from negclip_core.images import MOST_PIXELS

__all__ = [
    "MALFORMED",
    "Box",
    "as_size",
    "as_text",
    "cut_box",
    "find_file",
    "find_image",
    "has_file",
    "read_json",
    "read_lines",
    "sentence",
]

Box = tuple[float, float, float, float]  # x, y, width, height in pixels, from the top left

# What reading a document of another form than it should have may raise.
MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_LONGEST_SIDE = 100_000  # pixels

_IMAGES = (".jpg", ".jpeg", ".png", ".webp")


@cache
def _files(folder: Path) -> dict[str, list[Path]]:
    """Every file below `folder` by its name, the nearest first."""
    found: dict[str, list[Path]] = {}
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            found.setdefault(name, []).append(Path(root, name))
    return found


def find_file(data: Path, *patterns: str) -> Path:
    """The file below `data` that matches the first of the patterns that any file matches.

    A pattern is a file name with wildcards, or the end of a path ("refcoco/refs(unc).p").

    Raises:
        RequestError: there is none, or several match that pattern.
    """
    if not data.is_dir():
        raise RequestError(f"{data}: no such data folder")
    for pattern in patterns:
        matches = [
            path
            for name, paths in _files(data.resolve()).items()
            if Path(name).match(Path(pattern).name)
            for path in paths
            if path.match(pattern)
        ]
        if len(matches) > 1:
            listed = ", ".join(str(path.relative_to(data.resolve())) for path in matches[:4])
            raise RequestError(
                f"{data}: several files match {pattern}: {listed}; give a folder that holds one"
            )
        if matches:
            return matches[0]
    raise RequestError(
        f"{data}: no file called {' or '.join(patterns)}; see negclip eval --list for what a task needs"
    )


def has_file(data: Path, name: str) -> bool:
    """Whether a file of this name lies anywhere below `data`."""
    return name in _files(data.resolve())


def find_image(data: Path, name: str) -> Path:
    """The image of this file name anywhere below `data`.

    Raises:
        RequestError: there is none.
    """
    matches = _files(data.resolve()).get(Path(name).name, [])
    # A name with folders means that very place, where several images share the last part.
    exact = [path for path in matches if path.as_posix().endswith(f"/{name}")]
    for path in (*exact, *matches):
        if path.suffix.lower() in _IMAGES:
            return path
    raise RequestError(f"{data}: image {name} is not there; the annotations name it")


def cut_box(picture: Image.Image, box: Box, path: Path) -> Image.Image:
    """The part of a picture inside a box. Raises RequestError, which names `path`, if no pixel is inside."""
    x, y, w, h = box
    # Pillow rounds the corners to whole pixels, as the public evaluators' crops do.
    crop = picture.crop((x, y, x + w, y + h))
    if 0 in crop.size:
        raise RequestError(
            f"{path}: the box {list(box)} holds no pixel; expected [x, y, width, height] in pixels"
        )
    return crop


def as_size(image: Any) -> tuple[int, int]:
    """An entry's `height` and `width`. Raises ValueError where they are no picture's."""
    height, width = int(image["height"]), int(image["width"])
    if not (0 < height <= _LONGEST_SIDE and 0 < width <= _LONGEST_SIDE and height * width <= MOST_PIXELS):
        raise ValueError(f"no picture has {height} x {width} pixels")
    return height, width


def as_text(value: Any) -> str:
    """The value, which must be a text. Raises TypeError if it is none."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises RequestError if it is not JSON."""
    try:
        return parse_json(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path}: cannot be read as JSON ({error})") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file. Raises RequestError if it is no UTF-8 text."""
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: cannot be read as text ({error})") from error


def sentence(row: Any, key: str | int) -> str:
    """What a row says under a key, or a list at an index, without space around it.

    Raises:
        KeyError, IndexError, TypeError, ValueError: it says nothing, or no text.
    """
    found = row[key]
    if not isinstance(found, str):
        raise TypeError(f"{key!r} is {found!r:.40}, not a text")
    if not found.strip():
        raise ValueError(f"{key!r} is empty")
    return found.strip()
