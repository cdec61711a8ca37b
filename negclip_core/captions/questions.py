"""VQAv2's yes/no questions as claims: what is asked, and whether people said it holds."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from zlib import crc32

from negclip_core.captions.annotated import Annotations
from negclip_core.captions.synthesis import Claim, Task

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
        name = annotations.names.same.get(found[1])
        return Claim(name) if name else None
    return None


def answered(
    questions: Mapping[str, Any],
    answers: Mapping[str, Any],
    images: Mapping[int, Mapping[str, Any]],
    captions: Mapping[int, Sequence[str]],
    annotations: Annotations,
) -> Iterator[Task]:
    """P2's tasks: each yes/no question of the two VQAv2 files about an image with captions, with one of them each."""
    said = {entry["question_id"]: entry["multiple_choice_answer"] for entry in answers["annotations"]}
    for entry in questions["questions"]:
        number, key, text = entry["question_id"], entry["image_id"], entry["question"]
        answer = said.get(number)
        if answer not in ("yes", "no") or not captions.get(key):
            continue
        claim = asked(text, annotations)
        # Neighbouring questions are about one image; this spreads them over its captions.
        caption = captions[key][crc32(str(number).encode()) % len(captions[key])]
        yield Task("p2", number, images[key], caption, text, (claim,) if claim else (), answer == "yes")
