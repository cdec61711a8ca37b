"""SigLIP's layouts, which are known only to be refused: read as a CLIP's, its text tower would give other numbers."""

from collections.abc import Mapping

from torch import Tensor

__all__ = ["is_siglip"]

# transformers' `SiglipModel` and `SiglipTextModel`; open_clip's `CustomTextCLIP`, in which the towers are modules.
_OWN = ("text_model.head.weight", "head.weight", "text.token_embedding.weight", "logit_bias")


def is_siglip(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are a SigLIP's weights, or of another CLIP that open_clip keeps in that form."""
    return any(name in weights for name in _OWN)
