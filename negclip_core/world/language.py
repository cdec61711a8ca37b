"""What the world's people say of a picture: captions that mention part of it, and phrases for one thing in it."""

from bisect import bisect
from collections import Counter
from collections.abc import Sequence

import numpy as np

from negclip_core.captions.phrasings import article
from negclip_core.world.catalog import catalog
from negclip_core.world.scenes import Scene, Thing

__all__ = ["caption", "place_phrase", "preposition", "thing_phrase"]

_NUMBERS = {2: "two", 3: "three"}
_MOST_KINDS = (0.15, 0.55, 0.88)  # up to these shares of captions mention no thing, one kind, two kinds
_PLACE_ONLY = (
    "{place}",
    "{place}",
    "a picture of {place}",
    "the {name}",
    "this is {place}",
    "a photo of {place}",
)
# The first ones are said more often. Words that negations also use ("visible", "in sight") are met here without "no".
_CAPTIONS = (
    *("{place} with {things}",) * 9,
    *("{things} {where}",) * 6,
    *(
        "a picture of {things}",
        "there {be} {things} {where}",
        "there {be} {things}",
        "there {be} {things} here",
    )
    * 3,
    *("the {name} has {things}", "{place} and {things}", "{things}") * 3,
    "{place} that has {things}",
    "{place} where there {be} {things}",
    "{place} with {things} in it",
    "{place} with {things} in sight",
    "{place} with {things} around",
    "{where} there {be} {things}",
    "the {name} with {things}",
    "{things} can be seen {where}",
    "{things} {be} visible {where}",
    "there {be} {things} in this picture",
    "there {be} {things} in the photo",
    "{things} {be} shown here",
    "a photo of {things} {where}",
    "a picture of {place} with {things}",
)


def preposition(place: str) -> str:
    """The word that puts a thing in a place: "on" the street, "in" the park, "by" the lake."""
    word: str = catalog()["places"][place]["preposition"]
    return word


def place_phrase(place: str) -> str:
    """ "a street", "an office"."""
    return f"{catalog()['places'][place]['article']} {place}"


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    # Three times as fast as rng.integers.
    return choices[int(rng.random() * len(choices))]


def _wears(attribute: str) -> str:
    entry = catalog()["attributes"][attribute]
    return f"{entry['article']} {attribute}".strip()


def person_phrase(thing: Thing, rng: np.random.Generator, detail: float = 0.5) -> str:
    """A person, with or without what they wear: "a man", "a woman in red", "a man with a hat and glasses"."""
    noun = thing.gender if rng.random() < 0.8 else "person"
    words = f"a {noun}"
    worn = sorted(thing.attributes)
    rng.shuffle(worn)
    if worn and rng.random() < detail:
        first = worn[0]
        verb = catalog()["attributes"][first]["verb"]
        words += f" {_pick(rng, ('with', 'with', verb))} {_wears(first)}"
        if len(worn) > 1 and rng.random() < 0.5:
            words += f" and {_wears(worn[1])}"
    elif rng.random() < 0.4:
        words += f" in {thing.colour}"
    return words


def thing_phrase(scene: Scene, index: int, rng: np.random.Generator, detail: float = 0.5) -> str:
    """One thing as a noun phrase: "a red car", "a bench with a person on it", "a man with a hat"."""
    thing = scene.things[index]
    if thing.kind == "person":
        phrase = person_phrase(thing, rng, detail)
        if thing.sits_on is not None and rng.random() < detail:
            phrase += f" on a {scene.things[thing.sits_on].kind}"
        return phrase
    noun = thing.kind
    if thing.colour and rng.random() < detail:
        noun = f"{thing.colour} {noun}"
    phrase = f"{article(noun)} {noun}"
    if any(other.sits_on == index for other in scene.things) and rng.random() < detail * 0.6:
        phrase += f" with {_pick(rng, ('a person', 'someone'))} on it"
    return phrase


def _groups(scene: Scene, rng: np.random.Generator, most: int, detail: float) -> list[str]:
    """Noun phrases for up to `most` kinds of things, at random; several of a kind may be counted or pluralised."""
    counts = Counter(thing.kind for thing in scene.things)
    kinds = list(counts)
    rng.shuffle(kinds)
    phrases = []
    for kind in kinds[:most]:
        indices = [i for i, thing in enumerate(scene.things) if thing.kind == kind]
        plural = catalog()["kinds"][kind]["plural"]
        if (len(indices) > 1 and rng.random() < 0.7) or rng.random() < 0.12:
            number = _NUMBERS.get(len(indices))
            phrases.append(f"{number} {plural}" if number and rng.random() < 0.4 else plural)
        else:
            phrases.append(thing_phrase(scene, indices[int(rng.random() * len(indices))], rng, detail))
    return phrases


def _list(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def caption(scene: Scene, rng: np.random.Generator, detail: float = 0.5) -> str:
    """A caption without negation that mentions the place, the things (up to three kinds), or both.

    `detail` in [0, 1] is how often colours and what people wear are told.
    """
    things = _groups(scene, rng, bisect(_MOST_KINDS, rng.random()), detail)
    place = place_phrase(scene.place)
    if not things:
        return _pick(rng, _PLACE_ONLY).format(place=place, name=scene.place)
    plural = len(things) > 1 or not things[0].startswith(("a ", "an "))
    return _pick(rng, _CAPTIONS).format(
        place=place,
        name=scene.place,
        where=f"{preposition(scene.place)} the {scene.place}",
        things=_list(things),
        be="are" if plural else "is",
    )
