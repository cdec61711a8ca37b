"""What can be tried with one click: pictures of the drawn world, painted at start, and what to ask of them."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from negclip_core.world.contrast import contrast
from negclip_core.world.drawing import draw
from negclip_core.world.exports.pictures import stream

__all__ = ["EXPRESSION", "TEXTS", "expression_examples", "text_examples", "write_examples"]

_SIDE = 256  # pixels
# By number among the held-out scenes that were made for a negated expression.
_SCENES = (9, 3, 7, 2)
_EXPRESSIONS = (
    "the woman without glasses",
    "the man with no umbrella",
    "the sofa where no one sits",
    "the cow that is not brown",
)
_TEXTS = (
    ("a park with no cars", "a park with no people", "a park with no bench"),
    ("a beach with no dog", "a beach with no people", "a beach with no boat"),
    ("a living room with no lamp", "a living room with no people", "a living room with no sofa"),
    ("a farm with no people", "a farm with no dog", "a farm without trees"),
)
EXPRESSION, TEXTS = _EXPRESSIONS[0], _TEXTS[0]


def write_examples(folder: Path) -> list[Path]:
    """Paint the pictures into a folder, which is made; they are the same each time."""
    folder.mkdir()
    paths = []
    for number in _SCENES:
        scene, _ = contrast(stream("contrasts", "test", 0, number), "test")
        paths.append(folder / f"{scene.place.replace(' ', '-')}.png")
        Image.fromarray(draw(scene, _SIDE, instances=False).image).save(paths[-1])
    return paths


def expression_examples(pictures: Sequence[Path]) -> list[list[str]]:
    """Rows of a picture and an expression to find in it."""
    return [[str(path), said] for path, said in zip(pictures, _EXPRESSIONS, strict=True)]


def text_examples(pictures: Sequence[Path]) -> list[list[str]]:
    """Rows of a picture and texts to compare it with, a line each."""
    return [[str(path), "\n".join(texts)] for path, texts in zip(pictures, _TEXTS, strict=True)]
