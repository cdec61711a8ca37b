"""OpenAI's layout: the canonical names; the architecture is read from the shapes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["config_from_shapes", "is_openai", "strip"]

_HEAD_WIDTH = 64  # in all of OpenAI's models
_DEEPEST = 12  # blocks of their text towers; LAION's H, g and bigG have more, and GELU
_SCALARS = ("input_resolution", "context_length", "vocab_size")


def is_openai(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are CLIP's weights under OpenAI's names, with or without the image tower."""
    return {"token_embedding.weight", "positional_embedding", "ln_final.weight"} <= weights.keys()


def strip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without what else such files carry: three scalars, masks."""
    return {
        name: tensor
        for name, tensor in weights.items()
        if name not in _SCALARS and name.split(".")[-1] != "attn_mask"
    }


def config_from_shapes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """open_clip's `model_cfg` for canonical weights; OpenAI's width of heads is taken for granted, and its activation in
    text towers of its depths.

    `vision_cfg` is missing where there is no image tower.

    Source: open_clip/model.py, build_model_from_openai_state_dict; ComfyUI's configs of clip_l, clip_g and SD 2.x agree.
    """
    vocabulary, width = weights["token_embedding.weight"].shape
    layers = _blocks(weights, "transformer.resblocks.")
    config: dict[str, Any] = {
        "embed_dim": weights["text_projection"].shape[1] if "text_projection" in weights else width,
        "quick_gelu": layers <= _DEEPEST,
        "text_cfg": {
            "context_length": weights["positional_embedding"].shape[0],
            "vocab_size": vocabulary,
            "width": width,
            "heads": max(1, width // _HEAD_WIDTH),
            "layers": layers,
            **_mlp(weights, "transformer.resblocks.", width),
        },
    }
    if "visual.conv1.weight" in weights:
        config["vision_cfg"] = _vit(weights) if "visual.proj" in weights else _resnet(weights)
    return config


def _vit(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    width, patch = weights["visual.conv1.weight"].shape[0], weights["visual.conv1.weight"].shape[-1]
    side = round((weights["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    blocks = "visual.transformer.resblocks."
    return {
        "image_size": side * patch,
        "layers": _blocks(weights, blocks),
        "width": width,
        "patch_size": patch,
        **_mlp(weights, blocks, width),
    }


def _resnet(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    side = round((weights["visual.attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
    layers = [_blocks(weights, f"visual.layer{stage}.") for stage in (1, 2, 3, 4)]
    width = weights["visual.layer1.0.conv1.weight"].shape[0]
    return {"image_size": side * 32, "layers": layers, "width": width, "patch_size": None}


def _mlp(weights: Mapping[str, Tensor], prefix: str, width: int) -> dict[str, float]:
    """`mlp_ratio`, where the first block's perceptron is not four times as wide as the tower, as OpenAI's are."""
    first = weights.get(f"{prefix}0.mlp.c_fc.weight")
    inner = first.shape[0] if first is not None and first.dim() else 4 * width
    # The half keeps it whole when open_clip makes an integer of ratio times width.
    return {} if inner == 4 * width else {"mlp_ratio": (inner + 0.5) / width}


def _blocks(weights: Mapping[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in weights if name.startswith(prefix)})
