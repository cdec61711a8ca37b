"""What is in a picture before it is painted: a place and things in it, by the catalogue's probabilities."""

from dataclasses import dataclass

import numpy as np

from negclip_core.errors import RequestError
from negclip_core.world.catalog import PLACES, catalog

__all__ = ["VARIANTS", "Box", "Scene", "Thing", "sample_scene"]

Box = tuple[float, float, float, float]

MOST_THINGS = 5
VARIANTS = 1 << 16
_PEOPLE_SHARES = (0.6, 0.3, 0.1)
_SECOND_SHARE = 0.35
_ATTEMPTS = 60


@dataclass(frozen=True)
class Thing:
    """One thing: `box` is (x, y, w, h) from the top left, in units of the picture's side.

    `colour` is "" where the kind has one look of its own; `gender` is "" for all but people; `sits_on` is the
    index in `Scene.things` of the bench, chair, sofa or boat that a person is on; `variant` picks among small
    differences (its lowest bit mirrors the thing).
    """

    kind: str
    colour: str
    box: Box
    attributes: frozenset[str] = frozenset()
    gender: str = ""
    sits_on: int | None = None
    variant: int = 0


@dataclass(frozen=True)
class Scene:
    """A place and its things, from back to front: they are painted in the order of `things`."""

    place: str
    things: tuple[Thing, ...]
    variant: int = 0

    def kinds(self) -> set[str]:
        """The kinds of things in the picture."""
        return {thing.kind for thing in self.things}

    def has(self, kind: str) -> bool:
        """Whether the picture shows a thing of this kind."""
        return any(thing.kind == kind for thing in self.things)


def sample_scene(
    rng: np.random.Generator,
    place: str | None = None,
    require: frozenset[str] = frozenset(),
    forbid: frozenset[str] = frozenset(),
) -> Scene:
    """A scene at random: each kind with the catalogue's probability, five things at most, none hidden.

    `require` and `forbid` are kinds that must or must not be there. Without `place`, it is one of those where
    all required kinds occur. Raises RequestError for an unknown place and for kinds that
    cannot be there together.
    """
    from negclip_core.world.layout import arrange  # layout needs Thing and Scene from this file

    place = _place(rng, place, require, forbid)
    chosen = _choose(rng, place, require, forbid)
    for _ in range(_ATTEMPTS):
        scene = arrange(rng, place, chosen, variant=int(rng.integers(VARIANTS)))
        if scene is not None:
            return scene
        _drop_one(rng, chosen, require)
    raise RequestError(
        f"{', '.join(sorted(require))}: too many things for one picture of a {place}; require fewer"
    )


def _place(
    rng: np.random.Generator, place: str | None, require: frozenset[str], forbid: frozenset[str]
) -> str:
    if clash := require & forbid:
        raise RequestError(f"{', '.join(sorted(clash))}: both required and forbidden; leave one out")
    if place is not None and place not in PLACES:
        raise RequestError(f"unknown place {place!r}; the drawn world has {', '.join(PLACES)}")
    fitting = [
        name for name in ([place] if place else PLACES) if require <= set(catalog()["places"][name]["things"])
    ]
    if not fitting:
        raise RequestError(
            f"no {place or 'place'} of the drawn world holds {', '.join(sorted(require))} together"
        )
    return fitting[int(rng.integers(len(fitting)))]


def _choose(
    rng: np.random.Generator, place: str, require: frozenset[str], forbid: frozenset[str]
) -> list[Thing]:
    """The things of a scene, not yet placed (their boxes are empty)."""
    chosen: list[Thing] = []
    for kind, probability in catalog()["places"][place]["things"].items():
        if kind not in forbid and (kind in require or rng.random() < probability):
            chosen += [_thing(rng, kind, place) for _ in range(_number(rng, kind))]
    while len(chosen) > max(MOST_THINGS, len(require)):
        _drop_one(rng, chosen, require)
    return chosen


def _number(rng: np.random.Generator, kind: str) -> int:
    if kind == "person":
        return 1 + int(rng.choice(len(_PEOPLE_SHARES), p=_PEOPLE_SHARES))
    return 2 if catalog()["kinds"][kind].get("most", 1) > 1 and rng.random() < _SECOND_SHARE else 1


def _thing(rng: np.random.Generator, kind: str, place: str) -> Thing:
    colours = catalog()["kinds"][kind]["colours"]
    colour = colours[int(rng.integers(len(colours)))] if colours else ""
    variant = int(rng.integers(VARIANTS))
    if kind != "person":
        return Thing(kind, colour, (0.0, 0.0, 0.0, 0.0), variant=variant)
    outdoors = place in catalog()["outdoors"]
    worn = frozenset(
        name
        for name, entry in catalog()["attributes"].items()
        if (outdoors or not entry.get("outdoors")) and rng.random() < entry["probability"]
    )
    gender = "man" if rng.random() < 0.5 else "woman"
    return Thing(kind, colour, (0.0, 0.0, 0.0, 0.0), worn, gender, variant=variant)


def _drop_one(rng: np.random.Generator, chosen: list[Thing], require: frozenset[str]) -> None:
    """Take away one thing that may go; second ones of a kind first, so that kinds stay as frequent."""
    kinds = [thing.kind for thing in chosen]
    spare = [i for i, kind in enumerate(kinds) if kinds.count(kind) > 1]
    spare = spare or [i for i, kind in enumerate(kinds) if kind not in require]
    if spare:
        del chosen[spare[int(rng.integers(len(spare)))]]
