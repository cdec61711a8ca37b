"""COCO instances as proposer and verifier: what images of a place often hold, and what this one holds.

Stands where an LLM and an MLLM stand for images without annotations. Categories may bring `plural`, annotations of
people `gender`, of whatever may wear something `attributes`, and images `place`, as the drawn world's do.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from negclip_core.captions.synthesis import Claim

__all__ = ["NOTHING_WORN", "Annotations", "LikelyProposer", "RandomProposer"]

_LIKELY = 0.15
_TWO = 0.2  # share of proposals that name two things
# One of whom nothing worn is told yet.
NOTHING_WORN = r"(?! (?:with|wearing|holding|on|in \w+ (?:with|wearing|holding))\b)"
_PEOPLE = re.compile(rf"\ba (man|woman|person)\b{NOTHING_WORN}")
_WORN = 0.5  # share of captions with such a person in which something worn is proposed


class Annotations:
    """What each image holds, read from an instances file."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.names = {entry["id"]: entry["name"] for entry in document["categories"]}
        self.plurals = {e["name"]: e.get("plural") or plural(e["name"]) for e in document["categories"]}
        self.worn: dict[str, dict[str, str]] = dict(document.get("attributes", {}))
        self.places = {image["id"]: image.get("place", "") for image in document["images"]}
        self.kinds: dict[int, set[str]] = defaultdict(set)
        self.wearing: dict[int, dict[str, list[set[str]]]] = defaultdict(lambda: defaultdict(list))
        for entry in document["annotations"]:
            key, kind = entry["image_id"], self.names[entry["category_id"]]
            self.kinds[key].add(kind)
            if "attributes" in entry:
                for noun in {kind, entry.get("gender") or kind}:
                    self.wearing[key][noun].append(set(entry["attributes"]))

    def present(self, image: Mapping[str, Any], claim: Claim) -> bool | None:
        """Whether the image holds the thing; of what is worn, whether the only man, person or dog there wears it."""
        key = image["id"]
        if key not in self.places:
            return None
        if claim.how == "there":
            return claim.thing in self.kinds[key]
        wearers = self.wearing[key][claim.of]
        return claim.thing in wearers[0] if claim.how == "worn" and len(wearers) == 1 else None

    def mentioned(self, caption: str) -> set[str]:
        """The categories that a caption names."""
        words = f" {re.sub(r'[^a-z]+', ' ', caption.lower())} "
        found = {name for name, many in self.plurals.items() if f" {name} " in words or f" {many} " in words}
        return found | ({"person"} if re.search(r" (man|woman|men|women|someone) ", words) else set())


def plural(noun: str) -> str:
    """The plural of a category of COCO's: "people", "benches", "knives", "cars"."""
    known = {"person": "people", "knife": "knives", "mouse": "mice", "sheep": "sheep", "skis": "skis"}
    if noun in known or noun.endswith("scissors"):
        return known.get(noun, noun)
    return noun + ("es" if noun.endswith(("s", "ch", "sh", "x")) else "s")


class LikelyProposer:
    """P1's: what images of the same place often hold, and what people there often wear."""

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations
        images: Counter[str] = Counter(annotations.places.values())
        held: dict[str, Counter[str]] = defaultdict(Counter)
        worn: dict[str, set[str]] = defaultdict(set)
        for key, place in annotations.places.items():
            held[place].update(annotations.kinds[key])
            worn[place].update(*annotations.wearing[key]["person"])
        self.likely = {
            place: sorted(kind for kind, n in held[place].items() if n >= _LIKELY * count)
            for place, count in images.items()
        }
        self.worn = {place: sorted(names) for place, names in worn.items()}

    def propose(self, image: Mapping[str, Any], caption: str, rng: np.random.Generator) -> tuple[Claim, ...]:
        """See `Proposer`."""
        place = self.annotations.places.get(image["id"], "")
        people = _PEOPLE.findall(caption)
        worn = self.worn.get(place, [])
        if len(people) == 1 and worn and rng.random() < _WORN:
            return tuple(Claim(name, people[0], "worn") for name in _some(rng, worn))
        open_kinds = [k for k in self.likely.get(place, []) if k not in self.annotations.mentioned(caption)]
        return tuple(Claim(kind) for kind in _some(rng, open_kinds))


class RandomProposer:
    """Rand-P1's: any category that the caption does not mention, or anything worn, of whatever it mentions alone.

    Pictures without a dog in a hat are many, and what "without" does to a hat is learned from them as well.
    """

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations
        nouns = "|".join(("man", "woman", *map(re.escape, annotations.plurals)))
        self._wearer = re.compile(rf"\ba (?:\w+ )?({nouns})\b{NOTHING_WORN}")

    def propose(self, image: Mapping[str, Any], caption: str, rng: np.random.Generator) -> tuple[Claim, ...]:
        """See `Proposer`."""
        wearers = self._wearer.findall(caption)
        if wearers and self.annotations.worn and rng.random() < _WORN:
            noun = wearers[int(rng.integers(len(wearers)))]
            return tuple(Claim(name, noun, "worn") for name in _some(rng, sorted(self.annotations.worn)))
        named = self.annotations.mentioned(caption)
        return tuple(
            Claim(kind) for kind in _some(rng, [k for k in self.annotations.plurals if k not in named])
        )


def _some(rng: np.random.Generator, names: list[str]) -> list[str]:
    """One of the names, sometimes two."""
    order = rng.permutation(len(names))[: 1 + (rng.random() < _TWO)]
    return [names[int(i)] for i in order]
