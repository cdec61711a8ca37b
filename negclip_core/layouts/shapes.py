"""What shape each tensor of a CLIP must have, and that it holds numbers."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["first_fault", "mlp_width"]


def mlp_width(tower: Mapping[str, Any]) -> int:
    """How wide the perceptrons of a `text_cfg` or `vision_cfg` are, as open_clip has it."""
    return int(tower["width"] * tower.get("mlp_ratio", 4.0))


def first_fault(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> str | None:
    """What is wrong with canonical weights of a `model_cfg`, or None: a missing tensor, a shape, a dtype, a NaN.

    The image tower's shapes are checked where it is a ViT; a ResNet's, open_clip's own model checks.
    """
    for name, shape in _shapes(weights, config):
        if name not in weights:
            return f"{name} is missing"
        if tuple(weights[name].shape) != shape:
            return f"{name} has the shape {list(weights[name].shape)}, not {list(shape)}"
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            return f"{name} is {str(tensor.dtype).removeprefix('torch.')}, not floating point"
        if not math.isfinite(float(tensor.sum(dtype=torch.float32))):
            return f"{name} holds a NaN or an infinity"
    return None


def _shapes(
    weights: Mapping[str, Tensor], config: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    text, embed = config["text_cfg"], config["embed_dim"]
    width = text["width"]
    yield "token_embedding.weight", (text["vocab_size"], width)
    yield "positional_embedding", (text["context_length"], width)
    yield from _norm("ln_final", width)
    yield from _blocks("transformer.resblocks.", text)
    if "text_projection" in weights:
        yield "text_projection", (width, embed)
    if "logit_scale" in weights:
        yield "logit_scale", ()
    vision = config.get("vision_cfg")
    if vision is None or "visual.proj" not in weights:
        return
    width, patch = vision["width"], vision["patch_size"]
    yield "visual.class_embedding", (width,)
    yield "visual.conv1.weight", (width, 3, patch, patch)
    yield "visual.positional_embedding", ((vision["image_size"] // patch) ** 2 + 1, width)
    yield from _norm("visual.ln_pre", width)
    yield from _norm("visual.ln_post", width)
    yield from _blocks("visual.transformer.resblocks.", vision)
    yield "visual.proj", (width, embed)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _blocks(prefix: str, tower: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, inner = tower["width"], mlp_width(tower)
    for layer in range(tower["layers"]):
        block = f"{prefix}{layer}."
        for name in ("ln_1", "ln_2"):
            yield from _norm(block + name, width)
        shapes = {"attn.in_proj_": (3 * width, width), "attn.out_proj.": (width, width),
                  "mlp.c_fc.": (inner, width), "mlp.c_proj.": (width, inner)}  # fmt: skip
        for name, shape in shapes.items():
            yield f"{block}{name}weight", shape
            yield f"{block}{name}bias", shape[:1]
