"""An image folder for zero-shot classification: single things, cut out of drawings that hold nothing else; a class a kind."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from PIL import Image

from negclip_core.world.catalog import KINDS, Split
from negclip_core.world.drawing import draw, visible_boxes
from negclip_core.world.exports.pictures import SIZE, draw_all, stream, write_picture
from negclip_core.world.scenes import sample_scene

__all__ = ["TEMPLATES", "draw_singles"]

# In the words of the world's captions.
TEMPLATES = ("a {}", "the {}", "a photo of a {}", "a picture of a {}", "this is a {}")
_DRAWN = 256  # pixels a side, of which a part is kept
_MARGIN = 1.15  # of the longer side of the thing


def draw_singles(folder: Path, split: Split, seed: int, count: int) -> Iterator[str]:
    """Draw `count` pictures as `folder`/KIND/NAME.png, each kind as often as any other; their kinds."""
    return draw_all(partial(_single, folder, split, seed), count)


def _single(folder: Path, split: Split, seed: int, index: int) -> str:
    kind = KINDS[index % len(KINDS)]
    rng = stream("singles", split, seed, index)
    others = frozenset(KINDS) - {kind}
    scene = sample_scene(rng, require=frozenset({kind}), forbid=others)
    while len(scene.things) > 1:
        scene = sample_scene(rng, require=frozenset({kind}), forbid=others)
    picture = draw(scene, _DRAWN)
    x, y, w, h = visible_boxes(picture, scene)[0]
    side = min(_DRAWN, round(_MARGIN * max(w, h)))
    left, top = (min(max(0, round(middle - side / 2)), _DRAWN - side) for middle in (x + w / 2, y + h / 2))
    cut = Image.fromarray(picture.image).crop((left, top, left + side, top + side))
    write_picture(cut.resize((SIZE, SIZE), Image.Resampling.LANCZOS), folder / kind / f"{split}_single_{index:06d}.png")  # fmt: skip
    return kind
