"""Where token targets lie: the words they are held against, the ways from things, and what they leave alone."""

import copy
from pathlib import Path

import pytest
import torch

from negclip_core.clip import Clip, load_clip
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
from negclip_core.training.text import text_states, tokenise
from tests.situations import of_all_captions


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
    assert torch.isfinite(create({"name": "token_targets"})(of_all_captions(clip, seen)))


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
            return float(create({"name": "token_targets"})(of_all_captions(of, texts, clip)))

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


def test_token_targets_at_zero_extrapolation_are_the_rest_itself(clip: Clip, data: TrainingSet) -> None:
    objective = create({"name": "token_targets", "extrapolation": 0.0, "batch": 4})
    same = TrainingSet(**{**vars(data), "negated": data.affirmative})
    assert objective(of_all_captions(clip, same)) < 1e-6
    assert objective(of_all_captions(clip, data)) > 1e-2


def test_a_negation_that_comes_first_may_go_another_way_along(clip: Clip, data: TrainingSet) -> None:
    def loss(texts: dict[str, str], **settings: float) -> float:
        ids = {name: tokenise(clip.tokenizer, [text]) for name, text in texts.items()}
        rows = {name: table.expand(len(data.image), -1) for name, table in ids.items()}
        objective = create({"name": "token_targets", "batch": 1, **settings})
        return objective(of_all_captions(clip, TrainingSet(**{**vars(data), **rows}))).item()

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
    loss = objective(of_all_captions(clip, unknown))
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
