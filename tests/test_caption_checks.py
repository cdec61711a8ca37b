"""What things are called, what a rewritten caption must hold, and captions as people write them."""

import numpy as np
import pytest

from negclip_core.captions.checks import failure
from negclip_core.captions.names import COCO, Names, at_home_with
from negclip_core.captions.phrasings import Absence
from negclip_core.captions.sentences import said_of
from negclip_core.language import has_negation

NAMES = Names(COCO)
PARK = "A child playing with a ball in the park."


@pytest.mark.parametrize(
    ("text", "caption", "thing", "why"),
    [
        ("A child playing with a ball in the park with no tree.", PARK, "tree", ""),
        ("A woman not wearing a hat riding a horse.", "A woman riding a horse.", "hat", ""),
        ("With no sofas in sight, a man reads.", "A man reads.", "couch", ""),
        ("A street with nobody around.", "A street.", "person", ""),
        ("A bench without a dog or people around.", "A bench with nobody around.", "dog", ""),
        (PARK, PARK, "tree", "no negation"),
        ("A child playing with a ball in the park with no dog.", PARK, "tree", "does not deny what is absent"),
        ("A child playing with no tree and no dog in the park with a ball.", PARK, "tree", "denies something else"),
        ("A man without a hat or dog.", "A man with a dog.", "hat", "denies something else"),
        ("There is no tree.", PARK, "tree", "lost the caption"),
        ("A child playing with a ball in the park with a red swing, a green slide and no tree.", PARK, "tree",
         "says more than the caption"),
        (f"{PARK[:-1]}, {'and there ' * 10}with no tree.", PARK, "tree", "too long"),
    ],
)  # fmt: skip
def test_what_a_rewritten_caption_must_hold(text: str, caption: str, thing: str, why: str) -> None:
    assert failure(text, caption, [NAMES.of(thing)]) == why


@pytest.mark.parametrize(
    ("thing", "kinds", "held"),
    [
        ("sofa", {"couch"}, True),
        ("TV", {"person"}, False),
        ("man", {"person"}, None),  # a person is there: perhaps a man
        ("man", {"dog"}, False),
        ("vehicle", {"car"}, True),
        ("vehicle", {"dog"}, None),  # no car, no bus; perhaps a tractor
        ("tree", {"dog"}, None),
    ],
)
def test_what_annotations_tell(thing: str, kinds: set[str], held: bool | None) -> None:
    assert NAMES.among(thing, kinds) is held


def test_what_a_caption_mentions() -> None:
    assert NAMES.mentioned("A man eats a hot dog on his couch.") == {"person", "hot dog", "couch"}
    assert "teddy bear" in NAMES.mentioned("Two teddy bears") and "bear" not in NAMES.mentioned(
        "Two teddy bears"
    )
    assert {"car", "bus", "truck"} <= NAMES.mentioned("a street full of vehicles")


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize(
    "caption",
    [
        "A man riding a wave on top of a surfboard.",
        "two zebras standing in a grassy field",
        "There is a kitchen with a stove , and a sink .",
        "Mickey sits at a desk",
        "A boy is eating  cake!",
    ],
)
def test_captions_of_people_stay_as_they_are_written(caption: str, split: str) -> None:
    for things in (("car",), ("person",), ("skis",), ("broccoli",), ("dog", "tv")):
        absent = [Absence(thing, thing, COCO[thing]) for thing in things]
        for seed in range(12):
            text = said_of(caption, absent, NAMES, np.random.default_rng(seed), split)
            assert text is not None and has_negation(text.text) and not has_negation(text.asserted)
            assert text.text[0].isupper() == caption[0].isupper()
            assert text.text.endswith(".") or not caption.endswith(".")
            assert text.affirmative == " ".join(caption.split())
            assert "Mickey" in text.text or "Mickey" not in caption
            assert (
                "broccoli are" not in text.text
                and "  " not in text.text
                and " ," not in text.text.replace("stove ,", "")
            )


def test_an_empty_caption_says_nothing() -> None:
    assert said_of(" . ", [Absence("car", "car", "cars")], NAMES, np.random.default_rng(0), "train") is None


@pytest.mark.parametrize(
    ("caption", "sentence"),
    [
        ("A man is at a table.", True),
        ("A dog that looks like Lassie stands in a doorway.", True),
        ("A man at a table.", False),
        ("A dog that is sitting at a door.", False),
    ],
)
def test_only_a_sentence_goes_on_as_one(caption: str, sentence: bool) -> None:
    absent = [Absence("car", "car", "cars")]
    texts = [said_of(caption, absent, NAMES, np.random.default_rng(seed), "train") for seed in range(60)]
    said = {text.template for text in texts if text is not None}
    assert len(said) > 5
    joined = {t for t in said if t.startswith(("{base}, and ", "{base}, but ")) or not t.startswith("{base}")}
    assert bool(joined) is sentence


def test_what_is_at_home_in_few_places_tells_where_this_is() -> None:
    assert at_home_with({"skis", "dog"}) == at_home_with({"skis"}) != at_home_with({"dog"})
    assert at_home_with({"kite", "no category"}) >= {"frisbee", "boat"}
    assert at_home_with({"no category"}) == set()
