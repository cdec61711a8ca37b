"""VALSE existence: is "There are no people" told from "There are people"?

name: valse-existence
kind: understanding
measures: share of images whose caption scores above its foil, which differs by a negation
source: Parcalabescu et al., VALSE, ACL 2022; existence.json of github.com/Heidelberg-NLP/VALSE
licence: MIT (annotations); images as their sources say
needs: existence.json (or *existence*.json) and its images below --data
  published: CLIP B/32 70.97, NegationCLIP B/32 80.15 on all 534 rows; 505 rows have two or more annotators agreeing
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eval.choice import chunks, item_rng, pick, refuse_nan, sampled
from eval.data import MALFORMED, as_text, find_file, find_image, read_json
from eval.encoders import Scorer
from eval.options import Options
from eval.registry import Record, Values
from negclip_core.errors import RequestError

_CHUNK = 256


@dataclass(frozen=True)
class Item:
    """One image with its caption and foil; `agreed` if two annotators or more took the caption for right."""

    id: str
    image: Path
    caption: str
    foil: str
    agreed: bool


def items(data: Path, options: Options) -> list[Item]:
    """The rows of VALSE's file. Raises RequestError for another form or a missing image."""
    path = find_file(data, "existence.json", "*existence*.json")
    try:
        rows = [
            Item(key, find_image(data, row["image_file"]), as_text(row["caption"]), as_text(row["foil"]),
                 row.get("mturk", {}).get("caption", 3) >= 2)
            for key, row in read_json(path).items()
        ]  # fmt: skip
    except MALFORMED as error:
        raise RequestError(
            f"{path}: not VALSE's form, an object of rows with image_file, caption and foil ({error!r})"
        ) from error
    return sampled(rows, options.limit, options.seed)


def run(items: list[Item], done: set[str], subject: Scorer, options: Options) -> Iterator[list[Record]]:
    """Score caption and foil against the image; a tie is settled at random."""
    for chunk in chunks(items, _CHUNK, done):
        scores = subject.fits([item.image for item in chunk], [(item.caption, item.foil) for item in chunk])
        refuse_nan(scores, subject.name, chunk[0].id)
        yield [_record(item, pair.tolist(), options.seed) for item, pair in zip(chunk, scores, strict=True)]


def _record(item: Item, scores: list[float], seed: int) -> Record:
    picked, tied = pick(scores, item_rng(seed, item.id))
    return {"id": item.id, "scores": scores, "correct": picked == 0, "tied": tied, "agreed": item.agreed}


def measure(records: list[Record], reference: list[Record], out: Path) -> Values:
    """Accuracy on all rows and on those whose caption the annotators confirmed; share of ties."""
    return {
        "accuracy": {r["id"]: float(r["correct"]) for r in records},
        "accuracy-agreed": {r["id"]: float(r["correct"]) for r in records if r["agreed"]},
        "ties": {r["id"]: float(r["tied"]) for r in records},
    }


def chance(records: list[Record]) -> dict[str, float]:
    """What guessing gets."""
    return {"accuracy": 1 / 2, "accuracy-agreed": 1 / 2}
