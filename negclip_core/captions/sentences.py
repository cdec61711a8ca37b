"""Say in a caption as people write them, a sentence or less, that something is absent: phrasings that fit any."""

import re
from collections.abc import Sequence

import numpy as np

from negclip_core.captions.checks import failure
from negclip_core.captions.names import UNCOUNTED, Names
from negclip_core.captions.phrasings import Absence, Negated, templates

__all__ = ["said_of"]

_NOBODY = 0.5  # share of captions about people that say "nobody" or "no one"
_END = re.compile(r"[\s.,;:!]*$")
# First words that lose their capital within a sentence: others may be names.
_COMMON = (
    "a an the this that these there two three four five six seven eight nine ten several some many people man woman men "
    "women one it he she his her their in on at group close inside various large small someone"
)
_STARTS = frozenset(_COMMON.split())
# What tells a sentence from "a man at a table": common verbs, not of "that is". Only a sentence goes on with "and there are no
# cars", or begins with "with no cars around".
_SENTENCE = re.compile(
    r"(?<!that )(?<!which )(?<!who )\b(?:is|are|was|were|has|have|stands?|sits?|lies|rides?|walks?|wears|holds|plays|poses|runs|"
    r"grazes?|hangs|travels|waits|sleeps|eats|talks|skateboards|looks)\b"
)
_WITH_ANYTHING = re.compile(r"\{base\}(?!, (?:and|but) )")


def said_of(
    caption: str, absent: Sequence[Absence], names: Names, rng: np.random.Generator, split: str
) -> Negated | None:
    """The caption with the absence of one thing, or of two, and its counterparts; None where no phrasing fits.

    A capital at the beginning and a full stop at the end stay. Each text is checked as a language model's is.
    """
    caption = " ".join(caption.split())
    base = _END.sub("", caption)
    if not base:
        return None
    forms = [names.of(thing.kind) for thing in absent]
    choices = _choices(absent, rng, split)
    for number in rng.permutation(len(choices)):
        template = choices[int(number)]
        if not _fits(template, caption, absent):
            continue
        words = {"plural": absent[0].plural, "plural2": absent[-1].plural}
        first = base if template.startswith("{base}") else _lowered(base)
        end = "." if caption.endswith(".") or "." in template else ""
        text = template.format(base=first, **words) + end
        text = text[:1].upper() + text[1:] if caption[:1].isupper() else text
        if not failure(text, caption, forms):
            there = " and ".join(thing.plural for thing in absent)
            return Negated(text, caption, f"{base}, with {there} in sight{end}", template)
    return None


def _choices(absent: Sequence[Absence], rng: np.random.Generator, split: str) -> list[str]:
    if len(absent) > 1:
        return templates("caption-two", split)
    nobody = absent[0].kind == "person" and rng.random() < _NOBODY
    return templates("caption-people" if nobody else "caption", split)


def _fits(template: str, caption: str, absent: Sequence[Absence]) -> bool:
    if " are " in template and any(thing.kind in UNCOUNTED for thing in absent):
        return False
    if "." in template and not caption[:1].isupper():
        return False
    if not _WITH_ANYTHING.match(template) and not _SENTENCE.search(caption):
        return False
    return template.startswith("{base}") or caption.partition(" ")[0].lower() in _STARTS


def _lowered(base: str) -> str:
    return base[:1].lower() + base[1:]
