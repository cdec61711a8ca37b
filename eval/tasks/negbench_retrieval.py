"""NegBench's retrieval: queries that say what is in the picture and what is not.

name: negbench-retrieval
kind: understanding
measures: share of captions whose image, and of images one of whose captions, is first (R@1) or among five (R@5);
  share of ties
source: Alhamoud et al., Vision-language models do not understand negation, CVPR 2025; *negated_retrieval*.csv of
  github.com/m1k2zoo/negbench
licence: MIT (annotations); images as their sources say
needs: one *negated_retrieval*.csv (filepath, captions as a list) and its images below --data; all images are ranked
  against each other, or --limit of them, which makes it easier; the paper gives R@5 from text to image
"""

import ast
import csv
import zlib
from pathlib import Path

from eval.choice import sampled
from eval.data import find_file, find_image
from eval.options import Options
from eval.tasks.retrieval import Item, chance, measure, run
from negclip_core.errors import RequestError

__all__ = ["chance", "items", "measure", "run"]


def items(data: Path, options: Options) -> list[Item]:
    """The rows of NegBench's file. Raises RequestError for another form or a missing image."""
    path = find_file(data, "*negated_retrieval*.csv")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                (str(n), row["filepath"], _captions(row["captions"]))
                for n, row in enumerate(csv.DictReader(file))
            ]
        if not rows:
            raise ValueError("no row")
    except (
        OSError,
        csv.Error,
        KeyError,
        TypeError,
        ValueError,
        SyntaxError,
        MemoryError,
        RecursionError,
    ) as error:
        raise RequestError(
            f"{path}: not NegBench's form, rows of filepath and captions, a list of sentences ({error!r})"
        ) from error
    drawn = sampled(rows, options.limit, options.seed)
    among = zlib.crc32(repr(drawn).encode())
    return [Item(key, find_image(data, name), captions, among) for key, name, captions in drawn]


def _captions(text: str) -> tuple[str, ...]:
    found = ast.literal_eval(text)
    if not (isinstance(found, list) and found and all(isinstance(caption, str) for caption in found)):
        raise ValueError(f"not a list of sentences: {text[:60]!r}")
    return tuple(found)
