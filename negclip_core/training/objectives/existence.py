"""Sentences that only say whether something is there ("there are no cars"), each against many pictures at once.

L = BCE(s · (t_negated - t_asserted) · v, v lacks the thing),  over pictures of which it is known, as many with as without

One picture a sentence teaches a tower what pictures that lack cars have in common, and mostly that is not to be a street;
many pictures of either kind leave the cars as the difference.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from negclip_core.training.data import TrainingSet
from negclip_core.training.objectives import Situation
from negclip_core.training.text import cut, text_states

__all__ = ["Objective", "known_pictures"]


def known_pictures(data: TrainingSet) -> list[tuple[Tensor, Tensor]]:
    """For each thing the rows whose pictures are known to lack it, and those whose pictures are known to hold it."""
    single = data.absent.sum(1) == 1
    return [
        (
            torch.nonzero(denied & single & data.holds)[:, 0],
            torch.nonzero(denied & single & ~data.holds)[:, 0],
        )
        for denied in data.absent.T
    ]


@dataclass(frozen=True)
class Objective:
    """Binary cross-entropy at a fixed scale, as `pairwise` has it, for the batch's sentences of this kind."""

    weight: float = 1.0
    scale: float = 30.0
    pictures: int = 32  # of either kind, for each sentence
    _known: list[list[tuple[Tensor, Tensor]]] = field(default_factory=list, init=False)

    def __call__(self, now: Situation) -> Tensor:
        data = now.data
        if not self._known:
            self._known.append(known_pictures(data))
        rows, pictures = self._drawn(now)
        if not rows:
            return torch.zeros(())
        texts = [getattr(data, text)[rows].long() for text in ("negated", "asserted")]
        negated, asserted = (
            F.normalize(text_states(now.student, cut(ids)).pooled.float(), dim=-1) for ids in texts
        )
        shown = data.features[data.image[torch.stack(pictures)]]  # [sentences, 2 * pictures, d]
        margin = torch.einsum("nd,npd->np", negated - asserted, shown)
        lacks = (torch.arange(margin.shape[1], device=margin.device) < self.pictures).float()
        return self.weight * F.binary_cross_entropy_with_logits(self.scale * margin, lacks.expand_as(margin))

    def _drawn(self, now: Situation) -> tuple[list[int], list[Tensor]]:
        """The batch's rows that say nothing else, and rows with pictures for each: first those that lack the thing."""
        data, rows, pictures = now.data, [], []
        alone = (data.affirmative[now.rows].argmax(1) == 1) & (data.absent[now.rows].sum(1) == 1)
        for row in now.rows[alone].tolist():
            kinds = self._known[0][int(data.absent[row].int().argmax())]
            if all(len(kind) for kind in kinds):
                rows.append(row)
                pictures.append(torch.cat([k[torch.randint(len(k), (self.pictures,))] for k in kinds]))
        return rows, pictures
