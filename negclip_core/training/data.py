"""Negated captions as training reads them: texts as token ids, images as rows of a feature table.

The file is COCO captions JSON whose annotations keep `caption` and gain `updated_caption` (the paper's form). Three
more keys are used where they are there and derived by `negclip_core.language` where not: `absent` (what is absent),
`affirmative` (the rest of the caption) and `asserted` (the counterpart that says the thing is there). `of` says who
lacks it where it is not the picture. A top-level list `present` holds the same for things that the verifier found *in* the image: there the negated text is false.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from negclip_core.errors import RequestError
from negclip_core.language import parse

__all__ = ["NegatedCaption", "TrainingSet", "read_captions", "split_rows", "tokenise"]

Tokenizer = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class NegatedCaption:
    """One caption, what it does not mention, and whether the image lacks it."""

    file_name: str
    caption: str
    negated: str
    affirmative: str
    asserted: str
    holds: bool  # True: the image lacks the thing, so `negated` is right; False: `asserted` is
    absent: tuple[str, ...]  # what is denied: "cars", or "hat of man"


def _record(entry: dict[str, Any], file_name: str, negated: str, holds: bool) -> NegatedCaption:
    parsed = None if {"affirmative", "asserted", "absent"} <= entry.keys() else parse(negated)
    affirmative = entry.get("affirmative", parsed.affirmative if parsed else "")
    denied = [thing for each in parsed.negations for thing in each.absent] if parsed else []
    absent = entry.get("absent") or denied
    asserted = entry.get("asserted") or f"{affirmative} with {' and '.join(absent)}".strip()
    of = f" of {entry['of']}" if entry.get("of") else ""
    things = tuple(f"{thing}{of}" for thing in absent)
    return NegatedCaption(file_name, entry["caption"], negated, affirmative, asserted, holds, things)


def read_captions(path: Path) -> list[NegatedCaption]:
    """Read a captions file in the form above.

    Raises:
        RequestError: the file is not such JSON, or holds no `updated_caption`.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
        names = {image["id"]: image["file_name"] for image in document["images"]}
        records = [
            _record(entry, names[entry["image_id"]], entry["updated_caption"], True)
            for entry in document["annotations"]
            if entry.get("updated_caption")
        ]
        records += [
            _record(e, names[e["image_id"]], e["negated"], False) for e in document.get("present", [])
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"{path}: not a COCO captions file with 'images' and 'annotations' ({type(error).__name__}: {error}); "
            "make one with negclip synthesize"
        ) from error
    if not records:
        raise RequestError(f"{path}: no annotation holds 'updated_caption'; make one with negclip synthesize")
    return records


def split_rows(
    records: list[NegatedCaption], by: str, fraction: float = 0.2, seed: int = 42
) -> tuple[Tensor, Tensor]:
    """Rows for training and for validation.

    Args:
        by: "image" keeps all captions of an image on one side; "caption" repeats the public code's split (numpy
            shuffle, seed 42, 20 %), which lets both sides share images.
    """
    generator = np.random.RandomState(seed)
    if by == "caption":
        order = np.arange(len(records))
        generator.shuffle(order)
        size = int(len(records) * fraction)
        return torch.from_numpy(np.sort(order[size:])), torch.from_numpy(np.sort(order[:size]))
    names = sorted({record.file_name for record in records})
    generator.shuffle(names)
    held = set(names[: int(len(names) * fraction)])
    mine = np.array([record.file_name in held for record in records])
    return torch.from_numpy(np.flatnonzero(~mine)), torch.from_numpy(np.flatnonzero(mine))


def tokenise(tokenizer: Tokenizer, texts: list[str], end: int | None = None) -> Tensor:
    """Token ids int32 [n, context], padded after the end token with `end`, as Stable Diffusion's tokenizer pads."""
    ids = torch.cat([tokenizer(texts[i : i + 4096]) for i in range(0, len(texts), 4096)])
    ends = ids.argmax(1, keepdim=True)
    fill = ids.gather(1, ends) if end is None else torch.full_like(ends, end)
    after = torch.arange(ids.shape[1])[None] > ends
    return torch.where(after, fill, ids).to(torch.int32)


@dataclass(frozen=True)
class TrainingSet:
    """All that objectives may read, a row a record."""

    features: Tensor  # float32 [images, embed_dim], unit length
    image: Tensor  # int64 [rows], row of `features`
    caption: Tensor  # int32 [rows, context]
    negated: Tensor
    affirmative: Tensor
    asserted: Tensor
    holds: Tensor  # bool [rows]
    things: tuple[str, ...]  # all that any row denies
    absent: Tensor  # bool [rows, things], what each row denies
    empty: Tensor  # int32 [1, context], the prompt ""

    @classmethod
    def make(
        cls, records: list[NegatedCaption], features: dict[str, Tensor], tokenizer: Tokenizer
    ) -> "TrainingSet":
        """Tokenise the records and point each at its image's features."""
        names = {name: row for row, name in enumerate(features)}

        def ids(field: str) -> Tensor:
            return tokenise(tokenizer, [getattr(record, field) for record in records])

        things = sorted({thing for record in records for thing in record.absent})
        column = {thing: number for number, thing in enumerate(things)}
        absent = torch.zeros(len(records), len(things), dtype=torch.bool)
        for row, record in enumerate(records):
            absent[row, [column[thing] for thing in record.absent]] = True
        return cls(
            features=torch.stack(list(features.values())),
            image=torch.tensor([names[record.file_name] for record in records]),
            caption=ids("caption"),
            negated=ids("negated"),
            affirmative=ids("affirmative"),
            asserted=ids("asserted"),
            holds=torch.tensor([record.holds for record in records]),
            things=tuple(things),
            absent=absent,
            empty=tokenise(tokenizer, [""]),
        )
