"""Sentences that only say whether something is there ("there are no cars"), each against many pictures at once.

L = BCE(s · (t_negated - t_asserted) · v, v lacks the thing),  over pairs of pictures that are alike but for the thing

One picture a sentence teaches a tower what pictures that lack cars have in common, and mostly that is not to be a street.
Of each picture that holds the thing, here are the nearest ones that lack it: what is left to tell the two apart is the
thing. Which pictures hold it and which lack it is known of few and believed of many (`negclip_core.training.mentions`):
of every place, or the sentence would lean one way where training denies the thing nowhere.

P1 and Rand-P1 write no such sentences. Where the captions hold none, they are written here, of what the captions deny.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from negclip_core.captions.names import plural
from negclip_core.captions.phrasings import Absence, negated
from negclip_core.training.captions_file import is_had
from negclip_core.training.data import TrainingSet
from negclip_core.training.mentions import believed
from negclip_core.training.objectives import Situation
from negclip_core.training.packed import pooled
from negclip_core.training.text import reads_padding, says_nothing, tokenise

__all__ = ["Objective", "alike"]

_AT_ONCE = 4096  # pictures that are held against all others
_NEAREST = 8  # pictures without the thing, of which one is drawn for each with it
_WRITTEN = 8  # sentences a step, of captions that say more
_ROWS = 65_536  # captions that are looked through at once


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


def _says_more(data: TrainingSet) -> bool:
    """Whether all captions to train on say more than that something is absent."""
    rows = torch.nonzero(data.training)[:, 0]
    return not any(bool(says_nothing(data.affirmative[some]).any()) for some in rows.split(_ROWS))


def _sentence(thing: str) -> tuple[str, str]:
    """ "There are no cars in view.", and what says that there are."""
    rng = np.random.default_rng(int(torch.randint(2**31, ())))  # as everything random in a step
    said = negated("", [Absence(thing, thing, plural(thing))], rng, family="existence")
    return said.text, said.asserted


class _Known(NamedTuple):
    alike: list[tuple[Tensor, Tensor]]  # see `alike`
    written: bool  # whether the sentences are written here


@dataclass(frozen=True)
class Objective:
    """Binary cross-entropy at a fixed scale, as `pairwise` has it, for the batch's sentences of this kind."""

    weight: float = 1.0
    scale: float = 30.0
    pairs: int = 32  # for each sentence
    _known: list[_Known] = field(default_factory=list, init=False)

    def __call__(self, now: Situation) -> Tensor:
        data = now.data
        if not self._known:
            self._known.append(_Known(alike(data), _says_more(data)))
        drawn = self._drawn(now)
        if not drawn:
            return torch.zeros((), device=data.device)
        images = torch.stack([self._images(thing) for _, thing in drawn])
        texts = self._texts(now, drawn)
        said, asserted = (F.normalize(pooled(now.student, ids).float(), dim=-1) for ids in texts)
        ahead = torch.einsum("nd,npd->np", said - asserted, data.seen(images))
        lacks = (torch.arange(ahead.shape[1], device=ahead.device) < self.pairs).float()
        return self.weight * F.binary_cross_entropy_with_logits(self.scale * ahead, lacks.expand_as(ahead))

    def _drawn(self, now: Situation) -> list[tuple[int, int]]:
        """The batch's rows that say nothing else, or of which sentences are written, each with what it denies."""
        data, known = now.data, self._known[0]
        denied = data.absent[now.rows]
        alone = denied.sum(1) == 1
        if not known.written:
            alone &= says_nothing(data.affirmative[now.rows])
        drawn = [
            (row, thing)
            for row, thing in zip(
                now.rows[alone].tolist(), denied[alone].int().argmax(1).tolist(), strict=True
            )
            if known.alike[thing][1].numel()
        ]
        if not known.written:
            return drawn
        return [(row, thing) for row, thing in drawn if not is_had(data.absent.names[thing])][:_WRITTEN]

    def _texts(self, now: Situation, drawn: list[tuple[int, int]]) -> list[Tensor]:
        """Token ids [rows, context] of the sentences, and of their counterparts."""
        data = now.data
        if not self._known[0].written:
            rows = torch.tensor([row for row, _ in drawn])
            return [getattr(data, text)[rows].long() for text in ("negated", "asserted")]
        sentences = [_sentence(data.absent.names[thing]) for _, thing in drawn]
        padded = reads_padding(now.student)
        return [
            tokenise(data.tokenizer, list(texts), padded).long() for texts in zip(*sentences, strict=True)
        ]

    def _images(self, thing: int) -> Tensor:
        """`pairs` images that lack it, then as many that hold it."""
        holding, near = self._known[0].alike[thing]
        chosen = torch.randint(len(holding), (self.pairs,))
        nearest = torch.randint(near.shape[1], (self.pairs,))
        return torch.cat([near[chosen, nearest], holding[chosen]])
