"""The paper's objective: symmetric InfoNCE of images and captions (arXiv 2501.10913, section 3.3).

L = (CE(s · v tᵀ) + CE(s · t vᵀ)) / 2,    v, t of unit length, s = exp(logit scale)
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from negclip_core.training.objectives import Situation

__all__ = ["Objective"]


@dataclass(frozen=True)
class Objective:
    """InfoNCE of each image with its true text: the negated caption, or `asserted` where the image holds the thing.

    With `plain`, with the caption as it was before anything was denied in it: what keeps retrieval where it was.
    """

    weight: float = 1.0
    plain: bool = False

    def __call__(self, now: Situation) -> Tensor:
        texts = now.embeddings("caption") if self.plain else now.true_texts()
        logits = now.student.logit_scale.exp() * now.images @ texts.T
        labels = torch.arange(len(texts), device=logits.device)
        return self.weight * (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
