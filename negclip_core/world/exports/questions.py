"""Yes/no questions about a scene, and VQAv2's form of them."""

from typing import Any

import numpy as np

from negclip_core.world.catalog import ATTRIBUTES, COLOURS, KINDS, Split, absence, catalog, split_of
from negclip_core.world.exports.pictures import Drawn, stream
from negclip_core.world.language import preposition
from negclip_core.world.negation import likely, worn
from negclip_core.world.referring import SEATS, occupied
from negclip_core.world.scenes import Scene, Thing

__all__ = ["questions", "vqa"]

Question = tuple[str, bool]

_EXISTENCE = (
    "is there {a} {kind}?", "is there {a} {kind} {where}?", "are there any {plural}?", "are there {plural} {where}?",
    "are there any {plural} in the picture?",
)  # fmt: skip
_PEOPLE = ("is there anyone {where}?", "are there any people?", "are there people {where}?")
_SEATED = (
    "is anyone sitting on the {kind}?",
    "is someone on the {kind}?",
    "is there a person on the {kind}?",
)


def questions(scene: Scene, rng: np.random.Generator, split: Split) -> list[Question]:
    """Up to eight questions about presence, colours, what people wear and who sits where, with their answers.

    None asks for a combination that another split owns.
    """
    asked = _existence(scene, rng, split)[:3] + _worn(scene, rng, split) + _looks(scene, rng, split)[:3]
    rng.shuffle(asked)
    return asked[:8]


def _free(split: Split, *combination: str) -> bool:
    return split_of(*combination) in ("train", split)


def _one_of(rng: np.random.Generator, found: tuple[str, ...]) -> str:
    return found[int(rng.random() * len(found))]


def _existence(scene: Scene, rng: np.random.Generator, split: Split) -> list[Question]:
    free = [kind for kind in KINDS if _free(split, "place_kind", scene.place, kind)]
    present = [kind for kind in free if scene.has(kind)]
    usual = [kind for kind in free if not scene.has(kind) and kind in likely(scene.place)]
    rare = [kind for kind in free if not scene.has(kind) and kind not in usual]
    for kinds in (present, usual, rare):
        rng.shuffle(kinds)
    where = f"{preposition(scene.place)} the {scene.place}"
    out = []
    for kind in present[:3] + usual[:3] + rare[:1]:
        forms = _EXISTENCE if kind != "person" else _PEOPLE
        thing = absence(kind)
        a = thing.a_singular.split(" ")[0]
        text = _one_of(rng, forms).format(a=a, kind=kind, plural=thing.plural, where=where)
        out.append((text, scene.has(kind)))
    rng.shuffle(out)
    return out


def _worn(scene: Scene, rng: np.random.Generator, split: Split) -> list[Question]:
    """What the only man or the only woman wears or holds."""
    out = []
    for noun in ("man", "woman"):
        people = [thing for thing in scene.things if thing.gender == noun]
        for name in ATTRIBUTES if len(people) == 1 else ():
            if _free(split, "noun_attribute", noun, name):
                thing = worn(name)
                text = _one_of(
                    rng,
                    (f"is the {noun} {thing.verb} {thing.phrase}?",) * 2
                    + (f"does the {noun} have {thing.phrase}?",),
                )
                out.append((text, name in people[0].attributes))
    return out


def _looks(scene: Scene, rng: np.random.Generator, split: Split) -> list[Question]:
    """The colour of the only thing of its kind, and whether someone is on it."""
    out = []
    for index, thing in enumerate(scene.things):
        if thing.kind == "person" or sum(other.kind == thing.kind for other in scene.things) > 1:
            continue
        colour = _colour(thing, rng)
        if _free(split, "kind_colour", thing.kind, colour):
            out.append((f"is the {thing.kind} {colour}?", colour == thing.colour))
        people = _free(split, "place_kind", scene.place, "person")
        if thing.kind in SEATS and people and _free(split, "kind_occupied", thing.kind):
            out.append((_one_of(rng, _SEATED).format(kind=thing.kind), occupied(scene, index)))
    return out


def _colour(thing: Thing, rng: np.random.Generator) -> str:
    """A colour to ask of a thing: its own, another that such things have, or any at all."""
    if thing.colour and rng.random() < 0.4:
        return thing.colour
    usual = [c for c in catalog()["kinds"][thing.kind]["colours"] if c in COLOURS and c != thing.colour]
    if usual and rng.random() < 0.6:
        return _one_of(rng, tuple(usual))
    return _one_of(rng, tuple(c for c in COLOURS if c != thing.colour))


def vqa(pictures: list[Drawn], split: Split, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """VQAv2's two files: questions, and annotations with ten answers each."""
    asked, answered = [], []
    for drawn in pictures:
        rng = stream("questions", split, seed, drawn.image_id)
        for number, (text, holds) in enumerate(questions(drawn.scene, rng, split)):
            key = drawn.image_id * 1000 + number
            asked.append(
                {"image_id": drawn.image_id, "question": text[0].upper() + text[1:], "question_id": key}
            )
            answered.append(_annotation(drawn.image_id, key, text, "yes" if holds else "no"))
    head = {"info": {"description": "negclip's drawn world"}, "data_type": "mscoco", "data_subtype": split}
    return (
        head | {"task_type": "Open-Ended", "questions": asked},
        head | {"annotations": answered},
    )


def _annotation(image_id: int, key: int, text: str, answer: str) -> dict[str, Any]:
    return {
        "image_id": image_id, "question_id": key, "question_type": " ".join(text.split()[:2]),
        "answer_type": "yes/no", "multiple_choice_answer": answer,
        "answers": [{"answer": answer, "answer_confidence": "yes", "answer_id": i + 1} for i in range(10)],
    }  # fmt: skip
