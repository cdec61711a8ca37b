"""A stand-in of the part of ComfyUI that the node uses, with transformers' text encoders inside.

As in comfy/sd.py and comfy/model_patcher.py: a CLIP shares its weights with its clones; patches are kept beside them and put on
while a prompt is read, weight = strength_model * own + strength_patch * patch, and keys that a CLIP lacks are passed over.
"""

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

__all__ = ["StandInClip", "install"]


class _SD1ClipModel(nn.Module):
    """The text encoder where ComfyUI's CLIP for Stable Diffusion 1.x has it, at `clip_l.transformer`."""

    def __init__(self, text_model: Any, name: str) -> None:
        super().__init__()
        inner = nn.Module()
        inner.transformer = text_model
        inner.logit_scale = nn.Parameter(torch.tensor(4.6052))
        self.add_module(name, inner)


class StandInClip:
    """A CLIP of ComfyUI's, which reads with a transformers `CLIPTextModelWithProjection`."""

    def __init__(self, text_model: Any, tokenizer: Any, name: str = "clip_l") -> None:
        self.cond_stage_model = _SD1ClipModel(text_model.eval(), name)
        self.tokenizer, self._text_model = tokenizer, text_model
        self.patches: dict[str, tuple[float, Tensor, float]] = {}

    def clone(self) -> "StandInClip":
        new = object.__new__(StandInClip)
        new.__dict__.update(self.__dict__)
        new.patches = dict(self.patches)
        return new

    def get_key_patches(self) -> dict[str, list[tuple[Tensor]]]:
        return {name: [(tensor,)] for name, tensor in self.cond_stage_model.state_dict().items()}

    def add_patches(
        self, patches: Any, strength_patch: float = 1.0, strength_model: float = 1.0
    ) -> list[str]:
        known = self.cond_stage_model.state_dict()
        taken = [name for name in patches if name in known]
        for name in taken:
            self.patches[name] = (strength_patch, patches[name][0][0], strength_model)
        return taken

    def tokenize(self, text: str) -> Tensor:
        ids: Tensor = self.tokenizer(
            text, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        return ids

    @torch.no_grad()
    def encode_from_tokens_scheduled(self, tokens: Tensor) -> list[Any]:
        weights = self.cond_stage_model.state_dict()
        kept = {name: weights[name].clone() for name in self.patches}
        for name, (strength_patch, patch, strength_model) in self.patches.items():
            weights[name].copy_(
                weights[name] * strength_model + patch.to(weights[name].dtype) * strength_patch
            )
        out = self._text_model(tokens)
        for name, tensor in kept.items():
            weights[name].copy_(tensor)
        return [[out.last_hidden_state, {"pooled_output": out.text_embeds}]]


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, make: Any) -> list[list[str]]:
    """Put `folder_paths` and `comfy.sd` in place; `make` builds a CLIP of a file's tensors. Returns the files loaded."""
    loaded: list[list[str]] = []

    def load_clip(ckpt_paths: list[str], embedding_directory: Any = None, **_: Any) -> Any:
        loaded.append(list(ckpt_paths))
        return make(load_file(ckpt_paths[0]))

    def get_full_path_or_raise(kind: str, name: str) -> str:
        if not (folder / kind / name).is_file():
            raise FileNotFoundError(f"Model in folder '{kind}' with filename '{name}' not found.")
        return str(folder / kind / name)

    paths: Any = types.ModuleType("folder_paths")
    paths.get_folder_paths = lambda kind: [str(folder / kind)]
    paths.get_filename_list = lambda kind: sorted(path.name for path in (folder / kind).iterdir())
    paths.get_full_path_or_raise = get_full_path_or_raise
    package: Any = types.ModuleType("comfy")
    package.sd = types.ModuleType("comfy.sd")
    package.sd.load_clip = load_clip
    for name, module in {"folder_paths": paths, "comfy": package, "comfy.sd": package.sd}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return loaded
