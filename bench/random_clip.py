"""A CLIP of a published architecture with random weights."""

from pathlib import Path

import open_clip
import torch

from negclip_core.checkpoints import write_open_clip_folder

__all__ = ["random_clip"]


def random_clip(architecture: str, folder: Path) -> Path:
    """Write one of open_clip's architectures to an open_clip folder; returns that."""
    torch.manual_seed(0)
    model = open_clip.create_model(architecture)
    config = open_clip.get_model_config(architecture)
    write_open_clip_folder(folder, model.state_dict(), config, preprocess={}, made_by={})
    return folder
