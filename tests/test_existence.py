"""Sentences that only say whether something is there: which pictures they are held against, and where they come from."""

from typing import Any

import torch

from negclip_core.clip import Clip
from negclip_core.language import parse
from negclip_core.training.data import TrainingSet
from negclip_core.training.objectives import Situation, create
from negclip_core.training.objectives.existence import alike
from tests.situations import of_all_captions


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
    assert create({"name": "existence"})(of_all_captions(clip, data)) == 0


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
    # Of what is probed only names are tokenised: any of the sentences would be noticed.
    assert said not in seen and not any(parse(text).negations for text in seen)


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
