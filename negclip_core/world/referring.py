"""Phrases for one thing among its like, with and without "no": "the red car", "the man without a hat".

A negated phrase always has a contrast: the picture holds another of the same noun that does have what the phrase
denies, and no other that lacks it.
"""

from dataclasses import dataclass

import numpy as np

from negclip_core.captions.phrasings import Negated, article, join, lacking, templates
from negclip_core.world.catalog import ATTRIBUTES, COLOURS, KINDS, Split, catalog
from negclip_core.world.negation import owned, worn
from negclip_core.world.scenes import Scene, Thing

__all__ = ["SEATS", "Expression", "by_noun", "occupied", "referring", "unmatched"]

SEATS = ("bench", "chair", "sofa", "boat")


@dataclass(frozen=True)
class Expression:
    """A phrase for `scene.things[index]`; families: "plain", "attribute", "two", "colour", "occupied"."""

    text: str
    index: int  # -1 where no thing is meant
    noun: str
    family: str
    negated: tuple[str, ...]
    affirmative: str  # the noun phrase alone
    asserted: str  # with what the phrase denies; `affirmative` where it denies nothing
    template: str
    split: Split


def _nouns(thing: Thing) -> list[str]:
    return [thing.gender, "person"] if thing.kind == "person" else [thing.kind]


def by_noun(scene: Scene) -> dict[str, list[int]]:
    """The things that each noun is said of; a man is a person as well."""
    found: dict[str, list[int]] = {}
    for index, thing in enumerate(scene.things):
        for noun in _nouns(thing):
            found.setdefault(noun, []).append(index)
    return found


def _alike(scene: Scene, noun: str) -> list[int]:
    """The things that `noun` is said of."""
    return by_noun(scene).get(noun, [])


def occupied(scene: Scene, index: int) -> bool:
    """Whether a person is on this seat."""
    return any(thing.sits_on == index for thing in scene.things)


def _one_of(rng: np.random.Generator, found: list[str]) -> str:
    return found[int(rng.random() * len(found))]


def referring(
    scene: Scene, index: int, rng: np.random.Generator, split: Split, negated: bool
) -> Expression | None:
    """A phrase that holds of this thing and of no other of its noun, or None where there is none to be had."""
    makers = _negated(scene, index, split) if negated else _affirmative(scene, index)
    if not makers:
        return None
    return _expression(makers[int(rng.integers(len(makers)))], index, rng, split, negated)


_Claim = tuple[str, str, tuple[str, ...]]  # noun, family, what is said or denied


def _expression(
    claim: _Claim, index: int, rng: np.random.Generator, split: Split, negated: bool
) -> Expression:
    noun, family, said = claim
    if not negated:
        text = _affirmative_text(noun, family, said, rng)
        return Expression(text, index, noun, family, (), text, text, "", split)
    phrase = _negated_text(noun, family, said, rng, split)
    return Expression(
        phrase.text, index, noun, family, said, phrase.affirmative, phrase.asserted, phrase.template, split
    )


def unmatched(scene: Scene, rng: np.random.Generator, split: Split, negated: bool) -> Expression | None:
    """A phrase that nothing in the scene fits, or None where there is none to be had.

    Negated: things of its noun are there, and every one has what the phrase denies. Otherwise as often a kind that is
    not there as one that is, in a colour, or with something worn, that none of its like has.
    """
    if not negated and rng.random() < 0.5:
        kinds = [kind for kind in KINDS if not scene.has(kind)]
        return _expression((_one_of(rng, kinds), "plain", ()), -1, rng, split, False)
    claims = _had_by_all(scene, split) if negated else _had_by_none(scene)
    return _expression(claims[int(rng.integers(len(claims)))], -1, rng, split, negated) if claims else None


def _men_and_women_apart(scene: Scene) -> dict[str, list[Thing]]:
    """The things that each noun is said of, but for "person"."""
    return {
        noun: [scene.things[i] for i in alike] for noun, alike in by_noun(scene).items() if noun != "person"
    }


def _had_by_all(scene: Scene, split: Split) -> list[_Claim]:
    claims: list[_Claim] = []
    for noun, things in _men_and_women_apart(scene).items():
        shared = set.intersection(*(set(thing.attributes) for thing in things))
        claims += [
            (noun, "attribute", (a,)) for a in sorted(shared) if owned(split, [("noun_attribute", noun, a)])
        ]
        colours = {thing.colour for thing in things}
        colour = colours.pop()
        if colour and not colours and owned(split, [("kind_colour", things[0].kind, colour)]):
            claims.append((noun, "colour", (colour,)))
        seats = [occupied(scene, i) for i in _alike(scene, noun)] if noun in SEATS else []
        if seats and all(seats) and owned(split, [("kind_occupied", noun)]):
            claims.append((noun, "occupied", ("person",)))
    return claims


