"""CC-Neg's form and SimpleNeg-style triples: captions of a picture that deny what is there, beside true ones."""

from collections import Counter
from typing import Any

import numpy as np

from negclip_core.captions.phrasings import LAST_NOUN, Negated, negated
from negclip_core.world.catalog import Split, absence
from negclip_core.world.exports.pictures import Drawn, stream
from negclip_core.world.language import place_phrase, preposition
from negclip_core.world.negation import likely, owned

__all__ = ["cc_neg", "simpleneg"]


def cc_neg(pictures: list[Drawn], split: Split, seed: int) -> dict[str, list[Any]]:
    """CC-Neg's two lists, one entry a picture of a place for which the split owns a thing in it.

    The negated caption denies that thing; the true one is its counterpart, which says it.
    """
    rng = stream("denials", split, seed)
    paths, annotations = [], []
    for drawn in pictures:
        place = drawn.scene.place
        there = [kind for kind in likely(place) if drawn.scene.has(kind)]
        denied = [kind for kind in there if owned(split, [("place_kind", place, kind)])]
        if not denied:
            continue
        kind = _one_of(rng, denied)
        text = _denying(rng, _base(rng, place, there, {kind}), [kind], place, split)[0]
        paths.append(drawn.file_name)
        annotations.append(
            {"json": {"caption": text.asserted}, "sop_data": {"negative-prompt": text.text.replace(",", "")}}
        )
    return {"image_paths": paths, "annotations": annotations}


def simpleneg(pictures: list[Drawn], split: Split, seed: int) -> list[dict[str, str]]:
    """Triples: a caption without "no", the same with a denial that is true, the same with one that is false.

    Both denials are said in one phrasing. In each place whatever is denied rightly is denied wrongly as often, of the
    same other thing, so that who does not look at the picture cannot tell which denial is false.
    """
    rng = stream("triples", split, seed)
    counts: Counter[tuple[str, str, str]] = Counter()
    rows = []
    for drawn in pictures:
        place = drawn.scene.place
        there, absent = ([k for k in likely(place) if drawn.scene.has(k) == flag] for flag in (True, False))
        pairs = [(a, b) for a in there for b in absent if owned(split, [("place_kind", place, k) for k in (a, b)])]  # fmt: skip
        if not pairs:
            continue
        wanted = [(a, b) for a, b in pairs if counts[place, a, b] < counts[place, b, a]]
        false, true = _one_of(rng, wanted or pairs)
        counts[place, false, true] += 1
        base = _base(rng, place, there, {false, true})
        said = _denying(rng, base, [true, false], place, split)
        row = {"image": drawn.file_name, "affirmative": base, "negated_true": said[0].text, "negated_false": said[1].text}  # fmt: skip
        rows.append(((place, false, true), row))
    return _balanced(rows, counts)


def _balanced(
    rows: list[tuple[tuple[str, str, str], dict[str, str]]], counts: Counter[tuple[str, str, str]]
) -> list[dict[str, str]]:
    """As many rows that deny one thing of a pair wrongly as rows that deny the other wrongly."""
    kept: Counter[tuple[str, str, str]] = Counter()
    found = []
    for key, row in rows:
        place, false, true = key
        if kept[key] < min(counts[key], counts[place, true, false]):
            kept[key] += 1
            found.append(row)
    return found


def _one_of(rng: np.random.Generator, found: list[Any]) -> Any:
    return found[int(rng.integers(len(found)))]


def _base(rng: np.random.Generator, place: str, there: list[str], unsaid: set[str]) -> str:
    """A place with one of the things in it that are not to be denied, or alone where there is none."""
    said = [kind for kind in there if kind not in unsaid]
    return place_phrase(place) + (f" with {absence(_one_of(rng, said)).a_singular}" if said else "")


def _denying(
    rng: np.random.Generator, base: str, kinds: list[str], place: str, split: Split
) -> list[Negated]:
    """`base` with the denial of each kind, in one phrasing."""
    while True:
        draw = int(rng.integers(1 << 32))
        texts = [
            negated(base, [absence(kind)], np.random.default_rng(draw), family="before", split=split, place=place,
                    prep=preposition(place), keep=True)
            for kind in kinds
        ]  # fmt: skip
        # "a beach with a person that is free of balls" is about the person; people have phrasings of their own.
        about_thing = " with " in base and LAST_NOUN.match(texts[0].template)
        if not about_thing and len({text.template for text in texts}) == 1:
            return texts
