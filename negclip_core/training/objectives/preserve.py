"""Keep what a host reads of captions without negation: every token's state, as vanilla's.

L = mean |h - h_vanilla|² / mean |h_vanilla|²,  over the last and the penultimate layer and the positions
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from negclip_core.training.objectives import Situation
from negclip_core.training.text import text_states

__all__ = ["Objective", "relative_error"]


def relative_error(states: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Squared error of states [n, length, width] relative to the target's own size; `weight` [n, length] in [0, 1]."""
    error = (states.float() - target.float()).square().mean(-1)
    size = target.float().square().mean()
    if weight is None:
        return error.mean() / size
    return (error * weight).sum() / weight.sum().clamp(min=1) / size


@dataclass(frozen=True)
class Objective:
    """The error over the captions of half the first `batch` rows, `asserted` of the other half, and the empty prompt of guidance."""

    weight: float = 1.0
    batch: int = 48

    def __call__(self, now: Situation) -> Tensor:
        rows = now.rows[: self.batch]
        half = len(rows) // 2
        texts = [now.data.caption[rows[:half]], now.data.asserted[rows[half:]], now.data.empty]
        ids = torch.cat(texts)[:, : now.length(self.batch)].long().to(now.data.device)
        with torch.no_grad():
            target = text_states(now.teacher, ids)
        states = text_states(now.student, ids)
        loss = relative_error(states.last, target.last) + relative_error(
            states.penultimate, target.penultimate
        )
        return self.weight * (loss + relative_error(states.pooled[:, None], target.pooled[:, None]))
