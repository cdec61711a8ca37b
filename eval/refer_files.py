"""Referring expressions and the masks they mean, from the public files as they are: REFER's, gRefCOCO's."""

import io
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.choice import sampled
from eval.data import MALFORMED, as_size, find_file, find_image, read_json
from eval.options import Options
from negclip_core.errors import RequestError
from negclip_core.language import has_negation

__all__ = ["Referred", "read_plain_pickle", "referred", "truth"]

# What the files call a split: RefCOCO's test split comes in two parts.
_NAMES = {"test": ("test", "testA", "testB"), "validation": ("validation", "val")}


@dataclass(frozen=True)
class Referred:
    """An expression about an image, and what it means there."""

    id: str
    image: Path
    expression: str
    family: str  # the file's own, else "negated" or "affirmative"
    negated: bool
    size: tuple[int, int]  # height, width of the image in pixels
    shapes: tuple[
        Any, ...
    ]  # COCO segmentations (polygons or run lengths) of what is meant; empty: nothing is


def _in_split(name: str, split: str) -> bool:
    """Whether a file's name of a split is the one that was asked for."""
    return name in _NAMES.get(split, (split,))


class _Plain(pickle.Unpickler):
    """Builds numbers, text, lists and dicts, and refuses whatever else a pickle may ask for."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}, and a list of references needs no such thing"
        )


def read_plain_pickle(path: Path) -> Any:
    """The plain data in a pickle such as REFER's "refs(unc).p"; nothing in it is executed.

    Raises:
        RequestError: it is no pickle, or holds more than plain data.
    """
    try:
        # REFER's were written by Python 2, whose strings are bytes.
        return _Plain(io.BytesIO(path.read_bytes()), encoding="utf-8").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise RequestError(f"{path}: cannot be read as a pickle of plain data ({error})") from error


def referred(data: Path, patterns: tuple[str, ...], options: Options) -> list[Referred]:
    """The expressions of the split that `options` names, from a file of REFER's form and the instances beside it.

    `ann_id` may be a list (gRefCOCO); -1 stands for nothing.

    Raises:
        RequestError: a file is missing or of another form, or there is no expression of that split.
    """
    path = find_file(data, *patterns)
    refs = read_plain_pickle(path) if path.suffix == ".p" else read_json(path)
    instances = find_file(path.parent, "instances.json", "instances_*.json")
    document = read_json(instances)
    try:
        images = {image["id"]: image for image in document["images"]}
        shapes = {each["id"]: each["segmentation"] for each in document["annotations"]}
        rows = [
            (ref, sentence, images[ref["image_id"]], tuple(shapes[i] for i in _meant(ref)))
            for ref in refs
            if _in_split(ref["split"], options.split)
            for sentence in ref["sentences"]
        ]
        chosen = sampled(rows, options.limit, options.seed)
        found = [_item(data, *row) for row in chosen]
    except MALFORMED as error:
        raise RequestError(
            f"{path}: not a list of refs with image_id, ann_id, split, sentences that {instances.name} knows ({error!r})"
        ) from error
    if not found:
        there = sorted({str(ref["split"]) for ref in refs})
        raise RequestError(
            f"{path}: no expression of the split {options.split!r}; it has {', '.join(there) or 'none'}"
        )
    return found


def _meant(ref: dict[str, Any]) -> list[int]:
    given = ref["ann_id"]
    return [number for number in (given if isinstance(given, list) else [given]) if number != -1]


def _item(
    data: Path, ref: dict[str, Any], sentence: dict[str, Any], image: dict[str, Any], shapes: tuple[Any, ...]
) -> Referred:
    text = sentence["sent"]
    negated = has_negation(text)
    family = ref.get("family") or ("negated" if negated else "affirmative")
    size = as_size(image)
    return Referred(f"{ref['ref_id']}/{sentence['sent_id']}", find_image(data, image["file_name"]), text, family,
                    negated, size, shapes)  # fmt: skip


def truth(item: Referred) -> np.ndarray:
    """What the expression means: bool [height, width]; all False where it means nothing.

    Raises:
        RequestError: a segmentation is none, or is of another size than the image.
    """
    from pycocotools import mask as coco

    height, width = item.size
    found = np.zeros(item.size, dtype=bool)
    for shape in item.shapes:
        try:
            packed = shape if _is_packed(shape) else coco.frPyObjects(shape, height, width)
            parts: Iterable[Any] = packed if isinstance(packed, list) else [packed]
            for part in parts:
                # Before it is unpacked: run lengths may claim any size.
                if list(part["size"]) != [height, width]:
                    raise ValueError(f"it is one of {part['size']}")
                found |= coco.decode(part).astype(bool)
        except Exception as error:  # pycocotools raises plain exceptions of all kinds
            raise RequestError(
                f"expression {item.id}: its segmentation is not one of {width} x {height} pixels ({error})"
            ) from error
    return found


def _is_packed(shape: Any) -> bool:
    return isinstance(shape, dict) and isinstance(shape.get("counts"), str | bytes)
