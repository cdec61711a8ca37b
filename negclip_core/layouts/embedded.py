"""The text encoders inside single-file Stable Diffusion checkpoints (SD 1.x, 2.x, XL, 3.x)."""

from collections.abc import Mapping

from torch import Tensor

from negclip_core.layouts import openai, transformers

__all__ = ["text_encoders"]

# Where CompVis's, Stability's and ComfyUI's files keep them.
_PREFIXES = (
    "cond_stage_model.transformer.",  # SD 1.x, transformers' names
    "cond_stage_model.model.",  # SD 2.x, open_clip's
    "conditioner.embedders.0.transformer.",  # SDXL: ViT-L, transformers'
    "conditioner.embedders.1.model.",  # SDXL: bigG, open_clip's
    "text_encoders.clip_l.transformer.",  # SD 3.x
    "text_encoders.clip_g.transformer.",
)


def text_encoders(weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The CLIP text encoders among a checkpoint's tensors, each under the prefix that it stands at."""
    found = {}
    for prefix in _PREFIXES:
        own = {
            name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)
        }
        if openai.is_openai(own) or transformers.is_transformers(own):
            found[prefix] = own
    return found
