"""NegRefCOCOg: which of the boxes is "a chair that is not being sat in"?

name: negrefcocog
kind: understanding
measures: share of phrases whose own box is the one most similar to them
source: Park et al., Know "No" Better, ICCV 2025, from RefCOCOg's expressions on COCO train2014
licence: as COCO's and RefCOCOg's
needs: negrefcocog*.json, a list of image, phrase, ref_bbox, bbox_list (x, y, width, height in pixels), and its
  images below --data
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eval.choice import chunks, item_rng, pick, refuse_nan, sampled
from eval.data import MALFORMED, Box, as_text, find_file, find_image, read_json
from eval.encoders import Part, Scorer
from eval.options import Options
from eval.registry import Record, Values
from negclip_core.errors import RequestError
from negclip_core.language import has_negation

_CHUNK = 128


@dataclass(frozen=True)
class Item:
    """A phrase, the boxes to choose from, and which of them it is about."""

    id: str
    image: Path
    phrase: str
    boxes: tuple[Box, ...]
    answer: int


def items(data: Path, options: Options) -> list[Item]:
    """The rows of the file. Raises RequestError for another form, or an answer that is not among the boxes."""
    path = find_file(data, "negrefcocog*.json", "NegRefCOCOg*.json")
    try:
        rows = [_item(data, path, number, row) for number, row in enumerate(read_json(path))]
    except MALFORMED as error:
        raise RequestError(f"{path}: not a list of image, phrase, ref_bbox, bbox_list ({error!r})") from error
    return sampled(rows, options.limit, options.seed)


def _item(data: Path, path: Path, number: int, row: Record) -> Item:
    boxes = tuple((float(x), float(y), float(w), float(h)) for x, y, w, h in row["bbox_list"])
    answer = tuple(float(side) for side in row["ref_bbox"])
    if answer not in boxes:
        raise RequestError(f"{path}: row {number}: ref_bbox {list(answer)} is not in bbox_list")
    return Item(
        str(number), find_image(data, row["image"]), as_text(row["phrase"]), boxes, boxes.index(answer)
    )


def run(items: list[Item], done: set[str], subject: Scorer, options: Options) -> Iterator[list[Record]]:
    """Compare each phrase with the crops of its boxes."""
    for chunk in chunks(items, _CHUNK, done):
        texts = subject.texts([item.phrase for item in chunk])
        crops = subject.images([Part(item.image, box) for item in chunk for box in item.boxes])
        records, row = [], 0
        for item, text in zip(chunk, texts, strict=True):
            scores = crops[row : row + len(item.boxes)] @ text
            row += len(item.boxes)
            refuse_nan(scores, subject.name, item.id)
            records.append(_record(item, scores.tolist(), options.seed))
        yield records


def _record(item: Item, scores: list[float], seed: int) -> Record:
    picked, tied = pick(scores, item_rng(seed, item.id))
    return {
        "id": item.id, "phrase": item.phrase, "scores": scores, "picked": picked, "tied": tied,
        "correct": item.boxes[picked] == item.boxes[item.answer], "negated": has_negation(item.phrase),
        "chance": 1 / len(item.boxes),
    }  # fmt: skip


def measure(records: list[Record], reference: list[Record], out: Path) -> Values:
    """Accuracy on all phrases, on those with and without negation; what guessing would get; share of ties."""
    correct = {r["id"]: float(r["correct"]) for r in records}
    return {
        "accuracy": correct,
        "accuracy-negated": {r["id"]: correct[r["id"]] for r in records if r["negated"]},
        "accuracy-affirmative": {r["id"]: correct[r["id"]] for r in records if not r["negated"]},
        "chance": {r["id"]: r["chance"] for r in records},
        "ties": {r["id"]: float(r["tied"]) for r in records},
    }


def chance(records: list[Record]) -> dict[str, float]:
    """What guessing gets: one in as many boxes as there are."""
    values = measure(records, records, Path())
    of_items = values["chance"]
    return {
        name: sum(of_items[unit] for unit in values[name]) / len(values[name])
        for name in ("accuracy", "accuracy-negated", "accuracy-affirmative")
        if values[name]
    }
