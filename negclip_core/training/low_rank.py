"""Low-rank updates of a text tower (LoRA, Hu et al. 2022), in place of its own weights, and the file that hosts read.

Each weight matrix W of a block becomes W + B A, with A of few rows; only A and B are trained. diffusers'
`load_lora_weights` and what reads its files (kohya's, ComfyUI) take them as they are, on top of the vanilla text encoder.
"""

from collections.abc import Iterator
from typing import Any

import torch
from open_clip.model import CLIP
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

__all__ = ["add_low_rank", "is_low_rank", "merge_low_rank"]

# Where a block's matrices are, and what they are called in transformers: one in_proj holds three.
_MATRICES = {
    "attn.in_proj_weight": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.out_proj.weight": ("self_attn.out_proj",),
    "mlp.c_fc.weight": ("mlp.fc1",),
    "mlp.c_proj.weight": ("mlp.fc2",),
}


class LowRank(nn.Module):
    """The update of a matrix [parts x out, in], each part of which has an A [rank, in] and a B [out, rank] of its own."""

    def __init__(self, weight: Tensor, parts: int, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        # Drawn by the processor's generator, so that a seed gives the same update wherever it is trained.
        drawn = nn.init.kaiming_uniform_(torch.empty(parts, rank, columns), a=5**0.5)
        self.a = nn.Parameter(drawn.to(weight.device, weight.dtype))
        self.b = nn.Parameter(weight.new_zeros(parts, rows // parts, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.b @ self.a).flatten(0, 1)


def _places(model: CLIP) -> Iterator[tuple[nn.Module, str, str, tuple[str, ...]]]:
    """Each module with a matrix, the matrix's name, its block's name in transformers, and its parts' names there."""
    for number, block in enumerate(model.transformer.resblocks):
        for path, names in _MATRICES.items():
            owner, _, matrix = path.rpartition(".")
            yield block.get_submodule(owner), matrix, f"text_model.encoder.layers.{number}", names


def add_low_rank(model: CLIP, rank: int) -> None:
    """Give every matrix of the text tower's blocks an update of this rank, which changes nothing yet."""
    for owner, matrix, _, parts in _places(model):
        register_parametrization(owner, matrix, LowRank(getattr(owner, matrix), len(parts), rank))


def is_low_rank(parameter: str) -> bool:
    """Whether a parameter of this name belongs to an update."""
    return ".parametrizations." in parameter and parameter.endswith((".0.a", ".0.b"))


def merge_low_rank(model: CLIP) -> dict[str, Tensor]:
    """Make the updates part of the weights, and give them as tensors under the names that diffusers reads."""
    found = {}
    for owner, matrix, block, parts in _places(model):
        update: Any = owner.parametrizations[matrix][0]  # type: ignore[index]
        for name, a, b in zip(parts, update.a.detach(), update.b.detach(), strict=True):
            found[f"text_encoder.{block}.{name}.lora_A.weight"] = a.clone()
            found[f"text_encoder.{block}.{name}.lora_B.weight"] = b.clone()
        remove_parametrizations(owner, matrix)
    return found
