"""NegBench's multiple choice: which of four captions is true, where the others say or deny the wrong thing?

name: negbench-mcq
kind: understanding
measures: share of images whose true caption scores above all others, by what it does (positive, negative, hybrid)
source: Alhamoud et al., Vision-language models do not understand negation, CVPR 2025; *mcq*.csv of
  github.com/m1k2zoo/negbench
licence: MIT (annotations); images as their sources say
needs: one *mcq*.csv (image_path, correct_answer, caption_0 ... caption_3, correct_answer_template) and its images below
  --data. In the public files the true caption is the first of every row, so that whoever takes the first of equals
  scores 100 %: here equals are settled at random, whatever stands first
  published: CLIP B/32 39.3 % on COCO and 38.7 % on VOC2007, after the benchmark's fix of March 2025
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eval.choice import chunks, item_rng, pick, refuse_nan, sampled
from eval.data import as_text, find_file, find_image
from eval.encoders import Scorer
from eval.options import Options
from eval.registry import Record, Values
from negclip_core.errors import RequestError

_CHUNK = 256
_CAPTIONS = 4


@dataclass(frozen=True)
class Item:
    """One image, its captions, which of them is true, and what that one does."""

    id: str
    image: Path
    captions: tuple[str, ...]
    correct: int
    template: str


def items(data: Path, options: Options) -> list[Item]:
    """The rows of NegBench's file. Raises RequestError for another form or a missing image."""
    path = find_file(data, "*mcq*.csv")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        found = [
            Item(str(number), find_image(data, row["image_path"]),
                 tuple(as_text(row[f"caption_{i}"]) for i in range(_CAPTIONS)), range(_CAPTIONS)[int(row["correct_answer"])],
                 as_text(row["correct_answer_template"]))
            for number, row in enumerate(rows)
        ]  # fmt: skip
    except (OSError, csv.Error, KeyError, TypeError, ValueError, IndexError) as error:
        raise RequestError(
            f"{path}: not NegBench's form, rows of image_path, correct_answer, caption_0 ... caption_3 and "
            f"correct_answer_template ({error!r})"
        ) from error
    return sampled(found, options.limit, options.seed)


def run(items: list[Item], done: set[str], subject: Scorer, options: Options) -> Iterator[list[Record]]:
    """Score all captions of an image against it; a tie is settled at random."""
    for chunk in chunks(items, _CHUNK, done):
        scores = subject.fits([item.image for item in chunk], [item.captions for item in chunk])
        refuse_nan(scores, subject.name, chunk[0].id)
        yield [_record(item, row.tolist(), options.seed) for item, row in zip(chunk, scores, strict=True)]


def _record(item: Item, scores: list[float], seed: int) -> Record:
    picked, tied = pick(scores, item_rng(seed, item.id))
    return {"id": item.id, "scores": scores, "correct": picked == item.correct, "tied": tied,
            "template": item.template}  # fmt: skip


def measure(records: list[Record], reference: list[Record], out: Path) -> Values:
    """Accuracy on all rows and by template; share of ties."""
    values = {"accuracy": {r["id"]: float(r["correct"]) for r in records}}
    for template in sorted({r["template"] for r in records}):
        values[f"accuracy-{template}"] = {
            r["id"]: float(r["correct"]) for r in records if r["template"] == template
        }
    return values | {"ties": {r["id"]: float(r["tied"]) for r in records}}


def chance(records: list[Record]) -> dict[str, float]:
    """What guessing gets. None by template: who always picks the caption of one template is right wherever it is the true one."""
    return {"accuracy": 1 / _CAPTIONS}
