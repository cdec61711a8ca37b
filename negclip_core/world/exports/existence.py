"""VALSE's existence form ("There are no cars ..." or "There are cars ...") and CelebA's list of attributes."""

from typing import Any

import numpy as np

from negclip_core.captions.phrasings import negated
from negclip_core.world.catalog import Split, absence, split_of
from negclip_core.world.exports.pictures import Drawn, stream
from negclip_core.world.language import preposition
from negclip_core.world.negation import likely

__all__ = ["celeba_list", "valse_existence"]

# CelebA's own names where it has one.
_ATTRIBUTES = {"Eyeglasses": "glasses", "Wearing_Hat": "hat", "Holding_Umbrella": "umbrella"}


def valse_existence(pictures: list[Drawn], split: Split, seed: int) -> dict[str, dict[str, Any]]:
    """One row a picture of a place for which the split owns a combination; in half the "no" is true.

    The things are those that are likely in the place, so that neither sentence is true more often by itself.
    """
    rng = stream("existence", split, seed)
    rows: dict[str, dict[str, Any]] = {}
    absent = present = 0
    for drawn in pictures:
        place = drawn.scene.place
        kinds = [kind for kind in likely(place) if split_of("place_kind", place, kind) == split]
        wanted = [kind for kind in kinds if drawn.scene.has(kind) == (present < absent)]
        if not wanted:
            continue
        kind = wanted[int(rng.integers(len(wanted)))]
        rows[f"existence_world_{split}_{drawn.image_id}"] = _row(drawn, kind, split, rng)
        present, absent = present + drawn.scene.has(kind), absent + (not drawn.scene.has(kind))
    return rows


def _row(drawn: Drawn, kind: str, split: Split, rng: np.random.Generator) -> dict[str, Any]:
    place = drawn.scene.place
    text = negated(
        "", [absence(kind)], rng, family="existence", split=split, place=place, prep=preposition(place)
    )
    count = sum(thing.kind == kind for thing in drawn.scene.things)
    caption, foil = (text.asserted, text.text) if count else (text.text, text.asserted)
    return {
        "dataset": "negclip-world", "dataset_idx": str(drawn.image_id), "image_file": drawn.file_name,
        "linguistic_phenomena": "existence", "caption": caption, "answer": count, "classes": count,
        "split": split, "original_split": split, "classes_foil": [0] if count else [1, 2, 3],
        "declarative_statement": caption, "declarative_statement_foils": [foil],
        "provenance_of_foils": "something_to_zero" if count else "zero_to_something",
        "mturk": {"foil": 0, "caption": 3, "other": 0}, "foil": foil,
    }  # fmt: skip


def celeba_list(pictures: list[Drawn]) -> str:
    """`list_attr_celeba.txt` of the pictures with one person: a count, the names, then 1 or -1s a line."""
    lines = []
    for drawn in pictures:
        people = [thing for thing in drawn.scene.things if thing.kind == "person"]
        if len(people) == 1:
            flags = [name in people[0].attributes for name in _ATTRIBUTES.values()] + [
                people[0].gender == "man"
            ]
            lines.append(" ".join([drawn.file_name, *("1" if flag else "-1" for flag in flags)]))
    return "\n".join([str(len(lines)), " ".join([*_ATTRIBUTES, "Male"]), *lines]) + "\n"
