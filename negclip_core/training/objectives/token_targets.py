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
from negclip_core.training.objectives.preserve import relative_error

__all__ = ["Objective", "after_prefix"]


def after_prefix(negated: Tensor, asserted: Tensor, affirmative: Tensor) -> Tensor:
    """1.0 at the positions from which a negated text differs from both its counterparts, 0.0 before; [n, length]."""
    shared = torch.maximum(
        (negated == asserted).long().cumprod(1).sum(1), (negated == affirmative).long().cumprod(1).sum(1)
    )
    return (torch.arange(negated.shape[1], device=negated.device)[None] >= shared[:, None]).float()


@dataclass(frozen=True)
class Objective:
    """Relative squared error to the targets, over the first `batch` rows."""

    weight: float = 1.0
    extrapolation: float = 1.0  # λ
    batch: int = 48

    def __call__(self, now: Situation) -> Tensor:
        rows = now.rows[: self.batch]
        texts = ("negated", "asserted", "affirmative")
        free = after_prefix(*(getattr(now.data, text)[rows, : now.length] for text in texts))
        kept, having, itself = (
            now.states(text, self.batch, vanilla=True) for text in ("affirmative", "asserted", "negated")
        )
        states = now.states("negated", self.batch)
        loss = torch.zeros(())
        for layer in ("last", "penultimate"):
            without, there, own = (getattr(base, layer).float() for base in (kept, having, itself))
            target = without + self.extrapolation * (without - there)
            target = torch.where(free[..., None] > 0, target, own)
            loss = loss + relative_error(getattr(states, layer), target)
        target = kept.pooled + self.extrapolation * (kept.pooled - having.pooled)
        return self.weight * (loss + relative_error(states.pooled[:, None], target[:, None]))
