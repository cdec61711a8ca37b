"""What categories are called, in any case; one or many; and that every writer and asker says it alike."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from negclip_core.captions.annotated import Annotations, RandomProposer
from negclip_core.captions.language_models import ModelVerifier, ModelWriter
from negclip_core.captions.names import COCO, Names, is_plural, plural
from negclip_core.captions.phrasings import Absence, negated, noun_phrase
from negclip_core.captions.prompts import Prompt
from negclip_core.captions.questions import asked
from negclip_core.captions.steps import synthesize
from negclip_core.captions.synthesis import Claim, Outcome, Roles, Task
from negclip_core.captions.writing import PhrasingWriter


class Told:
    """A model that says what it is told to, and keeps the words that it was asked with."""

    model = "told"

    def __init__(self, says: str) -> None:
        self.says = says

    async def ask(self, prompt: Prompt, words: Mapping[str, str], seed: int, picture: str = "") -> str:
        self.words = words
        return self.says


def _capitals() -> Annotations:
    """As Objects365 and Open Images name them: one picture with a car, and without people."""
    categories = [{"id": 1, "name": "Car"}, {"id": 2, "name": "Person"}]
    return Annotations({"images": [{"id": 1}], "categories": categories,
                        "annotations": [{"image_id": 1, "category_id": 1}]})  # fmt: skip


def test_categories_with_capitals_are_found_in_pictures_captions_and_questions() -> None:
    annotations = _capitals()
    held = [annotations.present({"id": 1}, Claim(thing)) for thing in ("car", "Car", "person", "man", "tree")]
    assert held == [True, True, False, False, None]
    assert annotations.mentioned("A red car and a MAN.") == {"car", "person"}
    claims = [asked(text, annotations) for text in ("Are there any cars?", "Is there a person in it?")]
    assert claims == [Claim("car"), Claim("person")]
    assert Names({"Car": "Cars"}).among("cars", {"Car"})


def test_categories_with_capitals_are_written_small() -> None:
    annotations = _capitals()
    roles = Roles(
        {"p1": RandomProposer(annotations)}, {"instances": annotations}, PhrasingWriter(annotations)
    )

    def outcome(**image: Any) -> Outcome:
        return asyncio.run(synthesize(Task("p1", 1, {"id": 1} | image, "a red car"), roles, seed=0))

    found = outcome()
    assert found.entry is not None and found.entry["absent"] == ["person"]
    assert found.entry["updated_caption"] == found.entry["updated_caption"].lower()
    assert outcome(held_out=["Person"]).reason == "held out"


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("person", "people"),
        ("bench", "benches"),
        ("bus", "buses"),
        ("knife", "knives"),
        ("dress", "dresses"),
        ("lens", "lenses"),
        ("berry", "berries"),
    ],
)
def test_one_and_many(one: str, many: str) -> None:
    assert plural(one) == plural(many) == many
    assert not is_plural(one) and is_plural(many)
    assert noun_phrase(one).endswith(f" {one}") and noun_phrase(many) == many


@pytest.mark.parametrize("thing", ["sunglasses", "jeans", "skis", "scissors", "children"])
def test_what_is_many_already_stays_as_it_is(thing: str) -> None:
    assert plural(thing) == noun_phrase(thing) == thing


@pytest.mark.parametrize(
    ("thing", "said"), [("dress", "a dress"), ("jeans", "jeans"), ("umbrella", "an umbrella")]
)
def test_models_are_asked_for_one_thing(thing: str, said: str, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    model = Told("no")
    verifier, claim = ModelVerifier(model, tmp_path), Claim(thing, "woman", "worn")
    assert asyncio.run(verifier.present({"file_name": "a.png"}, claim, np.random.default_rng(0))) is False
    assert model.words["question"] == f"Does the woman in the image wear or hold {said}?"


def test_what_a_model_denies_is_asserted_as_one_thing() -> None:
    model = Told("A street with no bus.")
    writer = ModelWriter(model, Names(COCO))
    text = asyncio.run(writer.write({}, "A street.", (Claim("bus"),), np.random.default_rng(0)))
    assert text.asserted == "A street with a bus."


def test_answers_speak_of_people() -> None:
    writer = PhrasingWriter(Annotations({"images": [], "categories": [], "annotations": []}))
    image, claims = {"id": 1, "where": "on the street"}, (Claim("person"),)
    found = [
        writer.answer(image, "a street", claims, np.random.default_rng(seed), "Is anyone there?")
        for seed in range(20)
    ]
    texts = " ".join(text.text for text in found if text is not None)
    assert "people" in texts and "persons" not in texts


def test_what_has_no_singular_is_never_said_to_be_one() -> None:
    skis, rng = Absence("skis", "skis", "skis"), np.random.default_rng(0)
    for _ in range(200):
        said = negated("", [skis], rng, family="existence")
        assert not {"is", "isn't", "a", "single"} & set(said.text.split()), said.text
