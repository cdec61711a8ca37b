"""What things are called: a category's plural, other words for it, narrower and broader ones (`things.json`, COCO's).

`places.json` lists what of COCO's categories often is together.
"""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import cache
from importlib.resources import files

__all__ = ["COCO", "UNCOUNTED", "Names", "at_home_with", "is_plural", "plural", "says"]

_PLURALS = {"person": "people", "knife": "knives", "mouse": "computer mice", "man": "men", "woman": "women", "child": "children",
            "sheep": "sheep", "broccoli": "broccoli", "tv": "TVs", "remote": "remote controls", "hair drier": "hair dryers"}  # fmt: skip
UNCOUNTED = frozenset({"broccoli"})  # "no broccoli is", not "are"
_MANY = re.compile(r"(?:[^su]s|\b(?:people|men|women|children|mice))$")
# Words for one thing that end like those for many.
_ONE = re.compile(r"\b(?:canvas|gas|iris|lens|rhinoceros|thermos)$")


@cache
def _table() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = json.loads(
        files(__package__).joinpath("things.json").read_text("utf-8")
    )
    return found


@cache
def _places() -> list[frozenset[str]]:
    document = json.loads(files(__package__).joinpath("places.json").read_text("utf-8"))
    return [frozenset(kinds) for kinds in document.values()]


def at_home_with(kinds: Collection[str]) -> set[str]:
    """Which of COCO's categories often are where these are: those of the places that fit best.

    What is at home in few places tells more: skis and a dog are in the snow, not in a living room.
    """
    tells = {kind: 1 / sum(kind in place for place in _places()) for kind in set().union(*_places())}
    fits = [(round(sum(tells[kind] for kind in place & set(kinds)), 9), place) for place in _places()]
    most = max(fit for fit, _ in fits)
    return {kind for fit, place in fits if fit == most > 0 for kind in place}


def is_plural(noun: str) -> bool:
    """Whether a thing's name is a plural: "people", "cars", "glasses", "jeans"; not "bus", "grass" or "lens"."""
    return bool(_MANY.search(noun)) and not _ONE.search(noun)


def plural(noun: str) -> str:
    """The plural of a thing's name: "people", "benches", "knives", "cars"; "scissors" as it is."""
    if noun in _PLURALS or is_plural(noun):
        return _PLURALS.get(noun, noun)
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return noun + ("es" if noun.endswith(("s", "ch", "sh", "x")) else "s")


def says(text: str, forms: Collection[str]) -> bool:
    """Whether a text has one of these words, or rows of words, given in lower case."""
    words = f" {' '.join(re.findall(r'[a-z]+', text.lower()))} "
    return any(f" {form} " in words for form in forms)


COCO = {name: plural(name) for name in _table()}  # COCO's 80 categories and their plurals


class Names:
    """The words for each of some categories, given with their plurals.

    "sofa" is another word for "couch"; "man" is narrower than "person"; "vehicle" is broader than "car". A word that
    is itself the name of a category stands for that alone. All words are kept, and looked up, in lower case.
    """

    def __init__(self, plurals: Mapping[str, str]) -> None:
        self.plurals = dict(plurals)
        own = {form.lower(): name for name, many in plurals.items() for form in (name, many)}
        self.same, self.narrower = dict(own), defaultdict[str, set[str]](set)
        self.broader = defaultdict[str, set[str]](set)
        for name in plurals:
            words = _table().get(name.lower(), {})
            for form in _forms(words.get("same", ())):
                self.same.setdefault(form, name)
            for kind, into in (("narrower", self.narrower), ("broader", self.broader)):
                for form in _forms(words.get(kind, ())):
                    if form not in own:
                        into[form].add(name)
        self._meanings: dict[str, set[str]] = defaultdict(set)
        for form, name in self.same.items():
            self._meanings[form].add(name)
        for form, meant in (*self.narrower.items(), *self.broader.items()):
            self._meanings[form] |= meant
        # By a form's first word, how many words it may have, the most first: "hot dog" is no dog.
        lengths: dict[str, set[int]] = defaultdict(set)
        for form in self._meanings:
            lengths[form.split()[0]].add(len(form.split()))
        self._lengths = {word: sorted(many, reverse=True) for word, many in lengths.items()}

    def of(self, thing: str) -> frozenset[str]:
        """The ways to name a thing in lower case: "couch", "couches", "sofa", ...; of no category, its two numbers."""
        name = self.same.get(thing.lower())
        if name is None:
            return frozenset({thing.lower(), plural(thing.lower())})
        return frozenset(form for form, means in self.same.items() if means == name)

    def narrower_than(self, thing: str) -> frozenset[str]:
        """The names of what is such a thing for certain: "man", "men", "girl", ... of "person"."""
        return frozenset(form for form, things in self.narrower.items() if things == {thing})

    def among(self, thing: str, kinds: Collection[str]) -> bool | None:
        """Whether a thing is one of the categories found in an image; None where they do not tell."""
        word = thing.lower()
        if word in self.same:
            return self.same[word] in kinds
        if word in self.broader:
            return True if self.broader[word] & set(kinds) else None
        if word in self.narrower:
            return None if self.narrower[word] & set(kinds) else False
        return None

    def mentioned(self, caption: str) -> set[str]:
        """The categories that a caption names, or may mean."""
        words = re.findall(r"[a-z]+", caption.lower())
        found: set[str] = set()
        place = 0
        while place < len(words):
            step = 1
            for length in self._lengths.get(words[place], ()):
                if hits := self._meanings.get(" ".join(words[place : place + length])):
                    found |= hits
                    step = length
                    break
            place += step
        return found


def _forms(words: Collection[str]) -> set[str]:
    return {form for word in words for form in (word, plural(word))}
