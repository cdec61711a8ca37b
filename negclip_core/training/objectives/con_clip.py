"""A baseline: CoN-CLIP's contrast, with false texts and distractor images as hard negatives (Singh et al. 2025, section 4).

L = (CE(s · v [t; t_false]ᵀ) + CE(s · t [v; v_other]ᵀ)) / 2,    v, t of unit length, s = exp(logit scale)

v_other is a picture of which the false text is true: it holds the thing where the caption says that there is none.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from negclip_core.training.objectives import Situation
from negclip_core.training.objectives.hard_negatives import contrast

__all__ = ["Objective"]


@dataclass(frozen=True)
class Objective:
    """Cross-entropy of each image over all true and false texts, and of each true text over all images and distractors."""

    weight: float = 1.0
    _known: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False)

    def __call__(self, now: Situation) -> Tensor:
        others = now.data.seen(self._distractors(now))
        return self.weight * contrast(now, torch.cat([now.images, others]))

    def _distractors(self, now: Situation) -> Tensor:
        """A row of `features` for each row; another of the batch's images where no picture is known of which the false text is true."""
        denied = now.data.absent[now.rows]
        holds = now.data.holds[now.rows].tolist()
        found = now.data.image[now.rows].roll(1)
        for number in torch.nonzero(denied.any(1))[:, 0].tolist():
            thing = int(denied[number].int().argmax())
            if thing not in self._known:
                self._known[thing] = now.data.pictures_of(thing)
            holding, lacking = self._known[thing]
            pool = holding if holds[number] else lacking
            if len(pool):
                found[number] = pool[torch.randint(len(pool), ())]
        return found
