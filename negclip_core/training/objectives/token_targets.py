"""Move what a host reads of a negated caption beyond the caption's affirmative rest, away from the absent thing.

    h* = N(h(rest) + λ |d| w / |w|),    d = h(rest) - h(rest with the thing),    w = mean of d over the captions that
                                                                                 deny the same thing

position by position, vanilla's states; d at the end token. λ = 0 erases the mention only, and then "a street with no
cars" draws what "a street" draws: cars. One caption's own difference also holds what is by the way; the mean is the
thing's own direction, keeps the rest better, and is the same wherever the thing is denied, so it is learned for places
that training never showed. How far it is to go is the caption's own: a hat is most of "a man with a hat", and little of
a full street. N moves a state to the nearest one that the final layer norm, which is never trained, can
put out; without it no tower could reach h*.

A caption and its rest differ in length, so each position is held against the one of the same word; where the negation
itself stands, against the rest's end. Positions before the negation cannot know of it (attention is causal) and keep
vanilla's states. The projected embedding, of which CLIPSeg reads the length as well, is that of h* at the end token.

Where no word stands before the negation, all of them move, and a smaller λ does.

Captions that say nothing else ("there are no cars") have no rest that resembles any picture, and h* would be less like
every picture than "there are cars" is. Their end token is free: the contrastive objectives set it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from open_clip.model import CLIP
from torch import Tensor, nn

from negclip_core.training.data import TrainingSet
from negclip_core.training.negation_first import negation_first
from negclip_core.training.objectives import Situation
from negclip_core.training.objectives.preserve import relative_error
from negclip_core.training.text import cut, says_nothing, text_states

__all__ = [
    "Objective",
    "Ways",
    "after_prefix",
    "attainable",
    "beyond_rest",
    "same_words",
    "strangers",
    "ways",
]

_CAPTIONS = 128  # of one thing, that its way is the mean of


def after_prefix(negated: Tensor, asserted: Tensor, affirmative: Tensor) -> Tensor:
    """True at the positions from which a negated text differs from both its counterparts; bool [n, length]."""
    shared = torch.maximum(
        (negated == asserted).long().cumprod(1).sum(1), (negated == affirmative).long().cumprod(1).sum(1)
    )
    return torch.arange(negated.shape[1], device=negated.device)[None] >= shared[:, None]


def same_words(text: Tensor, other: Tensor) -> Tensor:
    """Where in another text the word at each position of a text stands.

    Both begin alike, end alike, or both; what stands between is held against the other's end token, and so is what
    comes after the end.

    Args:
        text, other: token ids int [n, length], each with its end token, the highest id of its row.

    Returns:
        int64 [n, length], positions in the other text.
    """
    places = torch.arange(text.shape[1], device=text.device)[None]
    end, other_end = text.argmax(1)[:, None], other.argmax(1)[:, None]
    shortest = torch.minimum(end, other_end)
    prefix = torch.minimum((text == other).long().cumprod(1).sum(1, keepdim=True), shortest)
    # The same from behind: column k holds the (k + 1)-th word before the end.
    backwards = [
        ids.gather(1, (last - 1 - places).clamp(min=0)) for ids, last in ((text, end), (other, other_end))
    ]
    inside = places < shortest - prefix
    suffix = ((backwards[0] == backwards[1]) & inside).long().cumprod(1).sum(1, keepdim=True)
    index = torch.where(places < prefix, places, other_end)
    index = torch.where((places >= end - suffix) & (places < end), places - end + other_end, index)
    return torch.where(places >= end, torch.maximum(places, other_end), index)


def attainable(norm: nn.LayerNorm, states: Tensor) -> Tensor:
    """The states [..., width] nearest to the given ones, up to the norm's own scale, that `norm` can put out."""
    inner = (states - norm.bias) / norm.weight
    centred = inner - inner.mean(-1, keepdim=True)
    return centred / centred.square().mean(-1, keepdim=True).sqrt() * norm.weight + norm.bias


def beyond_rest(negated: Tensor, affirmative: Tensor, rest: Tensor, way: Tensor) -> Tensor:
    """The rest's states [n, length, width] in the order of the negated text, moved by `way` [n, width].

    `negated` and `affirmative` are token ids int [n, length].
    """
    words = same_words(negated, affirmative)[..., None]
    return rest.gather(1, words.expand_as(rest)) + way[:, None]


def at_end(states: Tensor, ids: Tensor) -> Tensor:
    """The states [n, width] at the end tokens of texts int [n, length]."""
    return states[torch.arange(len(ids), device=ids.device), ids.argmax(1)].float()


class Ways(NamedTuple):
    """The way from each thing that captions deny to its absence, float [things, width] each."""

    last: Tensor
    penultimate: Tensor


