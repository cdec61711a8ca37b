"""COCO instances as proposer and verifier: what images of a place often hold, and what this one holds.

Stands where an LLM and an MLLM stand for images without annotations. Categories may bring `plural`, annotations `colour`,
of people `gender`, of whatever may wear something `attributes`, and images `place`, as the drawn world's do.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from negclip_core.captions.names import Names, at_home_with, plural, says
from negclip_core.captions.synthesis import Claim, Claims

__all__ = ["IN_COLOUR", "NOTHING_WORN", "Annotations", "LikelyProposer", "RandomProposer"]

_LIKELY = 0.15
_ENOUGH = 20  # images, before what they hold together says what is likely
_TWO = 0.2  # share of proposals that name two things
# One of whom nothing worn is told yet.
NOTHING_WORN = r"(?! (?:with|wearing|holding|on|in \w+ (?:with|wearing|holding))\b)"
# The colour of one's clothes: "a man in red", but not "a man in the park".
IN_COLOUR = r" in (?!the\b|this\b|it\b|sight\b)\w+"
_PEOPLE = re.compile(rf"\ba (man|woman|person)\b{NOTHING_WORN}")
_WORN = 0.5  # share of captions with such a person in which something worn is proposed
_COLOURED = 0.3  # share of captions that leave the colour of a thing open in which a colour is proposed
_OFTEN = 0.05  # share of things of a kind, before a colour is one that such things have


class Annotations:
    """What each image holds, read from an instances file, and what things are called (see `Names`).

    Categories are named in lower case, as captions say them: Objects365 has a "Car".
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        names = {entry["id"]: entry["name"].lower() for entry in document["categories"]}
        self.plurals = {
            names[e["id"]]: e.get("plural") or plural(names[e["id"]]) for e in document["categories"]
        }
        self.names = Names(self.plurals)
        self.worn: dict[str, dict[str, str]] = dict(document.get("attributes", {}))
        self.places = {image["id"]: image.get("place", "") for image in document["images"]}
        self.kinds: dict[int, set[str]] = defaultdict(set)
        self.wearing: dict[int, dict[str, list[set[str]]]] = defaultdict(lambda: defaultdict(list))
        self.coloured: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self.genders: dict[str, str] = {}  # "man": "person"
        self.untold: dict[int, set[str]] = defaultdict(set)  # kinds of things whose gender is not told
        for entry in document["annotations"]:
            key, kind = entry["image_id"], names[entry["category_id"]]
            gender = entry.get("gender", "").lower()
            self.kinds[key] |= {kind, gender or kind}
            if gender:
                self.genders[gender] = kind
            else:
                self.untold[key].add(kind)
            for noun in {kind, gender or kind}:
                if "attributes" in entry:
                    self.wearing[key][noun].append(set(entry["attributes"]))
                if "colour" in entry:
                    self.coloured[key][noun].append(entry["colour"] or "")

    def present(
        self, image: Mapping[str, Any], claim: Claim, rng: np.random.Generator | None = None
    ) -> bool | None:
        """Whether the image holds the thing; of what is worn or a colour, whether the only man or dog there wears or has it.

        None of images that are not annotated, of things that are no category, and of those of which the annotations
        say too little: with a person there, a man may be as well.
        """
        key = image["id"]
        if key not in self.places:
            return None
        if claim.how == "there" and claim.thing in self.genders:
            if claim.thing in self.kinds[key]:
                return True
            return None if self.genders[claim.thing] in self.untold[key] else False
        if claim.how == "there":
            return self.names.among(claim.thing, self.kinds[key])
        if claim.how == "coloured":
            colours = self.coloured[key][claim.of]
            return claim.thing == colours[0] if len(colours) == 1 and colours[0] else None
        wearers = self.wearing[key][claim.of]
        return claim.thing in wearers[0] if claim.how == "worn" and len(wearers) == 1 else None

    def mentioned(self, caption: str) -> set[str]:
        """The categories that a caption names, or may mean; and whether it says of somebody that it is a man."""
        said = {gender for gender in self.genders if says(caption, self.names.of(gender))}
        return self.names.mentioned(caption) | said


