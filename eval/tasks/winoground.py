"""Winoground: two images, two captions of the same words in another order; which belongs to which?

name: winoground
kind: understanding
measures: text score (for each image its own caption scores higher), image score (for each caption its own image does) and
  group score (both), over pairs of images; share of ties
source: Thrush et al., Winoground, CVPR 2022; examples.jsonl and images of the hub's facebook/winoground, 400 pairs
licence: the Winoground licence, for research only; its images are Getty's
needs: examples.jsonl, a line of "id", "image_0", "image_1", "caption_0", "caption_1" (and "tag") for each pair, and its
  images (named with or without .png) below --data
  published: CLIP B/32 text 30.75, image 10.50, group 8.00 %; people 89.50, 88.50, 85.50 % (table 3 of the paper)
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.choice import chunks, item_rng, places, refuse_nan, sampled
from eval.data import find_file, find_image, read_lines, sentence
from eval.encoders import Scorer
from eval.options import Options
from eval.registry import Record, Values
from negclip_core.errors import RequestError

_CHUNK = 128


@dataclass(frozen=True)
class Item:
    """Two images; the caption of each stands at its place."""

    id: str
    images: tuple[Path, Path]
    captions: tuple[str, str]
    tag: str


def items(data: Path, options: Options) -> list[Item]:
    """The pairs of the file. Raises RequestError for another form, a missing image or an id that is there twice."""
    path = find_file(data, "examples.jsonl")
    rows = [_row(path, number, line) for number, line in enumerate(read_lines(path), 1) if line.strip()]
    keys = [row[0] for row in rows]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise RequestError(f"{path}: the id {twice[0]} is there twice")
    return [
        Item(key, (_image(data, names[0]), _image(data, names[1])), captions, tag)
        for key, names, captions, tag in sampled(rows, options.limit, options.seed)
    ]


def _row(path: Path, number: int, line: str) -> tuple[str, tuple[str, str], tuple[str, str], str]:
    """The id, the images' names, the captions and the tag of a line."""
    try:
        row = json.loads(line)
        names = sentence(row, "image_0"), sentence(row, "image_1")
        captions = sentence(row, "caption_0"), sentence(row, "caption_1")
        return str(row["id"]), names, captions, str(row.get("tag", ""))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise RequestError(
            f"{path}: line {number}: not Winoground's form, an object with id, image_0, image_1, caption_0 and "
            f"caption_1 ({error!r})"
        ) from error


def _image(data: Path, name: str) -> Path:
    return find_image(data, name if Path(name).suffix else f"{name}.png")


def run(items: list[Item], done: set[str], subject: Scorer, options: Options) -> Iterator[list[Record]]:
    """Score both captions against both images; equal scores stand in an order that is drawn."""
    for chunk in chunks(items, _CHUNK, done):
        images = [image for item in chunk for image in item.images]
        scores = subject.fits(images, [item.captions for item in chunk for _ in item.images])
        refuse_nan(scores, subject.name, chunk[0].id)
        pairs = scores.reshape(len(chunk), 2, 2)  # image, caption
        yield [_record(item, pair, options.seed) for item, pair in zip(chunk, pairs, strict=True)]


def _record(item: Item, scores: np.ndarray, seed: int) -> Record:
    # One order of all four, as independent scores would give: the chances of the three measures are those of the paper.
    first, second_to_first, first_to_second, second = places(scores.ravel().tolist(), item_rng(seed, item.id))
    crossed = scores[0, 1], scores[1, 0]
    return {
        "id": item.id, "captions": list(item.captions), "tag": item.tag, "scores": scores.tolist(),
        "own_text": first < second_to_first and second < first_to_second,
        "own_image": first < first_to_second and second < second_to_first,
        "tied": scores[0, 0] in crossed or scores[1, 1] in crossed,
    }  # fmt: skip


def measure(records: list[Record], reference: list[Record], out: Path) -> Values:
    """The three scores of each pair of images; share of ties."""
    return {
        "text": {r["id"]: float(r["own_text"]) for r in records},
        "image": {r["id"]: float(r["own_image"]) for r in records},
        "group": {r["id"]: float(r["own_text"] and r["own_image"]) for r in records},
        "ties": {r["id"]: float(r["tied"]) for r in records},
    }


def chance(records: list[Record]) -> dict[str, float]:
    """What guessing gets."""
    return {"text": 1 / 4, "image": 1 / 4, "group": 1 / 6}
