"""CC-Neg: does the true caption score above the one that denies something in the picture?

name: cc-neg
kind: understanding
measures: share of images whose caption scores above a caption that denies something in them; share of ties
source: Singh et al., Learning the power of "No": foundation models with negations (CoN-CLIP), WACV 2025;
  ccneg_preprocessed.pt of github.com/jaisidhsingh/CoN-CLIP (228,246 images of CC-3M, the last 40,000 for evaluation)
licence: as CC-3M's; images as their owners say
needs: ccneg*.json ("image_paths"; "annotations" with "json"/"caption" and "sop_data"/"negative-prompt") and its images
  below --data. The public file is a pickle, which is not read: docs/evaluation.md has the line that turns it into JSON. Of
  more than 40,000 rows the last 40,000 are read, as the public evaluator does. The true caption never has the "no", so a
  model that shuns "no" wins without looking: run it with the blind arms
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eval.choice import chunks, item_rng, pick, refuse_nan, sampled
from eval.data import find_file, find_image, read_json, sentence
from eval.encoders import Scorer
from eval.options import Options
from eval.registry import Record, Values
from negclip_core.errors import RequestError

_CHUNK = 256
_EVALUATED = 40_000  # the last ones


@dataclass(frozen=True)
class Item:
    """One image with its caption and the caption that denies something in it."""

    id: str
    image: Path
    caption: str
    negated: str


def items(data: Path, options: Options) -> list[Item]:
    """The rows of CC-Neg's file. Raises RequestError for another form or a missing image."""
    path = _annotations(data)
    document = read_json(path)
    try:
        names, annotations = document["image_paths"], document["annotations"]
        if len(names) != len(annotations):
            raise ValueError(f"{len(names)} image_paths and {len(annotations)} annotations")
        rows = [
            (str(number), sentence(names, number), sentence(row["json"], "caption"),
             # The public loader takes the commas out.
             sentence(row["sop_data"], "negative-prompt").replace(",", ""))
            for number, row in enumerate(annotations)
        ]  # fmt: skip
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise RequestError(
            f"{path}: not CC-Neg's form, image_paths and as many annotations with json/caption and "
            f"sop_data/negative-prompt ({error!r})"
        ) from error
    drawn = sampled(rows[-_EVALUATED:], options.limit, options.seed)
    return [Item(key, find_image(data, name), caption, negated) for key, name, caption, negated in drawn]


def _annotations(data: Path) -> Path:
    try:
        return find_file(data, "ccneg*.json")
    except RequestError:
        if data.is_dir() and (pickled := sorted(data.rglob("ccneg*.pt"))):
            raise RequestError(
                f"{pickled[0]}: a pickle, which is not read; turn it into JSON by the line in docs/evaluation.md"
            ) from None
        raise


def run(items: list[Item], done: set[str], subject: Scorer, options: Options) -> Iterator[list[Record]]:
    """Score both captions against the image; a tie is settled at random."""
    for chunk in chunks(items, _CHUNK, done):
        scores = subject.fits(
            [item.image for item in chunk], [(item.caption, item.negated) for item in chunk]
        )
        refuse_nan(scores, subject.name, chunk[0].id)
        yield [_record(item, pair.tolist(), options.seed) for item, pair in zip(chunk, scores, strict=True)]


def _record(item: Item, scores: list[float], seed: int) -> Record:
    picked, tied = pick(scores, item_rng(seed, item.id))
    return {"id": item.id, "captions": [item.caption, item.negated], "scores": scores, "correct": picked == 0,
            "tied": tied}  # fmt: skip


def measure(records: list[Record], reference: list[Record], out: Path) -> Values:
    """Accuracy, and the share of ties."""
    return {
        "accuracy": {r["id"]: float(r["correct"]) for r in records},
        "ties": {r["id"]: float(r["tied"]) for r in records},
    }


def chance(records: list[Record]) -> dict[str, float]:
    """What guessing gets."""
    return {"accuracy": 1 / 2}
