"""VQAv2's yes/no questions as claims: what is asked, and whether people said it holds."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from negclip_core.captions.annotated import Annotations
from negclip_core.captions.synthesis import Claim

__all__ = ["answered", "asked"]

_PEOPLE = re.compile(r"(?:is there anyone|are there (?:any )?people)\b")
_THERE = re.compile(r"(?:is there (?:a|an)|are there any|are there) ([a-z ]+?)(?: (?:on|in|by) .*)?\?")
_WORN = re.compile(r"(?:is the (man|woman) (?:wearing|holding)|does the (man|woman) have) (?:a |an )?(\w+)\?")
_COLOUR = re.compile(r"is the ([a-z ]+) (red|blue|yellow|white|black|brown|orange|green|grey|pink|purple)\?")
_SEAT = re.compile(r"is (?:anyone sitting|someone|there a person) on the (\w+)\?")


def asked(question: str, annotations: Annotations) -> Claim | None:
    """The claim that a question is about, or None where it is of another form."""
    text = question.lower()
    if found := _SEAT.fullmatch(text):
        return Claim("person", found[1], "occupied")
    if _PEOPLE.match(text):
        return Claim("person")
    if found := _WORN.fullmatch(text):
        return Claim(found[3], found[1] or found[2], "worn")
    if found := _COLOUR.fullmatch(text):
        return Claim(found[2], found[1], "coloured")
    if found := _THERE.fullmatch(text):
        names = {many: name for name, many in annotations.plurals.items()} | {
            n: n for n in annotations.plurals
        }
        return Claim(names[found[1]]) if found[1] in names else None
    return None


def answered(
    questions: Mapping[str, Any],
    answers: Mapping[str, Any],
    images: Mapping[int, Mapping[str, Any]],
    captions: Mapping[int, Sequence[str]],
    annotations: Annotations,
    rng: np.random.Generator,
) -> Iterator[tuple[Mapping[str, Any], str, Claim | None, bool]]:
    """For `from_questions`: each yes/no question of the two VQAv2 files about an image with captions."""
    said = {entry["question_id"]: entry["multiple_choice_answer"] for entry in answers["annotations"]}
    for entry in questions["questions"]:
        answer, key = said.get(entry["question_id"]), entry["image_id"]
        if answer not in ("yes", "no") or not captions.get(key):
            continue
        texts = captions[key]
        caption = texts[int(rng.random() * len(texts))]
        yield images[key], caption, asked(entry["question"], annotations), answer == "yes"
