"""SimpleNeg-style triples: of a caption, a true denial and a false one, does the false one score lowest?

name: simpleneg
kind: understanding
measures: share of images for which the true denial scores above the false one (accuracy), the caption without "no" above the
  false denial, and the false denial below both; share of ties
source: this project, after Sammani, Chamiti et al., When negation is a geometry problem, arXiv 2603.20554. Their SimpleNeg
  ranks COCO val2014 for each text and lets a language model with eyes answer two questions about what comes first (CLIP
  B/32 44.9 % top-1, their steering 54.3 %); these figures are of another measure
licence: MIT
needs: simpleneg_triples.json, a list of {"image", "affirmative", "negated_true", "negated_false"}, and its images
  below --data; negclip miniature export writes one
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eval.choice import chunks, item_rng, places, refuse_nan, sampled
from eval.data import find_file, find_image, read_json, sentence
from eval.encoders import Scorer
from eval.options import Options
from eval.registry import Record, Values
from negclip_core.errors import RequestError

_CHUNK = 256
_CAPTIONS = ("affirmative", "negated_true", "negated_false")


@dataclass(frozen=True)
class Item:
    """One image, and its captions in the order of `_CAPTIONS`."""

    id: str
    image: Path
    captions: tuple[str, ...]


def items(data: Path, options: Options) -> list[Item]:
    """The rows of the file. Raises RequestError for another form or a missing image."""
    path = find_file(data, "simpleneg_triples.json")
    document = read_json(path)
    try:
        if not isinstance(document, list):
            raise TypeError(f"{type(document).__name__}, not a list")
        rows = [
            (str(number), sentence(row, "image"), tuple(sentence(row, key) for key in _CAPTIONS))
            for number, row in enumerate(document)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"{path}: not a list of image, affirmative, negated_true and negated_false ({error!r})"
        ) from error
    drawn = sampled(rows, options.limit, options.seed)
    return [Item(key, find_image(data, name), captions) for key, name, captions in drawn]


def run(items: list[Item], done: set[str], subject: Scorer, options: Options) -> Iterator[list[Record]]:
    """Put the captions in the order of their scores; equal ones stand in an order that is drawn."""
    for chunk in chunks(items, _CHUNK, done):
        scores = subject.fits([item.image for item in chunk], [item.captions for item in chunk])
        refuse_nan(scores, subject.name, chunk[0].id)
        yield [_record(item, row.tolist(), options.seed) for item, row in zip(chunk, scores, strict=True)]


def _record(item: Item, scores: list[float], seed: int) -> Record:
    affirmative, true, false = places(scores, item_rng(seed, item.id))
    return {
        "id": item.id, "captions": list(item.captions), "scores": scores, "correct": true < false,
        "affirmed": affirmative < false, "tied": scores[2] in scores[:2],
    }  # fmt: skip


def measure(records: list[Record], reference: list[Record], out: Path) -> Values:
    """Which captions stand above the false denial; share of ties with it."""
    return {
        "accuracy": {r["id"]: float(r["correct"]) for r in records},
        "affirmative-above-false": {r["id"]: float(r["affirmed"]) for r in records},
        "false-lowest": {r["id"]: float(r["correct"] and r["affirmed"]) for r in records},
        "ties": {r["id"]: float(r["tied"]) for r in records},
    }


def chance(records: list[Record]) -> dict[str, float]:
    """What guessing gets. None where the caption without "no" counts: who shuns "no" puts it first without looking."""
    return {"accuracy": 1 / 2}
