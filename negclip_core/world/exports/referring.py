"""Phrases for single things: RefCOCOg's form, with and without negation, gRefCOCO's, and NegRefCOCOg's."""

import re
from typing import Any

from negclip_core.world.catalog import Split
from negclip_core.world.exports.coco import category, instance_id
from negclip_core.world.exports.pictures import Drawn, stream
from negclip_core.world.referring import Expression, referring, unmatched

__all__ = ["grefcoco", "negrefcocog", "refcocog"]

_NOTHING = -1  # gRefCOCO's mark of an expression that no thing fits


def refcocog(pictures: list[Drawn], split: Split, seed: int, negated: bool) -> list[dict[str, Any]]:
    """RefCOCOg's refs: a phrase for each thing that one can be had for; boxes are in the instances by `ann_id`."""
    refs: list[dict[str, Any]] = []
    for drawn in pictures:
        rng = stream("referring", split, seed, 2 * drawn.image_id + negated)
        for index in range(len(drawn.scene.things)):
            phrase = referring(drawn.scene, index, rng, split, negated)
            if phrase is not None and drawn.runs[index][1:]:
                refs.append(_ref(drawn, phrase, split, len(refs) + 1))
    return refs


def grefcoco(pictures: list[Drawn], split: Split, seed: int) -> list[dict[str, Any]]:
    """gRefCOCO's refs: of each picture one thing and something that is not there, with negation and without it."""
    refs: list[dict[str, Any]] = []
    for drawn in pictures:
        rng = stream("unmatched", split, seed, drawn.image_id)
        for negated in (False, True):
            seen = [index for index in range(len(drawn.scene.things)) if drawn.runs[index][1:]]
            rng.shuffle(seen)
            found = (referring(drawn.scene, index, rng, split, negated) for index in seen)
            for phrase in (next(filter(None, found), None), unmatched(drawn.scene, rng, split, negated)):
                if phrase is not None:
                    ref = _ref(drawn, phrase, split, len(refs) + 1)
                    refs.append(ref | {"ann_id": [ref["ann_id"]], "category_id": [ref["category_id"]]})
    return refs


def _ref(drawn: Drawn, phrase: Expression, split: Split, number: int) -> dict[str, Any]:
    nothing = phrase.index < 0
    return {
        "ref_id": number, "ann_id": _NOTHING if nothing else instance_id(drawn, phrase.index),
        "image_id": drawn.image_id, "file_name": drawn.file_name,
        "category_id": _NOTHING if nothing else category(drawn.scene.things[phrase.index].kind),
        "split": split, "sent_ids": [number],
        "sentences": [{
            "sent_id": number, "raw": phrase.text, "sent": phrase.text,
            "tokens": re.findall(r"[a-z]+|'[a-z]+|-", phrase.text),
        }],
        "family": phrase.family, "negated": list(phrase.negated),
        "affirmative": phrase.affirmative, "asserted": phrase.asserted,
    }  # fmt: skip


def negrefcocog(pictures: list[Drawn]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """NegRefCOCOg's items for pictures made for a negated phrase, and their affirmative counterparts.

    The boxes are those of all things of the kind. The counterpart says that the thing is there, and is about
    another box.
    """
    negated, affirmative = [], []
    for drawn in pictures:
        phrase = drawn.phrase
        assert phrase is not None
        kind = drawn.scene.things[phrase.index].kind
        alike = [i for i, thing in enumerate(drawn.scene.things) if thing.kind == kind and drawn.runs[i][1:]]
        holders = [i for i in alike if _has(drawn, i, phrase)]
        if phrase.index not in alike or len(holders) != 1:
            continue
        boxes = [drawn.boxes[i] for i in alike]
        common = {"image": drawn.file_name, "bbox_list": boxes, "family": phrase.family, "noun": phrase.noun}
        negated.append(common | {"phrase": phrase.text, "ref_bbox": drawn.boxes[phrase.index]})
        affirmative.append(common | {"phrase": phrase.asserted, "ref_bbox": drawn.boxes[holders[0]]})
    return negated, affirmative


def _has(drawn: Drawn, index: int, phrase: Expression) -> bool:
    """Whether the affirmative counterpart is true of this thing."""
    thing = drawn.scene.things[index]
    if phrase.noun not in (thing.kind, thing.gender):
        return False
    if phrase.family == "colour":
        return thing.colour in phrase.negated
    if phrase.family == "occupied":
        return any(other.sits_on == index for other in drawn.scene.things)
    return set(phrase.negated) <= thing.attributes
