"""transformers' layout: `CLIPModel`, `CLIPTextModel` and `CLIPTextModelWithProjection`; ComfyUI's text encoders too.

The text tower's keys carry the prefix `text_model.` in files from transformers before 5.6 and in ComfyUI's files, and
none in a `CLIPTextModel` written by later ones (huggingface/diffusers#13833).
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from negclip_core.layouts.shapes import mlp_width

__all__ = [
    "from_transformers",
    "is_transformers",
    "model_config",
    "text_config",
    "text_weights",
    "vision_config",
    "vision_weights",
]

# (transformers, canonical), below `text_model.` or `vision_model.` on the one side and "" or `visual.` on the other.
_TEXT = (
    ("embeddings.token_embedding.weight", "token_embedding.weight"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("final_layer_norm.weight", "ln_final.weight"),
    ("final_layer_norm.bias", "ln_final.bias"),
)
_VISION = (
    ("embeddings.class_embedding", "class_embedding"),
    ("embeddings.patch_embedding.weight", "conv1.weight"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("pre_layrnorm.weight", "ln_pre.weight"),
    ("pre_layrnorm.bias", "ln_pre.bias"),
    ("post_layernorm.weight", "ln_post.weight"),
    ("post_layernorm.bias", "ln_post.bias"),
)
_BLOCK = (
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("self_attn.out_proj", "attn.out_proj"),
)
_QKV = tuple(f"self_attn.{part}_proj" for part in "qkv")


def is_transformers(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are CLIP's weights under transformers' names, with at least the text tower."""
    return any(f"{prefix}embeddings.token_embedding.weight" in weights for prefix in ("text_model.", ""))


def from_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The canonical weights. Raises KeyError, naming it, when a tensor of a tower that is there is missing."""
    prefix = "text_model." if "text_model.embeddings.token_embedding.weight" in weights else ""
    out = _tower(weights, prefix, "", _TEXT)
    if "vision_model.embeddings.class_embedding" in weights:
        out |= _tower(weights, "vision_model.", "visual.", _VISION)
        out["visual.proj"] = weights["visual_projection.weight"].T
    if "text_projection.weight" in weights:
        out["text_projection"] = weights["text_projection.weight"].T
    if "logit_scale" in weights:
        out["logit_scale"] = weights["logit_scale"]
    return out


def _tower(weights: Mapping[str, Tensor], source: str, target: str, names: Any) -> dict[str, Tensor]:
    out = {target + ours: weights[source + theirs] for theirs, ours in names}
    blocks = {
        m[1] for name in weights if (m := re.match(re.escape(source) + r"encoder\.layers\.(\d+)\.", name))
    }
    for block in blocks:
        theirs, ours = f"{source}encoder.layers.{block}.", f"{target}transformer.resblocks.{block}."
        for kind in ("weight", "bias"):
            out |= {f"{ours}{b}.{kind}": weights[f"{theirs}{a}.{kind}"] for a, b in _BLOCK}
            # One matrix here, three there: rows are queries, keys, values in this order.
            out[f"{ours}attn.in_proj_{kind}"] = torch.cat(
                [weights[f"{theirs}{part}.{kind}"] for part in _QKV]
            )
    return out


def text_weights(weights: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """The text tower's canonical weights under `CLIPTextModel`'s names, after `prefix`.

    With a prefix, `text_projection.weight` is added, as `CLIPTextModelWithProjection` and ComfyUI keep it.
    """
    out = _renamed(weights, "", prefix, _TEXT)
    if prefix and "text_projection" in weights:
        out["text_projection.weight"] = weights["text_projection"].T
    return out


def vision_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image tower's canonical weights under `CLIPModel`'s names: `vision_model.*` and `visual_projection.weight`."""
    out = _renamed(weights, "visual.", "vision_model.", _VISION)
    return out | {"visual_projection.weight": weights["visual.proj"].T}


def _renamed(weights: Mapping[str, Tensor], source: str, target: str, names: Any) -> dict[str, Tensor]:
    """A tower's canonical weights (after `source`) under transformers' names (after `target`)."""
    out = {f"{target}{theirs}": weights[f"{source}{ours}"] for theirs, ours in names}
    for name in weights:
        block = re.fullmatch(re.escape(source) + r"transformer\.resblocks\.(\d+)\.ln_1\.weight", name)
        if block is None:
            continue
        theirs, ours = f"{target}encoder.layers.{block[1]}.", f"{source}transformer.resblocks.{block[1]}."
        for kind in ("weight", "bias"):
            out |= {f"{theirs}{a}.{kind}": weights[f"{ours}{b}.{kind}"] for a, b in _BLOCK}
            parts = weights[f"{ours}attn.in_proj_{kind}"].chunk(3)
            out |= {f"{theirs}{name}.{kind}": part for name, part in zip(_QKV, parts, strict=True)}
    return out


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """`CLIPTextConfig`'s arguments for open_clip's `model_cfg`."""
    text = config["text_cfg"]
    return {
        "vocab_size": text["vocab_size"],
        "hidden_size": text["width"],
        "intermediate_size": mlp_width(text),
        "num_hidden_layers": text["layers"],
        "num_attention_heads": text["heads"],
        "max_position_embeddings": text["context_length"],
        "hidden_act": "quick_gelu" if config.get("quick_gelu") else "gelu",
        "projection_dim": config["embed_dim"],
        # Both CLIPs pool at the highest id, which is the end of text.
        "bos_token_id": text["vocab_size"] - 2,
        "eos_token_id": text["vocab_size"] - 1,
        "pad_token_id": text["vocab_size"] - 1,
    }


def vision_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """`CLIPVisionConfig`'s arguments for open_clip's `model_cfg`."""
    vision = config["vision_cfg"]
    return {
        "hidden_size": vision["width"],
        "intermediate_size": mlp_width(vision),
        "num_hidden_layers": vision["layers"],
        "num_attention_heads": vision["width"] // vision.get("head_width", 64),
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        "hidden_act": "quick_gelu" if config.get("quick_gelu") else "gelu",
        "projection_dim": config["embed_dim"],
    }


def model_config(config: Mapping[str, Any], canonical: dict[str, Any]) -> dict[str, Any]:
    """`canonical` (found from shapes) with what only transformers' `config.json` says: heads and activation."""
    text = config.get("text_config", config)
    out = {**canonical, "quick_gelu": text.get("hidden_act", "quick_gelu") == "quick_gelu"}
    out["text_cfg"] = {
        **canonical["text_cfg"],
        "heads": text.get("num_attention_heads", canonical["text_cfg"]["heads"]),
    }
    if "vision_cfg" in canonical and (heads := config.get("vision_config", {}).get("num_attention_heads")):
        out["vision_cfg"] = {
            **canonical["vision_cfg"],
            "head_width": canonical["vision_cfg"]["width"] // heads,
        }
    return out
