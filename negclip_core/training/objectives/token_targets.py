"""Move what a host reads of a negated caption beyond the caption's affirmative rest, away from the absent thing.

    h* = N(h(rest) + λ (h(rest) - h(rest with the thing))),    position by position, vanilla's states

λ = 0 erases the mention only, and then "a street with no cars" draws what "a street" draws: cars. N moves a state to
the nearest one that the final layer norm, which is never trained, can put out; without it no tower could reach h*.
A caption and its counterparts differ in length, so each position is held against the one of the same word; where the
negation itself stands, against the counterparts' ends. Positions before the negation cannot know of it (attention is
causal) and keep vanilla's states. The projected embedding, of which CLIPSeg reads the length as well, is that of h* at
the end token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from negclip_core.training.objectives import Situation
from negclip_core.training.objectives.preserve import relative_error
from negclip_core.training.text import text_states

__all__ = ["Objective", "Pairing", "after_prefix", "attainable", "targets"]


def after_prefix(negated: Tensor, asserted: Tensor, affirmative: Tensor) -> Tensor:
    """1.0 at the positions from which a negated text differs from both its counterparts, 0.0 before; [n, length]."""
    shared = torch.maximum(
        (negated == asserted).long().cumprod(1).sum(1), (negated == affirmative).long().cumprod(1).sum(1)
    )
    return (torch.arange(negated.shape[1], device=negated.device)[None] >= shared[:, None]).float()


@dataclass(frozen=True)
class Pairing:
    """Where in another text the word at each position of a text stands.

    Both begin alike, end alike, or both; what stands between is held against the other's end token, and so is what
    comes after the end.
    """

    index: Tensor  # int64 [n, length], positions in the other text
    known: Tensor  # bool [n, length], False between the common beginning and the common ending
    end: Tensor  # int64 [n], where the other text ends

    @classmethod
    def of(cls, text: Tensor, other: Tensor) -> "Pairing":
        """Pair token ids int [n, length] of two texts, each with its end token, the highest id of its row."""
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
        ending = (places >= end - suffix) & (places < end)
        known = (places < prefix) | ending | (places >= end)
        index = torch.where(ending, places - end + other_end, torch.maximum(places, other_end))
        index = torch.where(places < prefix, places, torch.where(known, index, other_end))
        return cls(index, known, other_end[:, 0])

    def take(self, states: Tensor) -> Tensor:
        """The other text's states [n, length, width], in the order of the text."""
        return states.gather(1, self.index[..., None].expand(-1, -1, states.shape[-1]))


def attainable(norm: nn.LayerNorm, states: Tensor) -> Tensor:
    """The states [..., width] nearest to the given ones, up to the norm's own scale, that `norm` can put out."""
    inner = (states - norm.bias) / norm.weight
    centred = inner - inner.mean(-1, keepdim=True)
    return centred / centred.square().mean(-1, keepdim=True).sqrt() * norm.weight + norm.bias


def targets(ids: Sequence[Tensor], states: Sequence[Tensor], extrapolation: float) -> Tensor:
    """h(rest) + λ (h(rest) - h(there)) [n, length, width] at the positions of the negated text, its own before.

    Args:
        ids: token ids int [n, length] of negated, asserted and affirmative texts.
        states: vanilla's states of the same three.
        extrapolation: λ.
    """
    negated, asserted, affirmative = ids
    own, having, without = states
    to_rest, to_there = Pairing.of(negated, affirmative), Pairing.of(negated, asserted)
    rest, there = to_rest.take(without), to_there.take(having)
    rows = torch.arange(len(own), device=own.device)
    at_end = (without[rows, to_rest.end] - having[rows, to_there.end])[:, None]
    way = torch.where((to_rest.known & to_there.known)[..., None], rest - there, at_end)
    return torch.where(after_prefix(*ids)[..., None] > 0, rest + extrapolation * way, own)


def strangers(ids: Sequence[Tensor], embeddings: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Put words that do not exist in place of a share of the words that all texts begin with.

    A word that does not exist is two random tokens in one. Who lacks a hat must not matter to what "without a hat"
    does; words that a tower never met otherwise cannot be learned by heart together with the hat.

    Returns:
        Where they stand, bool [n, length], and their embeddings float [n, length, width].
    """
    common = torch.stack([text == ids[0] for text in ids]).all(0).long().cumprod(1).bool()
    common[:, 0] = False  # the start token
    chosen = common & (torch.rand(common.shape) < share)
    first, second = torch.randint(len(embeddings), (2, *common.shape))
    return chosen, (embeddings[first] + embeddings[second]) / 2**0.5


@dataclass(frozen=True)
class Objective:
    """Relative squared error to the targets, over the first `batch` rows."""

    weight: float = 1.0
    extrapolation: float = 1.0  # λ
    batch: int = 48
    strange: float = (
        0.0  # share of the words before a negation that are exchanged for strangers, in half of the rows
    )

    def __call__(self, now: Situation) -> Tensor:
        texts = ("negated", "asserted", "affirmative")
        length, rows = now.length(self.batch), now.rows[: self.batch]
        ids = [getattr(now.data, text)[rows, :length].long() for text in texts]
        new = strangers(ids, now.teacher.token_embedding.weight, self.strange)
        new[0][::2] = False
        with torch.no_grad():
            vanilla = [text_states(now.teacher, each, new) for each in ids]
        states, norm = text_states(now.student, ids[0], new), now.teacher.ln_final
        with torch.no_grad():
            last, penultimate = (
                targets(ids, [getattr(each, layer).float() for each in vanilla], self.extrapolation)
                for layer in ("last", "penultimate")
            )
            last = torch.where(after_prefix(*ids)[..., None] > 0, attainable(norm, last), last)
            ends = last[torch.arange(len(rows)), ids[0].argmax(1)]
            pooled = ends @ now.teacher.text_projection.float()
        loss = relative_error(states.last, last) + relative_error(states.penultimate, penultimate)
        return self.weight * (loss + relative_error(states.pooled[:, None], pooled[:, None]))