@torch.no_grad()
def ways(vanilla: CLIP, data: TrainingSet) -> Ways:
    """The mean of h(rest) - h(rest with the thing) at the end token, over captions that deny that thing alone and say more.

    Of captions to train on; zero where none of them denies the thing.
    """
    found: dict[str, list[Tensor]] = {"last": [], "penultimate": []}
    for thing in range(len(data.absent.names)):
        denying = data.denying(thing)
        alone = denying[data.absent.counts[denying] == 1]
        rows = alone[~says_nothing(data.affirmative[alone])][:_CAPTIONS]
        if not len(rows):  # denied together with others only, or where nothing else is said
            rows = denying[:_CAPTIONS]
        if not len(rows):
            for means in found.values():
                means.append(torch.zeros_like(vanilla.ln_final.weight))
            continue
        texts = [cut(data.ids(name, rows)) for name in ("affirmative", "asserted")]
        without, having = (text_states(vanilla, ids) for ids in texts)
        for layer, means in found.items():
            ways_of_all = at_end(getattr(without, layer), texts[0]) - at_end(getattr(having, layer), texts[1])
            means.append(ways_of_all.mean(0))
    nothing = vanilla.ln_final.weight.new_zeros(0, len(vanilla.ln_final.weight))
    return Ways(*(torch.stack(means) if means else nothing for means in found.values()))


def strangers(ids: Sequence[Tensor], embeddings: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Put words that do not exist in place of a share of the words that all texts begin with, in every second row.

    A word that does not exist is two random tokens in one. Who lacks a hat must not matter to what "without a hat"
    does; a tower that also meets those who cannot be told apart has no use for learning each with its hat by heart.

    Returns:
        Where they stand, bool [n, length], and their embeddings float [n, length, width].
    """
    common = torch.stack([text == ids[0] for text in ids]).all(0).long().cumprod(1).bool().cpu()
    common[:, 0] = False  # the start token
    common[::2] = False
    chosen = common & (torch.rand(common.shape) < share)
    first, second = torch.randint(len(embeddings), (2, *common.shape))
    both = [embeddings[words.to(embeddings.device)] for words in (first, second)]
    return chosen.to(embeddings.device), (both[0] + both[1]) / 2**0.5


def scaled(way: Tensor, length: Tensor) -> Tensor:
    """Ways [n, width] of the given lengths [n]."""
    return way / way.norm(dim=-1, keepdim=True).clamp(min=1e-9) * length[:, None]


@dataclass(frozen=True)
class Objective:
    """Relative squared error to the targets, over the first `batch` rows."""

    weight: float = 1.0
    extrapolation: float = 1.0  # λ where words stand before the negation, which cannot move
    extrapolation_first: float | None = None  # λ where the negation comes first; None: the same
    put_first: float = 0.0  # share of the captions that are put with their negation first
    batch: int = 48
    strange: float = 0.0  # share of the words before a negation, in every second row, that become strangers
    through_host: bool = False  # in the last layer along the ways of `host_ways` instead of the mean of d
    _ways: list[Ways] = field(default_factory=list, init=False)

    def __call__(self, now: Situation) -> Tensor:
        if not self._ways:
            found = ways(now.teacher, now.data)
            if self.through_host:
                assert now.ways is not None, "a recipe that needs host ways is given them"
                found = found._replace(last=now.ways)
            self._ways.append(found)
        rows = now.rows[: self.batch]
        negated = negation_first(now.data, rows, self.put_first)
        length = max(now.length(self.batch), int(negated.argmax(1).max()) + 1)
        negated, asserted, affirmative = (
            ids[:, :length]
            for ids in (negated, now.data.ids("asserted", rows), now.data.ids("affirmative", rows))
        )
        new = strangers((negated, asserted, affirmative), now.teacher.token_embedding.weight, self.strange)
        free = after_prefix(negated, asserted, affirmative)[..., None]
        absent = now.data.absent[rows].float().to(now.data.device)
        first = self.extrapolation if self.extrapolation_first is None else self.extrapolation_first
        scale = torch.where(free[:, 1, 0], first, self.extrapolation)
        states = text_states(now.student, negated, new)
        with torch.no_grad():
            own, rest, having = (
                text_states(now.teacher, ids, new) for ids in (negated, affirmative, asserted)
            )
            target = {}
            for layer in Ways._fields:
                without, there = getattr(rest, layer).float(), getattr(having, layer)
                way = at_end(without, affirmative) - at_end(there, asserted)
                mean = absent @ getattr(self._ways[0], layer)
                # What a caption denies may be unknown, or never trained on; then its own way is all there is.
                mean = torch.where(mean.any(1, keepdim=True), mean, way)
                way = scaled(mean, scale * way.norm(dim=-1))
                beyond = beyond_rest(negated, affirmative, without, way)
                if layer == "last":
                    beyond = attainable(now.teacher.ln_final, beyond)
                target[layer] = torch.where(free, beyond, getattr(own, layer).float())
            pooled = at_end(target["last"], negated) @ now.teacher.text_projection.float()
        says_more = ~says_nothing(affirmative)[:, None]
        ends = torch.arange(length, device=negated.device)[None] == negated.argmax(1, keepdim=True)
        held = (says_more | ~ends).float()
        loss = relative_error(states.last, target["last"], held)
        loss = loss + relative_error(states.penultimate, target["penultimate"], held)
        return self.weight * (
            loss + relative_error(states.pooled[:, None], pooled[:, None], says_more.float())
        )
