"""From a scene to its picture, and to the map of which pixel shows which thing.

Painted back to front at several times the size and averaged down, so that edges are smooth; each stroke also
paints the map of instances, so masks cost nothing and agree with the picture.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from negclip_core.errors import RequestError
from negclip_core.world.scenes import Box, Scene, Thing
from negclip_core.world.sprites import SPRITES
from negclip_core.world.sprites.pen import Pen
from negclip_core.world.sprites.people import draw_person
from negclip_core.world.sprites.places import draw_place

__all__ = ["Picture", "draw", "visible_boxes", "visible_fraction"]

_SUPERSAMPLING = 4
_CABINET = (132, 140, 148)


@dataclass(frozen=True)
class Picture:
    """`image` is RGB uint8[size, size, 3]; `instances` uint8[size, size]: 0 the backdrop, i + 1 things[i]."""

    image: np.ndarray
    instances: np.ndarray | None


def draw(scene: Scene, size: int = 64, instances: bool = True) -> Picture:
    """Paint a scene, the same each time; `size` is the side in pixels, a multiple of 8 from 8 to 1024.

    Without `instances` the map is None and drawing is faster. Raises RequestError for another size.
    """
    if size % 8 or not 8 <= size <= 1024:
        raise RequestError(f"size {size}: pictures are squares of a multiple of 8 pixels, from 8 to 1024")
    side = size * _SUPERSAMPLING
    canvas = Image.new("RGB", (side, side))
    marks = Image.new("L", (side, side)) if instances else None
    pen = Pen(ImageDraw.Draw(canvas), ImageDraw.Draw(marks) if marks else None, side)
    draw_place(pen, scene.place, scene.variant)
    for index in range(len(scene.things)):
        _draw_thing(pen, scene, index)
    image = np.asarray(canvas.reduce(_SUPERSAMPLING))
    return Picture(image, None if marks is None else _nearest(marks))


def _draw_thing(pen: Pen, scene: Scene, index: int) -> None:
    thing = scene.things[index]
    if _on_cabinet(scene, thing):
        _draw_cabinet(pen, thing.box)
    own = pen.within(thing.box, mark=index + 1, mirrored=bool(thing.variant & 1))
    if thing.kind == "person":
        draw_person(own, thing, "" if thing.sits_on is None else scene.things[thing.sits_on].kind)
    else:
        SPRITES[thing.kind](own, thing)


def _on_cabinet(scene: Scene, thing: Thing) -> bool:
    """In an office without a table, laptops and cups stand on a filing cabinet, part of the backdrop."""
    return scene.place == "office" and thing.kind in ("laptop", "cup") and not scene.has("table")


def _draw_cabinet(pen: Pen, box: Box) -> None:
    x, y, w, h = box
    wide = max(w, 0.22)
    own = pen.within((x + w / 2 - wide / 2, y + h - 0.012, wide, max(0.12, 0.88 - y - h)), mark=0)
    own.rectangle(0, 0, 1, 1, _CABINET, (84, 90, 98))
    for top in (0.08, 0.54):
        own.rectangle(0.08, top, 0.92, top + 0.38, (164, 172, 180))
        own.rectangle(0.36, top + 0.12, 0.64, top + 0.22, (84, 90, 98))


def _nearest(marks: Image.Image) -> np.ndarray:
    """The mark in the middle of each pixel: averaging marks would invent things."""
    middle = _SUPERSAMPLING // 2
    return np.ascontiguousarray(np.asarray(marks)[middle::_SUPERSAMPLING, middle::_SUPERSAMPLING])


def visible_boxes(picture: Picture, scene: Scene) -> list[tuple[int, int, int, int]]:
    """For each thing the tight box (x, y, w, h) of its visible pixels; (0, 0, 0, 0) where none is visible.

    Raises RequestError if the picture was drawn without instances.
    """
    return [_tight(_instances(picture) == i + 1) for i in range(len(scene.things))]


def visible_fraction(picture: Picture, scene: Scene) -> list[float]:
    """For each thing the share of its pixels that no nearer thing hides, in [0, 1]."""
    instances = _instances(picture)
    size = instances.shape[0]
    side = size * _SUPERSAMPLING
    fractions = []
    for index in range(len(scene.things)):
        marks = Image.new("L", (side, side))
        _draw_thing(
            Pen(ImageDraw.Draw(Image.new("RGB", (side, side))), ImageDraw.Draw(marks), side), scene, index
        )
        alone = int(np.count_nonzero(_nearest(marks)))
        fractions.append(int(np.count_nonzero(instances == index + 1)) / max(alone, 1))
    return fractions


def _instances(picture: Picture) -> np.ndarray:
    if picture.instances is None:
        raise RequestError("the picture has no map of instances; draw it with instances=True")
    return picture.instances


def _tight(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return (0, 0, 0, 0)
    x, y = int(columns[0]), int(rows[0])
    return (x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1)
