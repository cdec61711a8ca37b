"""Write absences into captions with the phrasings of `phrasings.json`: stands where an LLM stands for free text."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from negclip_core.captions.annotated import IN_COLOUR, NOTHING_WORN, Annotations
from negclip_core.captions.checks import failure
from negclip_core.captions.names import plural
from negclip_core.captions.phrasings import (
    LAST_NOUN,
    Absence,
    Negated,
    Worn,
    article,
    join,
    lacking,
    negated,
    templates,
)  # fmt: skip
from negclip_core.captions.sentences import said_of
from negclip_core.captions.synthesis import Claim, Claims, Rejected

__all__ = ["PhrasingWriter"]

_SHARES = {"before": 0.55, "after": 0.3, "affix": 0.15}
_EXISTENCE = (
    0.5  # share of answers about presence that become a sentence of their own ("There are no cars here.")
)
_UNSTOPPED = 0.5  # share of those that end without their full stop, as people type them
_TRIES = 6
_WEARER = rf"\ba (?:\w+ )?{{noun}}(?:{IN_COLOUR})?\b{{nothing_worn}}"
_PEOPLE = ("man", "woman", "person")
# "a lamp that is not white in the office", but not "a lamp, not white in the office" nor "a lamp is not white in the office".
_GOES_ON = re.compile(r"\{noun\} (?!is |with )")
# "a view of a park with a dog without cars", but not "a view of a dog can be seen in the park" nor "a view of a photo of a park".
_FRAME = re.compile(r".*\w \{base\}")
_NO_NOUN_PHRASE = re.compile(
    r"a (picture|photo) of |(on|in|by|at) the |.*\b(is|are|can be) (visible|seen|shown)\b"
)


class PhrasingWriter:
    """See `negclip_core.captions.synthesis.Writer`. Only phrasings of `split` are used."""

    refutes = True

    def __init__(self, annotations: Annotations, split: str = "train") -> None:
        self.annotations, self.split = annotations, split

    def write(
        self, image: Mapping[str, Any], caption: str, claims: Claims, rng: np.random.Generator
    ) -> Negated | None:
        """See `Writer`."""
        how = claims[0].how
        if how == "worn":
            return self._worn(caption, claims, rng)
        if how == "there":
            return self._there(image, caption, claims, rng)
        return self._coloured(caption, claims[0], rng)

    def answer(
        self, image: Mapping[str, Any], caption: str, claims: Claims, rng: np.random.Generator, question: str
    ) -> Negated | None:
        """See `Writer`. Raises Rejected for a question that is not understood."""
        if not claims:
            raise Rejected("question not understood")
        claim = claims[0]
        prep, _, place = image.get("where", "").partition(" the ")
        if claim.how == "there" and rng.random() < _EXISTENCE:
            said = negated("", [self._absence(claim)], rng, family="existence", split=self.split, place=place,
                           prep=prep)  # fmt: skip
            if rng.random() < _UNSTOPPED:
                said = replace(said, text=said.text.rstrip("."), asserted=said.asserted.rstrip("."))
            return said
        if claim.how == "worn":
            return self._worn(f"a {claim.of}", claims, rng)
        if claim.how == "there":
            return self._there(image, caption, claims, rng)
        return self._looks(claim, rng)

    def _absence(self, claim: Claim) -> Absence:
        return Absence(
            claim.thing, claim.thing, self.annotations.plurals.get(claim.thing) or plural(claim.thing)
        )

    def _there(
        self, image: Mapping[str, Any], caption: str, claims: Claims, rng: np.random.Generator
    ) -> Negated | None:
        if self.annotations.mentioned(caption) & {claim.thing for claim in claims}:
            return None
        absent = [self._absence(claim) for claim in claims]
        if "where" not in image:
            return said_of(caption, absent, self.annotations.names, rng, self.split)
        prep, _, place = image["where"].partition(" the ")
        alone = bool(place) and caption in (f"a {place}", f"an {place}")
        place_first = alone or (bool(place) and caption.startswith((f"a {place} with ", f"an {place} with ")))
        if not place_first and caption.startswith(("there ", "the ", "this ")):
            return None
        ends = bool(place) and caption.endswith(f" {place}")  # what is said last is said of the place
        excluded = [] if ends else [LAST_NOUN]
        if _NO_NOUN_PHRASE.match(caption):
            excluded.append(_FRAME)
        affixed = place_first and not self.annotations.genders.keys() & {claim.thing for claim in claims}
        for _ in range(_TRIES):
            family = "two" if len(claims) > 1 else _family(rng, affixed)
            text = negated(caption, absent, rng, family=family, split=self.split, place=place, prep=prep,
                           keep=not alone)  # fmt: skip
            if text.affirmative and not any(rule.match(text.template) for rule in excluded):
                return text
        return None

    def _worn(self, caption: str, claims: Claims, rng: np.random.Generator) -> Negated | None:
        found = re.search(_WEARER.format(noun=claims[0].of, nothing_worn=NOTHING_WORN), caption)
        if found is None or not all(claim.thing in self.annotations.worn for claim in claims):
            return None
        worn = [Worn(c.thing, **self.annotations.worn[c.thing]) for c in claims]
        before, after = caption[: found.start()], caption[found.end() :]
        forms = [self.annotations.names.of(claim.thing) for claim in claims]
        for _ in range(_TRIES):
            text = lacking(found[0], worn, rng, split=self.split)
            lacks = text.text if claims[0].of in _PEOPLE else text.text.replace(" who ", " that ")
            said = _inside(before, replace(text, text=lacks), after)
            # "without glasses and a hat" may be read as with a hat, "without a hat or glasses and a dog" as without a dog.
            if len(claims) == 1 or not failure(said.text, caption, forms, said.affirmative):
                return said
        return None

    def _coloured(self, caption: str, claim: Claim, rng: np.random.Generator) -> Negated | None:
        """A caption with a thing, said once and without its colour, that is not of a colour."""
        places = list(re.finditer(rf"\ban? {re.escape(claim.of)}\b", caption))
        if len(places) != 1:
            return None
        before, noun, after = caption[: places[0].start()], places[0][0], caption[places[0].end() :]
        return _inside(before, self._looks(claim, rng, noun, inside=bool(after)), after)

    def _looks(self, claim: Claim, rng: np.random.Generator, noun: str = "", inside: bool = False) -> Negated:
        """A phrase for a thing that is not of a colour, or on which nobody is; one that may go on if it stands `inside`."""
        family = "occupied" if claim.how == "occupied" else "colour"
        if claim.of in _PEOPLE and family == "colour":
            family = "clothes"
        choices = templates(family, self.split)
        if inside:
            choices = [template for template in choices if _GOES_ON.match(template)]
        template = choices[int(rng.random() * len(choices))]
        noun = noun or ("the ", f"{article(claim.of)} ")[int(rng.random() < 0.5)] + claim.of
        text = template.format(noun=noun, colour=claim.thing, bare_noun=claim.of)
        asserted = {
            "occupied": f"{noun} {join(noun)} a person on it",
            "clothes": f"{noun} in {claim.thing}",
            "colour": f"{noun} that is {claim.thing}",
        }[family]
        return Negated(text, noun, asserted, template)


def _inside(before: str, phrase: Negated, after: str) -> Negated:
    """A phrase, with its counterparts, between what a caption says before and after it."""
    parts = (phrase.text, phrase.affirmative, phrase.asserted)
    said, rest, there = (f"{before}{part}{after}" for part in parts)
    return Negated(said, rest, there, phrase.template)


def _family(rng: np.random.Generator, affixed: bool) -> str:
    """A family of phrasings; "carless" takes a caption that begins with the place, and nobody says "manless"."""
    names = [name for name in _SHARES if affixed or name != "affix"]
    shares = np.cumsum([_SHARES[name] for name in names])
    return names[int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))]
