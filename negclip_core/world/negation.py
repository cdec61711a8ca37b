"""What is said of the drawn world with "no": prompts for pictures, and phrases for one thing among its like.

Every text belongs to a split: its phrasing is one of the split's, and what it negates is a combination that the
split owns (`splits.json`), so that a held-out text shares neither with a training text.
"""

from dataclasses import dataclass

import numpy as np

from negclip_core.captions.phrasings import LAST_NOUN, Worn, article, lacking, negated, templates
from negclip_core.world.catalog import ATTRIBUTES, PLACES, Split, absence, catalog, split_of
from negclip_core.world.language import place_phrase, preposition

__all__ = ["FAMILY_SHARES", "NegatedPrompt", "drift_prompt", "likely", "negated_prompt", "owned", "worn"]

LIKELY = 0.2  # a thing this probable in a place is worth denying there
FAMILY_SHARES = {
    "before": 0.35,
    "after": 0.15,
    "affix": 0.1,
    "attribute": 0.15,
    "two": 0.15,
    "unseen-cue": 0.1,
}
_SAY_PLACE = 0.7
_TWO_ATTRIBUTES = 0.25
_COLOURED = 0.3
_PLURAL = 0.3
_THINGS_FIRST = 0.4
_PICTURE = 0.15

Combination = tuple[str, ...]  # a relation of `splits.json` and its parts


@dataclass(frozen=True)
class NegatedPrompt:
    """A prompt for a picture. `negated` names kinds, or attributes in the family "attribute" (and in "two" where
    `noun` is not empty); `asked` names the other kinds that the prompt asks for."""

    prompt: str
    affirmative: str  # "a street with a tree"
    asserted: str  # "a street with a tree and cars"
    family: str
    negated: tuple[str, ...]
    asked: tuple[str, ...]
    place: str
    template: str
    split: Split
    noun: str = ""  # "man" or "woman" where it is a person who lacks something


def owned(split: Split, combinations: list[Combination]) -> bool:
    """Whether a text of `split` may negate these combinations together.

    In training all must be free; in a held-out split at least one is its own, and none is the other's.
    """
    owners = {split_of(*combination) for combination in combinations}
    return split in owners and owners <= {split, "train"}


def likely(place: str) -> list[str]:
    """The kinds of things that are often in a place."""
    return [kind for kind, share in catalog()["places"][place]["things"].items() if share >= LIKELY]


def worn(attribute: str) -> Worn:
    """What a person may wear or hold, by its name in the catalogue."""
    entry = catalog()["attributes"][attribute]
    return Worn(attribute, entry["article"], entry["verb"])


def _choose(rng: np.random.Generator, found: list[str]) -> str:
    return found[int(rng.random() * len(found))]


def negated_prompt(
    rng: np.random.Generator, split: Split, family: str | None = None, place: str | None = None
) -> NegatedPrompt:
    """A prompt that says what is not in the picture of a place, though it is likely there.

    Raises ValueError where the split owns no such prompt: "unseen-cue" in training, or a `place` in which the split
    owns no combination.
    """
    families = (
        [family] if family else [name for name in FAMILY_SHARES if split != "train" or name != "unseen-cue"]
    )
    shares = np.cumsum([FAMILY_SHARES[name] for name in families])
    # Not every draw gives a combination that the split owns.
    for _ in range(1000):
        chosen = families[int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))]
        where = place or _choose(rng, list(PLACES))
        of_people = chosen == "attribute" or (chosen == "two" and rng.random() < _TWO_ATTRIBUTES)
        prompt = (_of_person if of_people else _of_place)(rng, split, chosen, where)
        if prompt is not None:
            return prompt
    raise ValueError(f"split {split!r} owns no prompt of family {family!r} in place {place!r}")


def _of_place(rng: np.random.Generator, split: Split, family: str, place: str) -> NegatedPrompt | None:
    kinds = likely(place)
    rng.shuffle(kinds)
    count = 2 if family == "two" else 1
    absent, others = kinds[:count], kinds[count:]
    if not owned(split, [("place_kind", place, kind) for kind in absent]) or not templates(family, split):
        return None
    asked = others[: int(rng.integers(3))]
    base = _base(rng, place, asked, things_first=family != "affix" and rng.random() < _THINGS_FIRST)
    text = negated(
        base, [absence(kind) for kind in absent], rng, family=family, split=split, place=place,
        prep=preposition(place), keep=bool(asked),
    )  # fmt: skip
    # "there are no cars here" says neither the place nor anything to draw; "a park with a man lacking birds" is
    # about the man.
    if not text.affirmative or (
        asked and base.startswith(place_phrase(place)) and LAST_NOUN.match(text.template)
    ):
        return None
    return NegatedPrompt(
        text.text,
        text.affirmative,
        text.asserted,
        family,
        tuple(absent),
        tuple(asked),
        place,
        text.template,
        split,
    )


def _base(rng: np.random.Generator, place: str, asked: list[str], things_first: bool) -> str:
    """ "a street", "a street with a tree" or "a tree on the street"."""
    if not asked:
        return place_phrase(place)
    things = " and ".join(_mention(rng, kind) for kind in asked)
    return (
        f"{things} {preposition(place)} the {place}"
        if things_first
        else f"{place_phrase(place)} with {things}"
    )


def _of_person(rng: np.random.Generator, split: Split, family: str, place: str) -> NegatedPrompt | None:
    noun = _choose(rng, ["man", "woman"])
    attributes = [
        a
        for a in ATTRIBUTES
        if place in catalog()["outdoors"] or not catalog()["attributes"][a].get("outdoors")
    ]
    rng.shuffle(attributes)
    absent = attributes[: 2 if family == "two" else 1]
    if not owned(split, [("noun_attribute", noun, attribute) for attribute in absent]):
        return None
    person = f"a {noun}"
    if rng.random() < _COLOURED:
        person += f" in {_choose(rng, catalog()['kinds']['person']['colours'])}"
    tail = f" {preposition(place)} the {place}" if rng.random() < _SAY_PLACE else ""
    text = lacking(person, [worn(attribute) for attribute in absent], rng, split=split, tail=tail)
    return NegatedPrompt(
        text.text,
        text.affirmative,
        text.asserted,
        family,
        tuple(absent),
        ("person",),
        place,
        text.template,
        split,
        noun,
    )


def _mention(rng: np.random.Generator, kind: str) -> str:
    """A kind of thing as a prompt asks for it: "a tree", "trees", "a red car", "a man"."""
    if kind == "person":
        return _choose(rng, ["a person", "a man", "a woman", "people"])
    if rng.random() < _PLURAL and catalog()["kinds"][kind].get("most", 1) > 1:
        return str(catalog()["kinds"][kind]["plural"])
    colours = catalog()["kinds"][kind]["colours"]
    noun = f"{_choose(rng, colours)} {kind}" if colours and rng.random() < _COLOURED else kind
    return f"{article(noun)} {noun}"


def drift_prompt(rng: np.random.Generator, split: Split, place: str | None = None) -> NegatedPrompt:
    """A prompt without negation, which an encoder should leave as it is; its family is "none"."""
    place = place or _choose(rng, list(PLACES))
    asked = likely(place)
    rng.shuffle(asked)
    asked = asked[: int(rng.integers(4))]
    text = _base(rng, place, asked, things_first=rng.random() < _THINGS_FIRST)
    if rng.random() < _PICTURE:
        text = f"a picture of {text}"
    return NegatedPrompt(text, text, text, "none", (), tuple(asked), place, "", split)
