"""Which pictures hold a thing and which lack it, by what their captions mention.

    P(holds | v) = s(v) / c,    s(v) = P(mentioned | v),    c = mean of s over the pictures whose captions mention the thing

(Elkan and Noto 2008, learning from positive and unlabelled examples). A caption that mentions a car tells that one is there; one
that does not tells little. But a picture that is like those whose captions mention cars in nothing that matters most likely has
none. s is a linear probe of the image embeddings, all that a text embedding can tell pictures apart by.

Captions that deny a thing know it of few pictures, and of none in places where training denies it nowhere. A sentence that is
only held against those leans one way in all others.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from negclip_core.captions.names import Names, plural
from negclip_core.training.captions_file import is_had
from negclip_core.training.data import TrainingSet
from negclip_core.training.text import cut, tokenise

__all__ = ["Pictures", "believed", "mentioned"]

_AT_ONCE = 65_536  # captions
_MOST = 20_000  # pictures that the probe is fitted to
_SCALE = 10.0  # of the embeddings, which are of unit length
_DECAY = 1e-5
_LACKING = 0.25  # P(holds) below which a picture that is not said to hold a thing lacks it
_TRUST = 0.95  # of what is known, which the belief has to get right


class Pictures(NamedTuple):
    """Of one thing, rows of `TrainingSet.features`, ascending, int64 [n] each."""

    holding: Tensor
    lacking: Tensor


def mentioned(data: TrainingSet, things: Sequence[int]) -> Tensor:
    """Which of these things, by their numbers, the captions to train on mention of each picture, bool [images, things].

    By their own names, other words for them and narrower ones ("man" for a person).
    """
    forms = _forms(data, things)
    first = torch.tensor([form[0] for form, _ in forms], dtype=torch.int32)
    found = torch.zeros(len(data.features), len(things), dtype=torch.bool)
    rows = torch.nonzero(data.training & (data.image >= 0))[:, 0]
    for some in rows.split(_AT_ONCE):
        ids, images = cut(data.caption[some]), data.image[some]
        # Only where a name may begin: a caption holds few of them, and all of them are many.
        row, place = torch.nonzero(torch.isin(ids, first), as_tuple=True)
        begins = ids[row, place]
        for form, column in forms:
            at = begins == form[0]
            where, after = row[at], place[at]
            for token in form[1:]:
                after = (after + 1).clamp(max=ids.shape[1] - 1)
                same = ids[where, after] == token
                where, after = where[same], after[same]
            found[images[where], column] = True
    return found


def _forms(data: TrainingSet, things: Sequence[int]) -> list[tuple[list[int], int]]:
    """The token ids of each word for a thing, and which of `things` it is."""
    names = [data.absent.names[thing] for thing in things]
    known = Names({name: plural(name) for name in data.absent.names})
    words = [
        (word, column)
        for column, name in enumerate(names)
        for word in sorted(known.of(name) | known.narrower_than(name))
    ]
    ids = tokenise(data.tokenizer, [word for word, _ in words])
    return [
        (row[1 : int(row.argmax())].tolist(), column) for row, (_, column) in zip(ids, words, strict=True)
    ]


def believed(data: TrainingSet) -> list[Pictures]:
    """For each thing the pictures that hold it and those that lack it: known from captions that deny it, or else believed.

    Nothing is believed of a thing where that is wrong too often of the known pictures, nor where no picture of either kind is
    known, nor of what a thing has ("hat of man").
    """
    found = [Pictures(*data.pictures_of(thing)) for thing in range(len(data.absent.names))]
    things = [
        thing
        for thing, (holding, lacking) in enumerate(found)
        if len(holding) and len(lacking) and not is_had(data.absent.names[thing])
    ]
    if not things:
        return found
    named = mentioned(data, things)
    seen = data.image[data.training & (data.image >= 0)].unique()
    share = _share_mentioned(data.features, named, seen)
    for column, thing in enumerate(things):
        holding, lacking = found[thing]
        said = named[seen, column]
        chance = share[:, column] / share[seen[said], column].mean()  # no number where no caption mentions it
        right = torch.stack(
            [(chance[holding] >= _LACKING).float().mean(), (chance[lacking] < _LACKING).float().mean()]
        )
        if right.mean() < _TRUST:
            continue
        holds, lacks = (torch.zeros(len(data.features), dtype=torch.bool) for _ in range(2))
        holds[seen], lacks[seen] = said, ~said & (chance[seen] < _LACKING)
        holds[holding], lacks[holding] = True, False
        holds[lacking], lacks[lacking] = False, True
        found[thing] = Pictures(torch.nonzero(holds)[:, 0], torch.nonzero(lacks)[:, 0])
    return found


def _share_mentioned(features: Tensor, named: Tensor, seen: Tensor) -> Tensor:
    """s(v) of each picture and thing, float32 [images, things]: logistic regression, all things side by side."""
    some = seen[torch.randperm(len(seen), generator=torch.Generator().manual_seed(0))[:_MOST]]
    inputs, labels = _SCALE * features[some], named[some].float()
    weight = torch.zeros(features.shape[1], labels.shape[1], requires_grad=True)
    bias = torch.zeros(labels.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        errors = F.binary_cross_entropy_with_logits(inputs @ weight + bias, labels, reduction="none")
        total = errors.mean(0).sum() + _DECAY * weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    with torch.no_grad():
        return torch.sigmoid(_SCALE * features @ weight + bias)