class LikelyProposer:
    """P1's: what images of the same place often hold, what people there often wear, and colours that things often have.

    Men and women are among what images hold where annotations tell them apart.

    Where images bring no place: what images often hold that hold the same, and what is at home where they seem to be.
    """

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations
        images: Counter[str] = Counter(annotations.places.values())
        held: dict[str, Counter[str]] = defaultdict(Counter)
        worn: dict[str, set[str]] = defaultdict(set)
        beside: dict[str, Counter[str]] = defaultdict(Counter)
        for key, place in annotations.places.items():
            kinds = annotations.kinds[key]
            held[place].update(kinds)
            worn[place].update(*annotations.wearing[key]["person"])
            for kind in () if place else kinds:
                beside[kind].update(kinds)
        self.likely = {place: _often(held[place], count) for place, count in images.items()}
        self.beside = {
            kind: _often(counts, counts[kind]) for kind, counts in beside.items() if counts[kind] >= _ENOUGH
        }
        self.worn = {place: sorted(names) for place, names in worn.items()}
        self.colours = _colours(annotations)
        self._plain = re.compile(
            rf"\ban? ({'|'.join(map(re.escape, self.colours))})\b{NOTHING_WORN}(?!{IN_COLOUR})"
        )

    def propose(
        self, image: Mapping[str, Any], caption: str, rng: np.random.Generator, tried: Claims = ()
    ) -> Claims:
        """See `Proposer`."""
        place = self.annotations.places.get(image["id"], "")
        people = _PEOPLE.findall(caption)
        worn = self.worn.get(place, [])
        if len(people) == 1 and worn and rng.random() < _WORN:
            return tuple(Claim(name, people[0], "worn") for name in _some(rng, worn))
        plain = self._plain.findall(caption) if self.colours else []
        if plain and rng.random() < _COLOURED:
            noun = plain[int(rng.integers(len(plain)))]
            colours = self.colours[noun]
            return (Claim(colours[int(rng.integers(len(colours)))], noun, "coloured"),)
        named = self.annotations.mentioned(caption)
        known = named | {claim.thing for claim in tried}
        around = set() if place else self._around(named | self.annotations.kinds.get(image["id"], set()))
        likely = sorted(around - known) or [k for k in self.likely.get(place, []) if k not in known]
        # Men and women stand in for people: neither oftener than other things, nor "no people and no men".
        kinds: dict[str, list[str]] = defaultdict(list)
        for name in likely:
            kinds[self.annotations.genders.get(name, name)].append(name)
        chosen = (kinds[kind] for kind in _some(rng, list(kinds)))
        return tuple(Claim(names[int(rng.integers(len(names))) if len(names) > 1 else 0]) for names in chosen)

    def _around(self, kinds: set[str]) -> set[str]:
        # People are everywhere, and tell nothing of where this is.
        telling = kinds - {"person"} or kinds
        beside = {other for kind in telling for other in self.beside.get(kind, ())}
        return beside | at_home_with(telling) & self.annotations.plurals.keys()


def _colours(annotations: Annotations) -> dict[str, list[str]]:
    """The colours that things of a kind often have, where their annotations say so."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for nouns in annotations.coloured.values():
        for noun, colours in nouns.items():
            counts[noun].update(filter(None, colours))
    return {
        noun: sorted(colour for colour, n in found.items() if n >= _OFTEN * found.total())
        for noun, found in counts.items()
        if found
    }


def _often(counts: Counter[str], images: int) -> list[str]:
    return sorted(kind for kind, n in counts.items() if n >= _LIKELY * images)


class RandomProposer:
    """Rand-P1's: any category that the caption does not mention, or anything worn, of whatever it mentions alone.

    Pictures without a dog in a hat are many, and what "without" does to a hat is learned from them as well.
    """

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations
        nouns = "|".join(("man", "woman", *map(re.escape, annotations.plurals)))
        self._wearer = re.compile(rf"\ba (?:\w+ )?({nouns})\b{NOTHING_WORN}")

    def propose(
        self, image: Mapping[str, Any], caption: str, rng: np.random.Generator, tried: Claims = ()
    ) -> Claims:
        """See `Proposer`."""
        wearers = self._wearer.findall(caption)
        if wearers and self.annotations.worn and rng.random() < _WORN:
            noun = wearers[int(rng.integers(len(wearers)))]
            return tuple(Claim(name, noun, "worn") for name in _some(rng, sorted(self.annotations.worn)))
        known = self.annotations.mentioned(caption) | {claim.thing for claim in tried}
        return tuple(
            Claim(kind) for kind in _some(rng, [k for k in self.annotations.plurals if k not in known])
        )


def _some(rng: np.random.Generator, names: list[str]) -> list[str]:
    """One of the names, sometimes two."""
    order = rng.permutation(len(names))[: 1 + (rng.random() < _TWO)]
    return [names[int(i)] for i in order]
