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
    """InfoNCE of each image with its true text, or with the caption it came with.

    Args:
        text: "negated" contrasts the negated caption (`asserted` where the image holds the thing after all);
            "caption" the untouched one.
    """

    weight: float = 1.0
    text: str = "negated"

    def __call__(self, now: Situation) -> Tensor:
        data, rows = now.data, now.rows
        holds = data.holds[rows, None]
        if self.text == "caption" or bool(holds.all()):
            texts = now.embeddings(self.text)
        else:
            texts = torch.where(holds, now.embeddings("negated"), now.embeddings("asserted"))
        images = data.features[data.image[rows]]
        logits = now.student.logit_scale.exp() * images @ texts.T
        labels = torch.arange(len(rows), device=logits.device)
        return self.weight * (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
