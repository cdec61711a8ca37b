"""Sentences that only say whether something is there ("there are no cars"), each against many pictures at once.

L = BCE(s · (t_negated - t_asserted) · v, v lacks the thing),  over pairs of pictures that are alike but for the thing

One picture a sentence teaches a tower what pictures that lack cars have in common, and mostly that is not to be a street.
Of each picture that holds the thing, here are the nearest ones that lack it: what is left to tell the two apart is the
thing.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from negclip_core.training.data import TrainingSet
from negclip_core.training.objectives import Situation
from negclip_core.training.text import cut, says_nothing, text_states

__all__ = ["Objective", "known_pictures"]

_NEAREST = 8  # pictures without the thing, of which one is drawn for each with it


def known_pictures(data: TrainingSet) -> list[tuple[Tensor, Tensor]]:
    """For each thing the images that are known to hold it, int64 [n], and for each the nearest of those known to lack
    it, [n, up to `_NEAREST`], nearest first; images are rows of `data.features`."""
    single = data.absent.sum(1) == 1
    found = []
    for denied in data.absent.T:
        holding, lacking = (
            data.image[denied & single & (data.holds == holds)].unique() for holds in (False, True)
        )
        near = data.features[holding] @ data.features[lacking].T
        order = near.topk(min(_NEAREST, len(lacking)), dim=1).indices if len(holding) else near.long()
        found.append((holding, lacking[order]))
    return found


@dataclass(frozen=True)
class Objective:
    """Binary cross-entropy at a fixed scale, as `pairwise` has it, for the batch's sentences of this kind."""

    weight: float = 1.0
    scale: float = 30.0
    pairs: int = 32  # for each sentence
    _known: list[list[tuple[Tensor, Tensor]]] = field(default_factory=list, init=False)

    def __call__(self, now: Situation) -> Tensor:
        data = now.data
        if not self._known:
            self._known.append(known_pictures(data))
        rows, images = self._drawn(now)
        if not rows:
            return torch.zeros(())
        texts = [getattr(data, text)[rows].long() for text in ("negated", "asserted")]
        negated, asserted = (
            F.normalize(text_states(now.student, cut(ids)).pooled.float(), dim=-1) for ids in texts
        )
        margin = torch.einsum("nd,npd->np", negated - asserted, data.features[torch.stack(images)])
        lacks = (torch.arange(margin.shape[1], device=margin.device) < self.pairs).float()
        return self.weight * F.binary_cross_entropy_with_logits(self.scale * margin, lacks.expand_as(margin))

    def _drawn(self, now: Situation) -> tuple[list[int], list[Tensor]]:
        """The batch's rows that say nothing else, and images for each: first those that lack the thing."""
        data, rows, images = now.data, [], []
        alone = says_nothing(data.affirmative[now.rows]) & (data.absent[now.rows].sum(1) == 1)
        for row in now.rows[alone].tolist():
            holding, alike = self._known[0][int(data.absent[row].int().argmax())]
            if alike.numel():
                chosen = torch.randint(len(holding), (self.pairs,))
                nearest = torch.randint(alike.shape[1], (self.pairs,))
                rows.append(row)
                images.append(torch.cat([alike[chosen, nearest], holding[chosen]]))
        return rows, images
