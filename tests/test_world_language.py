import re
from collections import Counter

import numpy as np
import pytest

from negclip_core.captions.phrasings import FAMILIES, cue, negate, templates
from negclip_core.captions.phrasings import negated as written
from negclip_core.language import has_negation, parse
from negclip_core.world.catalog import KINDS, PLACES, Split, absence, split_of
from negclip_core.world.contrast import contrast
from negclip_core.world.language import caption, place_phrase, preposition, thing_phrase
from negclip_core.world.negation import NegatedPrompt, drift_prompt, likely, negated_prompt
from negclip_core.world.referring import Expression, occupied, referring
from negclip_core.world.scenes import Scene, sample_scene
from negclip_core.world.tokenizer import words

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(1)
    return [sample_scene(rng) for _ in range(300)]


def _prompts(split: Split, count: int = 600) -> list[NegatedPrompt]:
    rng = np.random.default_rng(2)
    return [negated_prompt(rng, split) for _ in range(count)]


def _all_phrasings() -> list[str]:
    rng = np.random.default_rng(3)
    texts = []
    for split in SPLITS:
        for family in ("before", "after", "affix", "two", "unseen-cue", "existence"):
            for place in PLACES if templates(family, split) else ():
                for kind in KINDS:
                    pair = (absence(kind), absence("car"))
                    texts.append(
                        negate(
                            place_phrase(place),
                            pair,
                            rng,
                            family=family,
                            split=split,
                            place=place,
                            prep=preposition(place),
                        )
                    )
    return texts


def test_every_word_the_world_says_is_in_the_word_list(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(4)
    texts = [caption(scene, rng) for scene in scenes for _ in range(20)]
    texts += [thing_phrase(scene, i, rng, 0.7) for scene in scenes for i in range(len(scene.things))]
    texts += [drift_prompt(rng, "test").prompt for _ in range(500)] + _all_phrasings()
    for split in SPLITS:
        for prompt in _prompts(split):
            texts += [prompt.prompt, prompt.affirmative, prompt.asserted]
        for scene in scenes:
            for i in range(len(scene.things)):
                for negated in (False, True):
                    phrase = referring(scene, i, rng, split, negated)
                    texts += [phrase.text, phrase.asserted] if phrase else []
        texts += [contrast(rng, split)[1].text for _ in range(100)]
    said = {word for text in texts for word in re.findall(r"[a-z']+", text.lower())}
    assert len(texts) > 10_000
    assert said - set(words()) == set()


def test_captions_hold_no_negation_and_name_only_what_is_there(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(5)
    nouns = {kind: {kind, absence(kind).plural} for kind in KINDS} | {"person": {"people", "man", "woman"}}
    for scene in scenes:
        text = caption(scene, rng)
        assert not has_negation(text)
        said = set(re.findall("[a-z]+", text))
        assert {kind for kind in KINDS if said & nouns[kind]} <= scene.kinds(), text


def _combinations(prompt: NegatedPrompt) -> list[tuple[str, ...]]:
    if prompt.noun:
        return [("noun_attribute", prompt.noun, name) for name in prompt.negated]
    return [("place_kind", prompt.place, name) for name in prompt.negated]


@pytest.mark.parametrize("split", SPLITS)
def test_a_prompt_is_its_splits_own(split: Split) -> None:
    for prompt in _prompts(split):
        owners = {split_of(*combination) for combination in _combinations(prompt)}
        assert owners == {"train"} if split == "train" else split in owners and len(owners - {"train"}) == 1
        assert not set(prompt.negated) & set(prompt.asked)
        assert prompt.noun or set(prompt.negated + prompt.asked) <= set(likely(prompt.place))


@pytest.mark.parametrize("split", SPLITS)
def test_prompts_have_all_families_and_as_many_negated_things(split: Split) -> None:
    prompts = _prompts(split)
    families = Counter(prompt.family for prompt in prompts)
    assert set(families) == set(FAMILIES) - ({"unseen-cue"} if split == "train" else set())
    assert all(len(prompt.negated) == (2 if prompt.family == "two" else 1) for prompt in prompts)


@pytest.mark.parametrize("split", SPLITS)
def test_the_parser_finds_the_negation_and_the_rest_of_prompts(split: Split) -> None:
    prompts = _prompts(split)
    found = [prompt for prompt in prompts if parse(prompt.prompt).affirmative == prompt.affirmative]
    assert len(found) > 0.98 * len(prompts)
    assert not any(has_negation(prompt.affirmative) or has_negation(prompt.asserted) for prompt in prompts)


def test_phrasings_of_the_splits_are_distinct() -> None:
    for family in (
        *FAMILIES,
        "before-people",
        "two-attributes",
        "colour",
        "clothes",
        "occupied",
        "existence",
    ):
        train, validation, test = (set(templates(family, split)) for split in SPLITS)
        assert not train & validation and not train & test and not validation & test


def test_a_place_without_a_prompt_of_the_split_is_refused() -> None:
    with pytest.raises(ValueError, match="unseen-cue"):
        negated_prompt(np.random.default_rng(0), "train", family="unseen-cue")


def _holds(scene: Scene, index: int, phrase: Expression) -> bool:
    """Whether the negated phrase is true of a thing."""
    thing = scene.things[index]
    if phrase.family == "colour":
        return thing.colour not in phrase.negated
    if phrase.family == "occupied":
        return not occupied(scene, index)
    return not thing.attributes & set(phrase.negated)


@pytest.mark.parametrize("split", SPLITS)
def test_a_negated_phrase_is_true_of_one_thing_among_its_like(split: Split) -> None:
    rng = np.random.default_rng(6)
    for _ in range(150):
        scene, phrase = contrast(rng, split)
        alike = [i for i, thing in enumerate(scene.things) if phrase.noun in (thing.kind, thing.gender)]
        assert len(alike) > 1
        if phrase.family != "two":
            assert [i for i in alike if _holds(scene, i, phrase)] == [phrase.index]
        assert _holds(scene, phrase.index, phrase)
        assert has_negation(phrase.text) and not has_negation(phrase.asserted)


def test_an_affirmative_phrase_holds_no_negation(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(7)
    phrases = [referring(s, i, rng, "train", False) for s in scenes for i in range(len(s.things))]
    found = [phrase.text for phrase in phrases if phrase]
    assert len(found) > 0.6 * len(phrases)
    assert not any(has_negation(text) for text in found)


def test_training_meets_every_cue_and_held_out_splits_every_phrasing_alike() -> None:
    rng, car = np.random.default_rng(0), absence("car")
    drawn = [written("a street", [car], rng, family="before", place="street") for _ in range(4000)]
    cues = Counter(cue(text.template) for text in drawn)
    assert set(cues) == {cue(template) for template in templates("before", "train")}
    assert min(cues.values()) / len(drawn) > 0.5 / len(cues)
    assert cues.most_common(1)[0][0] == "no"
    held = [
        written("a street", [car], rng, family="before", split="test", place="street") for _ in range(4000)
    ]
    counts = Counter(text.template for text in held)
    assert len(counts) == len(templates("before", "test"))
    assert max(counts.values()) < 1.3 * min(counts.values())
