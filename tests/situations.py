"""What an objective sees when it is asked about all captions of a training set at once."""

import torch

from negclip_core.clip import Clip
from negclip_core.training.data import TrainingSet
from negclip_core.training.objectives import Situation

__all__ = ["of_all_captions"]


def of_all_captions(clip: Clip, data: TrainingSet, other: Clip | None = None) -> Situation:
    """One step on all rows of `data`; `other` is the teacher, the student itself where there is none."""
    return Situation(clip.model, (other or clip).model, data, torch.arange(len(data.image)))
