"""What each objective asks of a text tower, and what it leaves alone."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from negclip_core.clip import Clip, load_clip
from negclip_core.errors import RequestError
from negclip_core.language import parse
from negclip_core.training.data import TrainingSet
from negclip_core.training.objectives import Situation, create
from negclip_core.training.objectives.existence import alike
from negclip_core.training.objectives.token_targets import (
    after_prefix,
    attainable,
    same_words,
    strangers,
    ways,
)
from negclip_core.training.tables import ThingTable
from negclip_core.training.text import cut, text_states, tokenise

TEXTS = ["a street with no cars", "a man without a hat by the lake", ""]


def _situation(clip: Clip, data: TrainingSet, other: Clip | None = None) -> Situation:
    return Situation(clip.model, (other or clip).model, data, torch.arange(len(data.image)))


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
    assert preserve(_situation(clip, data)) == 0
    assert preserve(_situation(load_clip(other_clip_folder), data, clip)) > 0.5


def test_pairwise_asks_for_the_opposite_where_the_thing_is_there(clip: Clip, data: TrainingSet) -> None:
    images = data.features[data.image]
    negated, asserted = (
        clip.model.encode_text(ids[torch.arange(len(ids))].long(), normalize=True)
        for ids in (data.negated, data.asserted)
    )
    margin = 5.0 * ((negated - asserted) * images).sum(1)
    right = torch.where(data.holds, margin, -margin)
    loss = create({"name": "pairwise", "scale": 5.0})(_situation(clip, data))
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


def test_hard_negatives_hold_each_image_against_its_false_text_too(clip: Clip, data: TrainingSet) -> None:
    images, true, false, scale = _similarities(clip, data)
    labels = torch.arange(len(true))
    entropy = torch.nn.functional.cross_entropy
    expected = (
        entropy(scale * images @ torch.cat([true, false]).T, labels)
        + entropy(scale * true @ images.T, labels)
    ) / 2
    torch.testing.assert_close(create({"name": "hard_negatives"})(_situation(clip, data)), expected)


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


def test_sentences_of_existence_are_held_against_pictures_of_either_kind(
    clip: Clip, data: TrainingSet
) -> None:
    rows = data.absent.denying(data.absent.names.index("car"))
    holds = data.image % 2 == 0
    alone: dict[str, Any] = {"holds": holds, "affirmative": data.empty.expand(len(data.image), -1)}
    # Where every picture that lacks cars looks alike, and so does every other, a sentence is told from its
    # counterpart by one number.
    lacks, has = (torch.nn.functional.normalize(torch.randn(32), dim=0) for _ in range(2))
    features = torch.stack([lacks if held else has for held in holds])
    known = TrainingSet(
        **{**vars(data), **alone, "features": features, "image": torch.arange(len(data.image))}
    )
    situation = Situation(clip.model, clip.model, known, rows[:1])
    with torch.no_grad():
        negated, asserted = (
            clip.model.encode_text(ids[rows[:1]].long(), normalize=True)[0]
            for ids in (data.negated, data.asserted)
        )
    softplus = torch.nn.functional.softplus
    expected = [softplus(-5 * (negated - asserted) @ lacks), softplus(5 * (negated - asserted) @ has)]
    loss = create({"name": "existence", "scale": 5.0})(situation)
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    # A caption that says more is none of its business.
    assert create({"name": "existence"})(_situation(clip, data)) == 0


def test_where_no_caption_only_says_that_something_is_absent_such_sentences_are_written(
    clip: Clip, data: TrainingSet
) -> None:
    seen: list[str] = []

    def listening(texts: list[str]) -> torch.Tensor:
        seen.extend(texts)
        return clip.tokenizer(texts)

    own: dict[str, Any] = {
        "holds": data.image % 2 == 0, "image": torch.arange(len(data.image)), "tokenizer": listening,
        "features": torch.nn.functional.normalize(torch.randn(len(data.image), 32), dim=1),
    }  # fmt: skip
    more = TrainingSet(**{**vars(data), **own})
    objective, row = create({"name": "existence"}), data.absent.denying(data.absent.names.index("car"))[:1]
    situation, losses = Situation(clip.model, clip.model, more, row), []
    for _ in range(2):
        torch.manual_seed(0)
        losses.append(objective(situation))
    assert losses[0] > 0 and torch.equal(losses[0], losses[1])
    said, asserted = seen[-2:]
    parsed = parse(said)
    assert [thing for each in parsed.negations for thing in each.absent] in (["car"], ["cars"])
    assert not parsed.affirmative and "car" in asserted and not parse(asserted).negations

    seen.clear()
    alone = own | {"affirmative": data.empty.expand(len(data.image), -1)}
    assert create({"name": "existence"})(
        Situation(clip.model, clip.model, TrainingSet(**{**vars(data), **alone}), row)
    )
    assert said not in seen  # of what is probed only names are tokenised


def test_pictures_are_paired_with_those_most_like_them(data: TrainingSet) -> None:
    rows = data.absent.denying(data.absent.names.index("car"))
    assert data.image[rows].tolist() == list(range(12))
    # Two holding pictures, each with one lacking picture next to it on a circle and the others far off.
    angles = torch.linspace(2, 3, 12)
    angles[[0, 1, 5, 7]] = torch.tensor([0.0, 1.0, 1.1, 0.1])
    features = torch.stack([angles.cos(), angles.sin()], 1)
    holds = data.holds.clone()
    holds[rows[:2]] = False
    found = alike(TrainingSet(**{**vars(data), "features": features, "holds": holds}))
    holding, nearest = found[data.absent.names.index("car")]
    assert holding.tolist() == [0, 1]
    assert nearest[:, 0].tolist() == [7, 5]
    assert not {0, 1} & set(nearest.flatten().tolist())


def test_what_is_held_back_for_validation_is_not_looked_at(clip: Clip, data: TrainingSet) -> None:
    car, tree = (data.absent.names.index(name) for name in ("car", "tree"))
    rows = data.absent.denying(car)
    holds, training = data.holds.clone(), torch.ones(len(data.image), dtype=torch.bool)
    holds[rows[:2]] = False
    training[rows[[0, 5]]] = False
    training[data.absent.denying(tree)] = False
    seen = TrainingSet(**{**vars(data), "holds": holds, "training": training})
    holding, lacking = seen.pictures_of(car)
    assert (holding.tolist(), lacking.tolist()) == ([1], [2, 3, 4, 6, 7, 8, 9, 10, 11])
    assert not any(len(pictures) for pictures in seen.pictures_of(tree))
    assert alike(seen)[tree][1].numel() == 0
    # The way from a car is that of the other captions alone, and from a tree there is none.
    found = ways(clip.model, seen)
    held = rows[[0, 5]]
    spoiled = {
        name: getattr(data, name)[torch.arange(len(data.image))] for name in ("affirmative", "asserted")
    }
    for ids in spoiled.values():
        ids[held] = data.negated[held]
    again = ways(clip.model, TrainingSet(**{**vars(seen), **spoiled}))
    for layer in ("last", "penultimate"):
        assert torch.equal(getattr(found, layer)[car], getattr(again, layer)[car])
        assert getattr(found, layer)[car].any() and not getattr(found, layer)[tree].any()
    assert torch.isfinite(create({"name": "token_targets"})(_situation(clip, seen)))


def test_targets_leave_the_words_before_the_negation_alone(clip: Clip) -> None:
    negated, asserted, rest = (
        tokenise(clip.tokenizer, [text])
        for text in ("a street with no cars", "a street with cars", "a street")
    )
    free = after_prefix(negated, asserted, rest)
    # start, a, street, with | no, cars, end, ...
    assert free[0, :4].sum() == 0 and free[0, 4:].min() == 1


@pytest.mark.parametrize(
    ("text", "other", "index"),
    [
        # start a street with no cars end | start a street end
        ("a street with no cars", "a street", [0, 1, 2, 3, 3, 3, 6]),
        # start no cars , a street end | start a street end
        ("no cars, a street", "a street", [0, 3, 3, 3, 1, 2, 6]),
        # start a man without a hat in the park end | start a man in the park end
        ("a man without a hat in the park", "a man in the park", [0, 1, 2, 6, 6, 6, 3, 4, 5, 9]),
        ("there are no cars", "", [0, 1, 1, 1, 1, 5]),
    ],
)
def test_words_are_held_against_the_same_words(clip: Clip, text: str, other: str, index: list[int]) -> None:
    found = same_words(*(tokenise(clip.tokenizer, [each]) for each in (text, other)))[0].tolist()
    assert found[: len(index)] == index
    # What comes after both ends stays where it is.
    assert found[20:] == list(range(20, 77))


def test_targets_lie_where_the_last_norm_can_reach(clip: Clip) -> None:
    norm = clip.model.ln_final
    with torch.no_grad():
        out = norm(torch.randn(5, norm.weight.shape[0]))
        # What the norm puts out is left as it is, what it cannot put out is not.
        torch.testing.assert_close(attainable(norm, out), out, rtol=1e-3, atol=1e-4)
        pushed = attainable(norm, 4 * out)
        assert not torch.allclose(pushed, 4 * out, rtol=0.1)
        torch.testing.assert_close(attainable(norm, pushed), pushed, rtol=1e-3, atol=1e-4)


def test_the_way_from_a_thing_is_the_mean_over_the_captions_that_deny_it(
    clip: Clip, data: TrainingSet
) -> None:
    assert set(data.absent.names) == {"car", "dog", "tree"}
    found = ways(clip.model, data)
    rows = data.absent.denying(data.absent.names.index("car"))
    assert len(rows) == 12

    def at_end(ids: torch.Tensor, layer: str) -> torch.Tensor:
        with torch.no_grad():
            states = getattr(text_states(clip.model, ids.long()), layer)
        return states[torch.arange(len(ids)), ids.argmax(1)]

    for layer in ("last", "penultimate"):
        ways_of_all = at_end(data.affirmative[rows], layer) - at_end(data.asserted[rows], layer)
        torch.testing.assert_close(
            getattr(found, layer)[data.absent.names.index("car")], ways_of_all.mean(0), rtol=1e-3, atol=1e-4
        )


def test_captions_that_say_nothing_else_leave_the_end_token_to_the_contrast(
    clip: Clip, clip_folder: Path, data: TrainingSet
) -> None:
    alone = TrainingSet(**{**vars(data), "affirmative": data.empty.expand(len(data.image), -1)})
    student = load_clip(clip_folder)
    with torch.no_grad():
        student.model.text_projection.mul_(-1)  # of which the pooled state alone knows

    def loss(of: Clip, texts: TrainingSet) -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            return float(create({"name": "token_targets"})(_situation(of, texts, clip)))

    assert loss(student, alone) == loss(clip, alone)
    assert loss(student, data) > loss(clip, data) + 0.5


def test_strangers_stand_only_in_what_all_texts_begin_with(clip: Clip) -> None:
    texts = ("a street without cars and a tree", "a street with cars and a tree", "a street and a tree")
    ids = [tokenise(clip.tokenizer, [text] * 400) for text in texts]
    embeddings = clip.model.token_embedding.weight
    chosen, vectors = strangers(ids, embeddings, 0.5)
    # start a street | without cars and a tree
    assert not chosen[:, 0].any() and not chosen[:, 3:].any() and not chosen[::2].any()
    assert 0.4 < float(chosen[1::2, 1:3].float().mean()) < 0.6
    assert vectors.shape == (*ids[0].shape, embeddings.shape[1])
    with torch.no_grad():
        plain, strange = (
            text_states(clip.model, ids[0].long(), each).last for each in (None, (chosen, vectors))
        )
    same = ~chosen.any(1)
    torch.testing.assert_close(strange[same], plain[same])
    assert (strange[~same] - plain[~same]).abs().amax((1, 2)).min() > 1e-3


def test_a_step_compares_all_positions_or_the_texts_own(clip: Clip, data: TrainingSet) -> None:
    torch.manual_seed(0)
    steps = [_situation(clip, data) for _ in range(40)]
    lengths = [now.length(4) for now in steps]
    texts = (data.caption, data.negated, data.affirmative, data.asserted)
    ends = max(int(text[torch.arange(4)].argmax(1).max()) for text in texts)
    assert set(lengths) == {ends + 2, 77} and lengths.count(77) < 20
    short, whole = steps[lengths.index(ends + 2)], steps[lengths.index(77)]
    few, all_of_them = (now.states("negated", 4).last for now in (short, whole))
    torch.testing.assert_close(few, all_of_them[:, : ends + 2], rtol=1e-4, atol=1e-5)
    with_host = Situation(clip.model, clip.model, data, short.rows, host=object())
    assert with_host.length(4) == 77


def test_token_targets_at_zero_extrapolation_are_the_rest_itself(clip: Clip, data: TrainingSet) -> None:
    objective = create({"name": "token_targets", "extrapolation": 0.0, "batch": 4})
    same = TrainingSet(**{**vars(data), "negated": data.affirmative})
    assert objective(_situation(clip, same)) < 1e-6
    assert objective(_situation(clip, data)) > 1e-2


def test_a_negation_that_comes_first_may_go_another_way_along(clip: Clip, data: TrainingSet) -> None:
    def loss(texts: dict[str, str], **settings: float) -> float:
        ids = {name: tokenise(clip.tokenizer, [text]) for name, text in texts.items()}
        rows = {name: table.expand(len(data.image), -1) for name, table in ids.items()}
        objective = create({"name": "token_targets", "batch": 1, **settings})
        return objective(_situation(clip, TrainingSet(**{**vars(data), **rows}))).item()

    first = {"negated": "no cars, a street", "asserted": "a street with cars", "affirmative": "a street"}
    after = first | {"negated": "a street with no cars"}
    one, none = {"extrapolation": 1.0}, {"extrapolation": 0.0}
    assert loss(first, **one, extrapolation_first=0.0) == loss(first, **none) != loss(first, **one)
    assert loss(after, **one, extrapolation_first=0.0) == loss(after, **one)


def test_captions_that_do_not_say_what_they_deny_have_their_own_way(clip: Clip, data: TrainingSet) -> None:
    objective = create({"name": "token_targets", "batch": 4})
    nothing = ThingTable(
        (), torch.empty(0, dtype=torch.int32), torch.zeros(len(data.image) + 1, dtype=torch.long)
    )
    unknown = TrainingSet(**{**vars(data), "absent": nothing})
    loss = objective(_situation(clip, unknown))
    assert torch.isfinite(loss) and loss > 1e-2


def test_token_targets_lie_beyond_the_rest(clip: Clip, data: TrainingSet) -> None:
    """A tower that puts out the targets has no loss; its embedding lies beyond the rest's, away from the thing."""
    objective = create({"name": "token_targets", "extrapolation": 2.0, "batch": 1})
    row = torch.tensor([0])
    student = copy.deepcopy(clip.model)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    for step in range(150):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss = objective(Situation(student, clip.model, data, row))
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        negated = text_states(student, data.negated[row].long()).pooled
        rest, there = (
            text_states(clip.model, getattr(data, name)[row].long()).pooled
            for name in ("affirmative", "asserted")
        )
    assert float(((negated - rest) * (rest - there)).sum()) > 0


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
