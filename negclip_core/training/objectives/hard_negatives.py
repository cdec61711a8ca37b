"""A baseline: InfoNCE with each image's false text among those that it is held against, as NegCLIP has it.

L = (CE(s · v [t; t_false]ᵀ) + CE(s · t vᵀ)) / 2,    v, t of unit length, s = exp(logit scale)

NegCLIP (Yuksekgonul et al. 2023, section 4) swaps words to make false texts; here they are the captions' counterparts,
which say that the thing is there where it is not, or not where it is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from negclip_core.training.objectives import Situation

__all__ = ["Objective", "contrast"]


def contrast(now: Situation, images: Tensor) -> Tensor:
    """Cross-entropy of each image over all true and false texts, and of each true text over `images`, the batch's first."""
    true, scale = now.true_texts(), now.student.logit_scale.exp()
    labels = torch.arange(len(true), device=true.device)
    of_images = scale * now.images @ torch.cat([true, now.false_texts()]).T
    of_texts = scale * true @ images.T
    return (F.cross_entropy(of_images, labels) + F.cross_entropy(of_texts, labels)) / 2


@dataclass(frozen=True)
class Objective:
    """Cross-entropy of each image over all true and false texts, and of each true text over all images."""

    weight: float = 1.0

    def __call__(self, now: Situation) -> Tensor:
        return self.weight * contrast(now, now.images)
