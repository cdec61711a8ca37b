"""What each objective asks of a text tower, and what it leaves alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

from negclip_core.clip import Clip, load_clip
from negclip_core.errors import RequestError
from negclip_core.training.data import TrainingSet
from negclip_core.training.objectives import Situation, create
from negclip_core.training.text import cut, text_states, tokenise
from tests.situations import of_all_captions

TEXTS = ["a street with no cars", "a man without a hat by the lake", ""]


def test_cutting_after_the_end_token_changes_nothing(clip: Clip) -> None:
    ids = clip.tokenizer(TEXTS)
    short = cut(ids)
    assert short.shape[1] < 20
    with torch.no_grad():
        whole = clip.model.encode_text(ids)
        torch.testing.assert_close(text_states(clip.model, short).pooled, whole, rtol=1e-5, atol=1e-6)


def test_states_are_what_a_diffusion_host_reads(clip: Clip) -> None:
    ids = tokenise(clip.tokenizer, TEXTS).long()
    states = text_states(clip.model, ids)
    host = clip.text_encoder()(ids, output_hidden_states=True)
    torch.testing.assert_close(states.last, host.last_hidden_state, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(states.penultimate, host.hidden_states[-2], rtol=1e-4, atol=1e-5)


def test_vanilla_preserves_itself_and_another_tower_does_not(
    clip: Clip, other_clip_folder: Path, data: TrainingSet
) -> None:
    preserve = create({"name": "preserve", "batch": 8})
    assert preserve(of_all_captions(clip, data)) == 0
    assert preserve(of_all_captions(load_clip(other_clip_folder), data, clip)) > 0.5


def test_pairwise_asks_for_the_opposite_where_the_thing_is_there(clip: Clip, data: TrainingSet) -> None:
    images = data.features[data.image]
    negated, asserted = (
        clip.model.encode_text(ids[torch.arange(len(ids))].long(), normalize=True)
        for ids in (data.negated, data.asserted)
    )
    margin = 5.0 * ((negated - asserted) * images).sum(1)
    right = torch.where(data.holds, margin, -margin)
    loss = create({"name": "pairwise", "scale": 5.0})(of_all_captions(clip, data))
    torch.testing.assert_close(loss, torch.nn.functional.softplus(-right).mean())


def _similarities(
    clip: Clip, data: TrainingSet
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit-length images, true texts and false texts of all rows, and the scale."""
    every = torch.arange(len(data.image))
    with torch.no_grad():
        negated, asserted = (
            clip.model.encode_text(t[every].long(), normalize=True) for t in (data.negated, data.asserted)
        )
    holds = data.holds[:, None]
    true, false = torch.where(holds, negated, asserted), torch.where(holds, asserted, negated)
    return data.features[data.image], true, false, clip.model.logit_scale.exp()


def test_infonce_is_of_true_texts_or_of_the_captions_as_they_were(clip: Clip, data: TrainingSet) -> None:
    images, true, _, scale = _similarities(clip, data)
    every = torch.arange(len(data.image))
    with torch.no_grad():
        plain = clip.model.encode_text(data.caption[every].long(), normalize=True)
    entropy = torch.nn.functional.cross_entropy
    for settings, texts in (({}, true), ({"plain": True}, plain)):
        logits = scale * images @ texts.T
        expected = (entropy(logits, every) + entropy(logits.T, every)) / 2
        found = create({"name": "infonce", **settings})(of_all_captions(clip, data))
        torch.testing.assert_close(found, expected)


def test_hard_negatives_hold_each_image_against_its_false_text_too(clip: Clip, data: TrainingSet) -> None:
    images, true, false, scale = _similarities(clip, data)
    labels = torch.arange(len(true))
    entropy = torch.nn.functional.cross_entropy
    expected = (
        entropy(scale * images @ torch.cat([true, false]).T, labels)
        + entropy(scale * true @ images.T, labels)
    ) / 2
    torch.testing.assert_close(create({"name": "hard_negatives"})(of_all_captions(clip, data)), expected)


def test_con_clips_distractors_are_pictures_of_which_the_false_text_is_true(
    clip: Clip, data: TrainingSet
) -> None:
    images, true, false, scale = _similarities(clip, data)
    # Dogs are in the first picture, and in no other.
    dog = data.absent.denying(data.absent.names.index("dog"))
    holds = data.holds.clone()
    holds[dog[0]] = False
    known = TrainingSet(**{**vars(data), "holds": holds})
    labels = torch.arange(1)
    entropy = torch.nn.functional.cross_entropy
    torch.manual_seed(0)
    loss = create({"name": "con_clip"})(Situation(clip.model, clip.model, known, dog[3:4]))
    row = int(dog[3])
    both = torch.stack([data.features[data.image[row]], data.features[data.image[dog[0]]]])
    of_image = (scale * images[row] @ torch.stack([true[row], false[row]]).T)[None]
    of_text = (scale * true[row] @ both.T)[None]
    torch.testing.assert_close(loss, (entropy(of_image, labels) + entropy(of_text, labels)) / 2)


def test_a_step_compares_all_positions_or_the_texts_own(clip: Clip, data: TrainingSet) -> None:
    torch.manual_seed(0)
    steps = [of_all_captions(clip, data) for _ in range(40)]
    lengths = [now.length(4) for now in steps]
    texts = (data.caption, data.negated, data.affirmative, data.asserted)
    ends = max(int(text[torch.arange(4)].argmax(1).max()) for text in texts)
    assert set(lengths) == {ends + 2, 77} and lengths.count(77) < 20
    short, whole = steps[lengths.index(ends + 2)], steps[lengths.index(77)]
    few, all_of_them = (now.states("negated", 4).last for now in (short, whole))
    torch.testing.assert_close(few, all_of_them[:, : ends + 2], rtol=1e-4, atol=1e-5)
    with_host = Situation(clip.model, clip.model, data, short.rows, host=object())
    assert with_host.length(4) == 77


def test_the_host_is_asked_for_the_rest_pushed_away_from_the_thing(clip: Clip, data: TrainingSet) -> None:
    class Linear:
        """A host whose output is its text states' mean, so that the target is known in closed form."""

        def noisy(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros(len(images), 1), torch.zeros(len(images))

        def predict(self, latents: torch.Tensor, times: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
            return states.mean(1)

    rows = torch.arange(4)
    loss = create({"name": "host_score", "push": 2.0})(
        Situation(clip.model, clip.model, data, rows, Linear())
    )
    negated, rest, there = (
        text_states(clip.model, getattr(data, name)[rows].long()).last.mean(1)
        for name in ("negated", "affirmative", "asserted")
    )
    expected = (negated - (3 * rest - 2 * there)).square().mean() / rest.square().mean()
    torch.testing.assert_close(loss, expected)


def test_unknown_objectives_and_settings_are_named() -> None:
    with pytest.raises(RequestError, match=r"'hinge' is not known; there are: .*infonce"):
        create({"name": "hinge"})
    with pytest.raises(RequestError, match="no setting 'lambda'"):
        create({"name": "token_targets", "lambda": 2})


@pytest.mark.parametrize(
    "setting",
    [{"weight": "much"}, {"weight": -1.0}, {"batch": 0}, {"batch": 2.5}, {"through_host": 1}, {"strange": None},
     {"extrapolation_first": float("nan")}],
)  # fmt: skip
def test_a_setting_of_a_value_that_it_cannot_have_is_named(setting: dict[str, Any]) -> None:
    name, value = next(iter(setting.items()))
    with pytest.raises(RequestError, match=f"'token_targets': {name} cannot be {value!r}"):
        create({"name": "token_targets", **setting})
