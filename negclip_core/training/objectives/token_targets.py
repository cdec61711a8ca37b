"""Move what a host reads of a negated caption beyond the caption's affirmative rest, away from the absent thing.

    h* = h(rest) + λ (h(rest) - h(rest with the thing)),    position by position, vanilla's states

λ = 0 erases the mention only, and then "a street with no cars" draws what "a street" draws: cars. Positions before
the negation cannot know of it (attention is causal) and keep vanilla's states. The projected embedding, of which
CLIPSeg reads the length as well, has the same target.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from negclip_core.training.objectives import Situation

__all__ = ["Objective", "after_prefix"]

_LEAST = 0.1  # of the mean way, which a row's own is taken for at least


def after_prefix(negated: Tensor, asserted: Tensor, affirmative: Tensor) -> Tensor:
    """1.0 at the positions from which a negated text differs from both its counterparts, 0.0 before; [n, length]."""
    shared = torch.maximum(
        (negated == asserted).long().cumprod(1).sum(1), (negated == affirmative).long().cumprod(1).sum(1)
    )
    return (torch.arange(negated.shape[1], device=negated.device)[None] >= shared[:, None]).float()


def _way_left(states: Tensor, target: Tensor, there: Tensor) -> Tensor:
    """Squared distance to the target, in units of the target's from the text with the thing; mean over the rows.

    Row by row, because things differ in how far they move a text: a colour moves it little, and must count as much.
    A word that vanilla hardly knows moves it not at all, and must not count for more than all others.
    """
    rows = tuple(range(1, target.ndim))
    left = (states.float() - target).square().mean(rows)
    whole = (target - there.float()).square().mean(rows)
    return (left / whole.clamp(min=max(_LEAST * float(whole.mean()), 1e-12))).mean()


@dataclass(frozen=True)
class Objective:
    """How much of the way to the targets is left, over the first `batch` rows: vanilla is at about one."""

    weight: float = 1.0
    extrapolation: float = 1.0  # λ
    batch: int = 48

    def __call__(self, now: Situation) -> Tensor:
        rows = now.rows[: self.batch]
        texts = ("negated", "asserted", "affirmative")
        free = after_prefix(*(getattr(now.data, text)[rows, : now.length] for text in texts))[..., None]
        kept, having, itself = (
            now.states(text, self.batch, vanilla=True) for text in ("affirmative", "asserted", "negated")
        )
        states = now.states("negated", self.batch)
        loss = torch.zeros(())
        for layer in ("last", "penultimate", "pooled"):
            without, there, own = (getattr(base, layer).float() for base in (kept, having, itself))
            target = without + self.extrapolation * (without - there)
            if layer != "pooled":
                target, there = (torch.where(free > 0, each, own) for each in (target, there))
            loss = loss + _way_left(getattr(states, layer), target, there)
        return self.weight * loss
