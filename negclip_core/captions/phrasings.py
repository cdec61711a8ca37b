"""Say in a caption that something is absent, in many phrasings.

The phrasings are data (`phrasings.json`), grouped in families by where the cue stands, and every phrasing belongs
to one split, so that what a model is tested on it never met in training. Each has two counterparts: the caption
without the negation, and the caption that says the thing *is* there.

In training half of the captions draw their phrasing by its cue: English has many phrasings with "no" for each one with
"free of", and a model that meets a cue that seldom learns it in those very words only.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from negclip_core.captions.names import is_plural
from negclip_core.negation.cues import find_cues

__all__ = [
    "FAMILIES",
    "LAST_NOUN",
    "Absence",
    "Negated",
    "Worn",
    "article",
    "cue",
    "join",
    "lacking",
    "negate",
    "negated",
    "noun_phrase",
    "templates",
]

# Templates that speak of the base's last noun: "a park with a man lacking birds" is about the man.
LAST_NOUN = re.compile(r"\{base\} (that|which|free|empty|not having|having|devoid|lacking)")
_BY_CUE = 0.5
_WORDS = {"less": "carless", "a_less": "a carless", "less_person": "a hatless man", "free": "car-free",
          "a_free": "a car-free", "with": "with"}  # fmt: skip
FAMILIES = ("before", "after", "affix", "attribute", "two", "unseen-cue")


@dataclass(frozen=True)
class Absence:
    """A thing that is absent, in the forms a phrasing may ask for."""

    kind: str
    singular: str
    plural: str

    @property
    def a_singular(self) -> str:
        return f"{article(self.singular)} {self.singular}"


@dataclass(frozen=True)
class Worn:
    """Something that a person may wear or hold: "hat", with its article and the verb that goes with it."""

    name: str
    article: str
    verb: str

    @property
    def phrase(self) -> str:
        return f"{self.article} {self.name}".strip()


@dataclass(frozen=True)
class Negated:
    """A negated text and its counterparts."""

    text: str
    affirmative: str  # without the negation; "" where nothing else is said
    asserted: str  # with the thing there
    template: str


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files(__package__).joinpath("phrasings.json").read_text("utf-8"))
    return table


def templates(family: str, split: str) -> list[str]:
    """The phrasings of one group of `phrasings.json` (see `FAMILIES`) in one split."""
    found: list[str] = _table()[family][split]
    return found


def noun_phrase(label: str) -> str:
    """ "man with hat" -> "a man with a hat"; "glasses" as it is."""
    return " with ".join(
        noun if is_plural(noun) else f"{article(noun)} {noun}" for noun in label.split(" with ")
    )


def article(noun: str) -> str:
    """ "a" or "an", by the first letter."""
    return "an" if noun[:1].lower() in "aeiou" else "a"


def join(base: str) -> str:
    """How a further "with" is said after `base`: "a street with a tree" goes on with "and"."""
    return "and" if " with " in f" {base} " else "with"


def cue(template: str) -> str:
    """The cue, or cues, of a phrasing: "no", "free of", "neither nor"; "not" for "n't" as well."""
    text = re.sub(r"\{(\w+)\}", lambda name: _WORDS.get(name[1], "cars"), template)
    return " ".join(text[slice(*each.span)].lower().replace("n't", "not") for each in find_cues(text))


@cache
def _shares(choices: tuple[str, ...]) -> np.ndarray:
    """The running sum of how often training draws each phrasing."""
    cues = [cue(template) for template in choices]
    by_cue = np.array([1 / (len(set(cues)) * cues.count(each)) for each in cues])
    return np.cumsum(_BY_CUE * by_cue + (1 - _BY_CUE) / len(choices))


def _choose(choices: tuple[str, ...], split: str, rng: np.random.Generator) -> str:
    at = rng.random()
    if split != "train":
        return choices[int(at * len(choices))]
    return choices[min(int(np.searchsorted(_shares(choices), at, side="right")), len(choices) - 1)]


@cache
def _choices(
    family: str, split: str, people: bool, place: bool, base: bool, keep: bool, many: bool
) -> tuple[str, ...]:
    found = templates(family, split)
    if family == "before" and people:
        found = found + templates("before-people", split) * 2
    if many:  # "skis" have no singular
        found = [t for t in found if "singular}" not in t]
    says_base = [t for t in found if "{base}" in t or "{thing}" in t]
    if keep:
        return tuple(says_base)
    return tuple(t for t in found if (place or "{place}" not in t) and (base or t not in says_base))


def negated(
    base: str,
    absent: Sequence[Absence],
    rng: np.random.Generator,
    *,
    family: str,
    split: str = "train",
    place: str = "",
    prep: str = "in",
    keep: bool = False,
) -> Negated:
    """`base` with the absence of one thing, or of two in the family "two", said in a phrasing of `family`.

    Without a `place` only phrasings that need none are used, so that any caption can be a base; with an empty base
    only those that need no base. `keep` leaves out phrasings that do not repeat the base. Raises ValueError where
    no phrasing of the family fits.
    """
    many = any(is_plural(thing.singular) for thing in absent)
    choices = _choices(family, split, absent[0].kind == "person", bool(place), bool(base), keep, many)
    if not choices:
        raise ValueError(f"no phrasing of family {family!r} in split {split!r} fits {base!r}")
    template = _choose(choices, split, rng)
    first, last = absent[0], absent[-1]
    less, free = f"{first.singular}less", f"{first.singular}-free"
    words = {
        "base": base,
        "thing": base.split(" ", 1)[1]
        if base.startswith(("a ", "an ", "the ", "A ", "An ", "The "))
        else base,
        "place": place,
        "prep": prep,
        "plural": first.plural,
        "plural2": last.plural,
        "singular": first.singular,
        "a_singular": first.a_singular,
        "less": less,
        "free": free,
        "a_less": f"{article(less)} {less}",
        "a_free": f"{article(free)} {free}",
        "with": join(base),
    }
    affirmative, asserted = _table()["counterparts"].get(template) or (
        "{base}",
        _default_counterpart(template),
    )
    return Negated(
        template.format_map(words), affirmative.format_map(words), asserted.format_map(words), template
    )


@cache
def _default_counterpart(template: str) -> str:
    if "{plural2}" in template:
        return "{base} {with} {plural} and {plural2}"
    return "{base} {with} {a_singular}" if "singular}" in template else "{base} {with} {plural}"


def negate(
    base: str,
    absent: tuple[Absence, ...],
    rng: np.random.Generator,
    *,
    family: str,
    split: str = "train",
    place: str = "",
    prep: str = "in",
) -> str:
    """The text of `negated`."""
    return negated(base, absent, rng, family=family, split=split, place=place, prep=prep).text


def lacking(
    person: str, worn: Sequence[Worn], rng: np.random.Generator, *, split: str = "train", tail: str = ""
) -> Negated:
    """A person who lacks one thing, or two: "a man without a hat", "the woman in red with no hat or glasses".

    `person` is a noun phrase, with or without its article; `tail` is said last (" in the park").
    """
    first, last = worn[0], worn[-1]
    choices = templates("attribute" if len(worn) == 1 else "two-attributes", split)
    template = _choose(tuple(choices), split, rng)
    words = {
        "person": person,
        "less_person": _lessened(person, first.name),
        "attribute": first.phrase,
        "attribute2": last.phrase,
        "bare": first.name,
        "bare2": last.name,
        "verb": first.verb,
        "with": join(person),
    }
    having = f"{first.phrase} and {last.phrase}" if len(worn) > 1 else first.phrase
    asserted = f"{person} {first.verb if '{verb}' in template else join(person)} {having}"
    return Negated(template.format_map(words) + tail, person + tail, asserted + tail, template)


def _lessened(person: str, name: str) -> str:
    """ "a man" without a hat is "a hatless man"; "the man", "the hatless man"."""
    first, _, rest = person.partition(" ")
    if first in ("a", "an"):
        return f"{article(name)} {name}less {rest}"
    return f"the {name}less {rest}" if first == "the" else f"{name}less {person}"
