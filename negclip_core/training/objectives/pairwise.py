"""Which of two texts is true of the image: the negated caption, or the one that says the thing is there.

L = BCE(s · (t_negated - t_asserted) · v, holds)
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from negclip_core.training.objectives import Situation
from negclip_core.training.text import cut, text_states

__all__ = ["Objective"]


@dataclass(frozen=True)
class Objective:
    """Binary cross-entropy on the difference of the two similarities, at a fixed scale.

    The scale is not the logit scale: raising that would lower this loss without teaching the tower anything.
    """

    weight: float = 1.0
    scale: float = 30.0

    def __call__(self, now: Situation) -> Tensor:
        data, rows = now.data, now.rows
        ids = cut(torch.cat([data.negated[rows], data.asserted[rows]]).long())
        texts = F.normalize(text_states(now.student, ids).pooled.float(), dim=-1)
        negated, asserted = texts.chunk(2)
        margin = ((negated - asserted) * data.features[data.image[rows]]).sum(1)
        return self.weight * F.binary_cross_entropy_with_logits(self.scale * margin, data.holds[rows].float())