def _had_by_none(scene: Scene) -> list[_Claim]:
    claims: list[_Claim] = []
    for noun, things in _men_and_women_apart(scene).items():
        if things[0].gender:
            held = set().union(*(thing.attributes for thing in things))
            claims += [(noun, "attribute", (a,)) for a in ATTRIBUTES if a not in held]
        elif things[0].colour:
            shown = {thing.colour for thing in things}
            claims += [(noun, "colour", (colour,)) for colour in COLOURS if colour not in shown]
    return claims


def _affirmative(scene: Scene, index: int) -> list[_Claim]:
    thing = scene.things[index]
    claims: list[_Claim] = []
    for noun in _nouns(thing):
        others = [scene.things[i] for i in _alike(scene, noun) if i != index]
        if not others:
            claims.append((noun, "plain", ()))
        if thing.colour and all(other.colour != thing.colour for other in others):
            claims.append((noun, "colour", (thing.colour,)))
        for attribute in sorted(thing.attributes):
            if all(attribute not in other.attributes for other in others):
                claims.append((noun, "attribute", (attribute,)))
    if thing.kind in SEATS and occupied(scene, index):
        same = [i for i in _alike(scene, thing.kind) if i != index]
        if not any(occupied(scene, i) for i in same):
            claims.append((thing.kind, "occupied", ("person",)))
    return claims


def _affirmative_text(noun: str, family: str, said: tuple[str, ...], rng: np.random.Generator) -> str:
    the = "the " if rng.random() < 0.8 else f"{article(noun)} "
    if family == "plain":
        return the + noun
    if family == "occupied":
        return (
            the
            + noun
            + _one_of(rng, [" with a person on it", " someone is sitting on", " with someone on it"])
        )
    if family == "attribute":
        thing = worn(said[0])
        return the + noun + f" {_one_of(rng, ['with', thing.verb])} {thing.phrase}"
    if noun in ("man", "woman", "person"):
        return the + noun + f" in {said[0]}"
    return _one_of(rng, [f"the {said[0]} {noun}", f"the {said[0]} {noun}", f"the {noun} that is {said[0]}"])


def _negated(scene: Scene, index: int, split: Split) -> list[_Claim]:
    thing = scene.things[index]
    claims: list[_Claim] = []
    for noun in _nouns(thing):
        others = [scene.things[i] for i in _alike(scene, noun) if i != index]
        # Training says of persons what a held-out combination says of a woman; there only the noun itself will do.
        if others and (noun != "person" or split == "train"):
            claims += _lacked(noun, thing, others, split)
        if others:
            claims += _other_colours(noun, thing, others, split)
    if thing.kind in SEATS and not occupied(scene, index):
        same = [i for i in _alike(scene, thing.kind) if i != index]
        if same and all(occupied(scene, i) for i in same) and owned(split, [("kind_occupied", thing.kind)]):
            claims.append((thing.kind, "occupied", ("person",)))
    return claims


def _lacked(noun: str, thing: Thing, others: list[Thing], split: Split) -> list[_Claim]:
    """What only this person lacks; "person" stands for a man or a woman, and its combinations are theirs."""
    missing = [a for a in catalog()["attributes"] if a not in thing.attributes]

    def fits(denied: tuple[str, ...]) -> bool:
        alone = all(set(denied) & other.attributes for other in others)
        return alone and owned(split, [("noun_attribute", thing.gender, attribute) for attribute in denied])

    claims: list[_Claim] = [(noun, "attribute", (a,)) for a in missing if fits((a,))]
    pairs = [(a, b) for a in missing for b in missing if a != b and fits((a, b))]
    # With another who has both, neither half of the phrase is idle.
    claims += [(noun, "two", p) for p in pairs if any(set(p) <= other.attributes for other in others)]
    return claims


def _other_colours(noun: str, thing: Thing, others: list[Thing], split: Split) -> list[_Claim]:
    colours = {other.colour for other in others}
    if len(colours) != 1 or not thing.colour or thing.colour in colours:
        return []
    colour = colours.pop()
    return [(noun, "colour", (colour,))] if owned(split, [("kind_colour", thing.kind, colour)]) else []


def _negated_text(
    noun: str, family: str, denied: tuple[str, ...], rng: np.random.Generator, split: Split
) -> Negated:
    start = _one_of(rng, ["the ", "the ", "the ", f"{article(noun)} ", ""]) + noun
    if family in ("attribute", "two"):
        return lacking(start, [worn(attribute) for attribute in denied], rng, split=split)
    people = noun in ("man", "woman", "person")
    template = _one_of(rng, templates("clothes" if people and family == "colour" else family, split))
    text = template.format(noun=start, colour=denied[0], bare_noun=noun)
    if family == "occupied":
        asserted = f"{start} {join(start)} a person on it"
    elif people:
        asserted = f"{start} in {denied[0]}"
    else:
        asserted = f"{start} that is {denied[0]}"
    return Negated(text, start, asserted, template)
