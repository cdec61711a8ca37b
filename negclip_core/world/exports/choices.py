"""NegBench's forms: of four captions of a picture one is true; captions that say and deny, to retrieve it by."""

import csv
import io

import numpy as np

from negclip_core.captions.phrasings import LAST_NOUN, negated
from negclip_core.world.catalog import Split, absence
from negclip_core.world.exports.pictures import Drawn, stream
from negclip_core.world.language import place_phrase, preposition
from negclip_core.world.negation import likely, owned

__all__ = ["COLUMNS", "negbench_mcq", "negbench_retrieval"]

COLUMNS = ("image_path", "correct_answer", *(f"caption_{i}" for i in range(4)), "correct_answer_template")
# The true caption first; "there" is in the picture, "absent" is not. (asserted, denied) kinds of each caption.
_CHOICES = {
    "positive": (("there", ""), ("absent", ""), ("", "there"), ("absent", "there")),
    "negative": (("", "absent"), ("", "there"), ("absent", ""), ("absent", "there")),
    "hybrid": (("there", "absent"), ("absent", "there"), ("absent", ""), ("", "there")),
}


def negbench_mcq(pictures: list[Drawn], split: Split, seed: int) -> str:
    """A CSV with one row a picture, for those of which the split owns what is denied; `correct_answer` is 0, as in the
    public files."""
    rng = stream("choices", split, seed)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for drawn in pictures:
        place = drawn.scene.place
        pairs = _pairs(drawn, split)
        if not pairs:
            continue
        kinds = dict(zip(("there", "absent"), pairs[int(rng.integers(len(pairs)))], strict=True))
        template = list(_CHOICES)[int(rng.integers(len(_CHOICES)))]
        captions = [_caption(kinds.get(says, ""), kinds.get(denies, ""), place, split, rng)
                    for says, denies in _CHOICES[template]]  # fmt: skip
        writer.writerow([drawn.file_name, 0, *captions, template])
    return text.getvalue()


def negbench_retrieval(pictures: list[Drawn], split: Split, seed: int) -> str:
    """A CSV with one row a picture, for those of which the split owns what is denied: its file and one caption that says
    something in it and denies something absent."""
    rng = stream("retrieval", split, seed)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("filepath", "captions"))
    for drawn in pictures:
        if pairs := _pairs(drawn, split):
            there, absent = pairs[int(rng.integers(len(pairs)))]
            writer.writerow([drawn.file_name, [_caption(there, absent, drawn.scene.place, split, rng)]])
    return text.getvalue()


def _pairs(drawn: Drawn, split: Split) -> list[tuple[str, str]]:
    """Kinds (in the picture, likely there but absent) that the split owns."""
    place = drawn.scene.place
    there, absent = ([k for k in likely(place) if drawn.scene.has(k) == flag] for flag in (True, False))
    return [(a, b) for a in there for b in absent if owned(split, [("place_kind", place, k) for k in (a, b)])]


def _caption(says: str, denies: str, place: str, split: Split, rng: np.random.Generator) -> str:
    base = place_phrase(place) + (f" with {absence(says).a_singular}" if says else "")
    if not denies:
        return base
    while True:
        text = negated(base, [absence(denies)], rng, family="before", split=split, place=place,
                       prep=preposition(place), keep=True)  # fmt: skip
        # "a beach with a person that is free of balls" is about the person.
        if not (says and LAST_NOUN.match(text.template)):
            return text.text
