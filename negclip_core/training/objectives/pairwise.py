"""Which of two texts is true of the image: the negated caption, or the one that says the thing is there.

L = BCE(s · (t_negated - t_asserted) · v, holds)
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from negclip_core.training.objectives import Situation

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
        negated, asserted = now.embeddings("negated"), now.embeddings("asserted")
        margin = ((negated - asserted) * now.images).sum(1)
        lacks = data.holds[rows].float().to(data.device)
        return self.weight * F.binary_cross_entropy_with_logits(self.scale * margin, lacks)
