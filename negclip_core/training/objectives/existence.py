"""Sentences that only say whether something is there ("there are no cars"), each against many pictures at once.

L = BCE(s · (t_negated - t_asserted) · v, v lacks the thing),  over pairs of pictures that are alike but for the thing

One picture a sentence teaches a tower what pictures that lack cars have in common, and mostly that is not to be a street.
Of each picture that holds the thing, here are the nearest ones that lack it: what is left to tell the two apart is the
thing. Which pictures hold it and which lack it is known of few and believed of many (`negclip_core.training.mentions`):
of every place, or the sentence would lean one way where training denies the thing nowhere.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from negclip_core.training.data import TrainingSet
from negclip_core.training.mentions import believed
from negclip_core.training.objectives import Situation
from negclip_core.training.packed import pooled
from negclip_core.training.text import says_nothing

__all__ = ["Objective", "alike"]

_AT_ONCE = 4096  # pictures that are held against all others
_NEAREST = 8  # pictures without the thing, of which one is drawn for each with it


def alike(data: TrainingSet) -> list[tuple[Tensor, Tensor]]:
    """For each thing the pictures that hold it, int64 [n], and for each the nearest of those that lack it, [n, up to
    `_NEAREST`], nearest first; rows of `data.features`."""
    found = []
    for holding, lacking in believed(data):
        count = min(_NEAREST, len(lacking))
        nearest = [
            lacking[(data.features[some] @ data.features[lacking].T).topk(count, dim=1).indices]
            for some in holding.split(_AT_ONCE)  # one, of none, where no picture holds it
        ]
        found.append((holding, torch.cat(nearest)))
    return found


@dataclass(frozen=True)
class Objective:
    """Binary cross-entropy at a fixed scale, as `pairwise` has it, for the batch's sentences of this kind."""

    weight: float = 1.0
    scale: float = 30.0
    pairs: int = 32  # for each sentence
    _alike: list[list[tuple[Tensor, Tensor]]] = field(default_factory=list, init=False)

    def __call__(self, now: Situation) -> Tensor:
        data = now.data
        if not self._alike:
            self._alike.append(alike(data))
        rows, images = self._drawn(now)
        if not rows:
            return torch.zeros((), device=data.device)
        texts = [getattr(data, text)[torch.tensor(rows)].long() for text in ("negated", "asserted")]
        negated, asserted = (F.normalize(pooled(now.student, ids).float(), dim=-1) for ids in texts)
        ahead = torch.einsum("nd,npd->np", negated - asserted, data.seen(torch.stack(images)))
        lacks = (torch.arange(ahead.shape[1], device=ahead.device) < self.pairs).float()
        return self.weight * F.binary_cross_entropy_with_logits(self.scale * ahead, lacks.expand_as(ahead))

    def _drawn(self, now: Situation) -> tuple[list[int], list[Tensor]]:
        """The batch's rows that say nothing else, and images for each: first those that lack the thing."""
        data, rows, images = now.data, [], []
        denied = data.absent[now.rows]
        alone = says_nothing(data.affirmative[now.rows]) & (denied.sum(1) == 1)
        for row, thing in zip(now.rows[alone].tolist(), denied[alone].int().argmax(1).tolist(), strict=True):
            holding, near = self._alike[0][thing]
            if near.numel():
                chosen = torch.randint(len(holding), (self.pairs,))
                nearest = torch.randint(near.shape[1], (self.pairs,))
                rows.append(row)
                images.append(torch.cat([near[chosen, nearest], holding[chosen]]))
        return rows, images
