"""Captions that are put with their negation first."""

import torch

from negclip_core.clip import Clip
from negclip_core.training.data import TrainingSet
from negclip_core.training.negation_first import negation_first
from negclip_core.training.tables import ThingTable
from negclip_core.training.text import tokenise


def test_captions_are_put_with_their_negation_first(clip: Clip, data: TrainingSet) -> None:
    said = [
        ("a street", "a street with no cars"),
        ("", "there are no cars"),
        ("a street " * 80, "a street without cars"),
    ]
    rows = data.absent.denying(data.absent.names.index("car"))[:3]
    texts = {name: data.ids(name, torch.arange(len(data.image))) for name in ("affirmative", "negated")}
    for row, (rest, negated) in zip(rows.tolist(), said, strict=True):
        texts["affirmative"][row] = tokenise(clip.tokenizer, [rest])[0]
        texts["negated"][row] = tokenise(clip.tokenizer, [negated])[0]
    data = TrainingSet(**{**vars(data), **texts})
    expected = tokenise(clip.tokenizer, ["no cars, a street", said[1][1], said[2][1]]).long()
    assert torch.equal(negation_first(data, rows, 1.0), expected)
    assert torch.equal(negation_first(data, rows, 0.0), data.ids("negated", rows))


def test_two_things_are_denied_together_and_what_something_has_stays(clip: Clip, data: TrainingSet) -> None:
    size, rows = len(data.image), torch.tensor([0])

    def of(names: tuple[str, ...]) -> TrainingSet:
        two = ThingTable(names, torch.arange(2).int().repeat(size), 2 * torch.arange(size + 1))
        street = tokenise(clip.tokenizer, ["a street"] * size)
        return TrainingSet(**{**vars(data), "absent": two, "affirmative": street})

    expected = tokenise(clip.tokenizer, ["no cars and no people, a street"]).long()
    assert torch.equal(negation_first(of(("car", "person")), rows, 1.0), expected)
    assert torch.equal(negation_first(of(("car", "hat of man")), rows, 1.0), data.ids("negated", rows))
