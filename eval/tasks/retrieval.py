"""Retrieval among n images and their captions without negation: what an encoder must not lose.

name: retrieval
kind: understanding
measures: share of captions whose image, and of images one of whose captions, is first (R@1) or among five (R@5);
  share of ties
source: Lin et al., Microsoft COCO, 2014; captions JSON of any split
licence: CC BY 4.0 (annotations); images as Flickr's owners say
needs: captions_*.json in COCO's form and its images below --data; --limit is the number of images
  (default 1,000), with at most five captions each; captions that hold a negation are left out
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import comb
from pathlib import Path

import numpy as np

from eval.choice import item_rng, refuse_nan, sampled
from eval.data import MALFORMED, find_file, find_image, read_json, sentence
from eval.encoders import Part, Scorer
from eval.options import Options
from eval.registry import Record, Values
from negclip_core.errors import RequestError
from negclip_core.language import has_negation

_IMAGES, _CAPTIONS = 1_000, 5


@dataclass(frozen=True)
class Item:
    """An image, its captions, and a sum of all images and captions that it is ranked among."""

    id: str
    image: Path
    captions: tuple[str, ...]
    among: int


def items(data: Path, options: Options) -> list[Item]:
    """Images with at least one caption. Raises RequestError for a file that is not COCO captions."""
    path = find_file(data, "captions_val*.json", "captions_*.json", "captions*.json")
    captions: dict[int, list[str]] = {}
    try:
        document = read_json(path)
        for annotation in document["annotations"]:
            if not has_negation(annotation["caption"]):
                captions.setdefault(annotation["image_id"], []).append(annotation["caption"].strip())
        rows = [
            (str(image["id"]), sentence(image, "file_name"), captions[image["id"]])
            for image in document["images"]
            if image["id"] in captions
        ]
    except MALFORMED as error:
        raise RequestError(
            f"{path}: not COCO captions with 'images' and 'annotations' ({error!r})"
        ) from error
    return drawn_items(data, rows, replace(options, limit=options.limit or _IMAGES))


def drawn_items(data: Path, rows: list[tuple[str, str, list[str]]], options: Options) -> list[Item]:
    """The items of rows of an id, an image's name and its captions, of which five are kept; at most `options.limit` of them."""
    drawn = sampled(rows, options.limit, options.seed)
    among = zlib.crc32(repr(drawn).encode())
    return [Item(key, find_image(data, name), tuple(said[:_CAPTIONS]), among) for key, name, said in drawn]


def run(items: list[Item], done: set[str], subject: Scorer, options: Options) -> Iterator[list[Record]]:
    """Rank all images for each caption and all captions for each image; equal scores share their ranks at random."""
    if done.issuperset(item.id for item in items):
        return
    owner = np.repeat(np.arange(len(items)), [len(item.captions) for item in items])
    texts = subject.texts([caption for item in items for caption in item.captions])
    scores = texts @ subject.images([Part(item.image) for item in items]).T
    refuse_nan(scores, subject.name, "a caption")
    records = []
    for column, item in enumerate(items):
        rng = item_rng(options.seed, item.id)
        own = np.flatnonzero(owner == column)
        of_texts = [_rank(scores[row], np.array([column]), rng) for row in own]
        of_image = _rank(scores[:, column], own, rng)
        records.append({
            "id": item.id,
            "captions": list(item.captions),
            "text_ranks": [rank for rank, _ in of_texts],
            "image_rank": of_image[0],
            "tied": of_image[1] or any(tied for _, tied in of_texts),
        })  # fmt: skip
    yield records


def _rank(scores: np.ndarray, own: np.ndarray, rng: np.random.Generator) -> tuple[int, bool]:
    """The place of the best of `own`, 1 for the best of all, and whether others score as it does.

    Equals stand in one order that is drawn; of several own ones among them the first counts.
    """
    best = scores[own].max()
    equals, mine = int((scores == best).sum()), int((scores[own] == best).sum())
    first = int(rng.permutation(equals)[:mine].min())
    return 1 + int((scores > best).sum()) + first, equals > mine


def measure(records: list[Record], reference: list[Record], out: Path) -> Values:
    """R@1 and R@5, from text to image and from image to text; share of images with a tie in a rank of theirs."""
    return recall(records, (1, 5))


def recall(records: list[Record], ks: tuple[int, ...]) -> Values:
    """R@k for each k, and the share of ties, of the records that tell them."""
    values: Values = {}
    for k in ks:
        values[f"text-to-image-r@{k}"] = {
            f"{r['id']}/{number}": float(rank <= k)
            for r in records
            for number, rank in enumerate(r["text_ranks"])
        }
        values[f"image-to-text-r@{k}"] = {r["id"]: float(r["image_rank"] <= k) for r in records}
    return values | {"ties": {r["id"]: float(r["tied"]) for r in records if "tied" in r}}


def chance(records: list[Record]) -> dict[str, float]:
    """What a random order gets."""
    return recall_by_chance(records, (1, 5))


def recall_by_chance(records: list[Record], ks: tuple[int, ...]) -> dict[str, float]:
    """R@k of a random order for each k: of an image, that one of its captions is among the first k of all."""
    total = sum(len(r["captions"]) for r in records)
    values = {}
    for k in ks:
        values[f"text-to-image-r@{k}"] = min(1.0, k / len(records))
        missed = (
            [comb(total - len(r["captions"]), k) / comb(total, k) for r in records] if k <= total else [0.0]
        )
        values[f"image-to-text-r@{k}"] = 1 - sum(missed) / len(missed)
    return values
