"""Write a CLIP in another layout: the same tensors, in the dtypes that they came in."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from negclip_core.checkpoints import Checkpoint, copy_tokenizer, model_card, write_open_clip_folder
from negclip_core.errors import RequestError
from negclip_core.files import (
    atomic_path,
    atomic_write_json,
    atomic_write_text,
    make_output_folder,
    sha256_file,
    write_safetensors,
)
from negclip_core.layouts.image_processor import IMAGE_PROCESSOR_FILE, to_processor
from negclip_core.layouts.openai import config_from_shapes
from negclip_core.layouts.transformers import text_config, text_weights, vision_config, vision_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LAYOUTS", "architecture_of", "write_checkpoint"]

LAYOUTS = ("openai", "open_clip", "transformers", "comfyui")
_FILES = {"openai": (".safetensors", ".pt", ".pth", ".bin"), "comfyui": (".safetensors",)}


def write_checkpoint(
    checkpoint: Checkpoint, out: Path, layout: str, made_by: dict[str, Any]
) -> tuple[str, int]:
    """Write to a file (openai, comfyui) or a folder (open_clip, transformers).

    Returns:
        The SHA-256 of the weights' file, and how many tensors it holds.

    Raises:
        RequestError: the layout is not known, cannot hold this CLIP, or `out` is no name for it.
    """
    if layout not in LAYOUTS:
        raise RequestError(f"layout {layout!r} is not known; there are: {', '.join(LAYOUTS)}")
    if layout in _FILES and out.suffix not in _FILES[layout]:
        raise RequestError(
            f"{out}: {layout}'s layout is one file; give it a name ending in {' or '.join(_FILES[layout])}"
        )
    if layout not in _FILES and out.is_file():
        raise RequestError(f"{out}: {layout}'s layout is a folder, and a file of that name is there")
    if layout != "open_clip" and (lost := _lost(checkpoint, layout)):
        raise RequestError(f"{layout}'s layout cannot hold {lost}; choose open_clip")
    weights = {
        name: tensor.to(checkpoint.dtypes.get(name, tensor.dtype))
        for name, tensor in checkpoint.weights.items()
    }
    if layout == "openai":
        return _write_file(weights, out), len(weights)
    if layout == "comfyui":
        named = text_weights(weights, "text_model.")
        return _write_file(named, out), len(named)
    make_output_folder(out)
    if layout == "transformers":
        return _write_transformers(checkpoint, weights, out, made_by)
    written = write_open_clip_folder(
        out, weights, checkpoint.config, preprocess=checkpoint.preprocess, made_by=made_by,
        tokenizer_folder=checkpoint.tokenizer_folder, dtype=None,
    )  # fmt: skip
    return written, len(weights)


def _lost(checkpoint: Checkpoint, layout: str) -> str | None:
    """What of a CLIP a layout other than open_clip's cannot hold, or None."""
    config, vision = checkpoint.config, checkpoint.config.get("vision_cfg")
    if checkpoint.reads_padding:
        return "a text tower that reads its padding, as SigLIP's do"
    if layout == "transformers" and vision is not None:
        if "visual.proj" not in checkpoint.weights:
            return "a ResNet for its image tower"
        try:
            to_processor(checkpoint.preprocess, vision["image_size"])
        except ValueError as error:
            return f"pictures prepared with {error}"
    if layout in ("openai", "comfyui"):
        # Who reads weights alone takes for granted what shapes do not say.
        read = config_from_shapes(checkpoint.weights)
        quick = bool(config.get("quick_gelu"))
        if quick != read["quick_gelu"] or (layout == "openai" and not quick):
            has, taken = ("QuickGELU", "GELU") if quick else ("GELU", "QuickGELU")
            return f"{has}, since its readers take {taken} for granted"
        heads = config["text_cfg"]["heads"], (vision or {}).get("head_width", 64)
        if layout == "openai" and heads != (read["text_cfg"]["heads"], 64):
            return "heads that are not of width 64, since its readers take that for granted"
    return None


def _write_file(weights: "Mapping[str, Tensor]", out: Path) -> str:
    make_output_folder(out.parent)
    whole = {name: tensor.contiguous() for name, tensor in weights.items()}
    if out.suffix == ".safetensors":
        write_safetensors(whole, out, {"format": "pt"})
        return sha256_file(out)
    # Through a file of Python's: torch's own does not say why it could not write.
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        torch.save(whole, file)
    return sha256_file(out)


def _write_transformers(
    checkpoint: Checkpoint, weights: dict[str, Tensor], out: Path, made_by: dict[str, Any]
) -> tuple[str, int]:
    from transformers import CLIPConfig, CLIPTextConfig

    config = checkpoint.config
    named = text_weights(weights, "text_model.")
    if "vision_cfg" in config:
        named |= vision_weights(weights)
        if "logit_scale" in weights:
            named["logit_scale"] = weights["logit_scale"]
        document = CLIPConfig(text_config=text_config(config), vision_config=vision_config(config),
                              projection_dim=config["embed_dim"])  # fmt: skip
        document.architectures = ["CLIPModel"]
        processor = to_processor(checkpoint.preprocess, config["vision_cfg"]["image_size"])
        atomic_write_json(out / IMAGE_PROCESSOR_FILE, processor)
    else:
        document = CLIPTextConfig(**text_config(config))
        document.architectures = [
            "CLIPTextModelWithProjection" if "text_projection" in weights else "CLIPTextModel"
        ]
    _write_tokenizer(checkpoint, out)
    written = _write_file(named, out / "model.safetensors")
    record = json.dumps(made_by, indent=2, ensure_ascii=False, sort_keys=True)
    atomic_write_text(out / "README.md", model_card("transformers", record))
    # Last, so that a folder with a config is a whole one.
    atomic_write_text(out / "config.json", document.to_json_string())
    return written, len(named)


def _write_tokenizer(checkpoint: Checkpoint, out: Path) -> None:
    """The tokenizer's files: those beside the weights, else CLIP's own, as open_clip ships it."""
    if checkpoint.tokenizer_folder is not None:
        copy_tokenizer(checkpoint.tokenizer_folder, out)
        return
    from open_clip.tokenizer import SimpleTokenizer

    own = SimpleTokenizer()
    if len(own.encoder) != checkpoint.config["text_cfg"]["vocab_size"]:
        return
    special = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {special.get(word, word): number for word, number in own.encoder.items()}
    ranked = sorted(own.bpe_ranks, key=own.bpe_ranks.__getitem__)
    atomic_write_text(out / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    atomic_write_text(out / "merges.txt", "\n".join(["#version: 0.2", *map(" ".join, ranked), ""]))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": checkpoint.config["text_cfg"]["context_length"],
                "bos_token": special["<start_of_text>"], "eos_token": special["<end_of_text>"],
                "pad_token": special["<end_of_text>"], "unk_token": special["<end_of_text>"]}  # fmt: skip
    atomic_write_json(out / "tokenizer_config.json", settings)


def architecture_of(config: dict[str, Any]) -> str | None:
    """open_clip's name for an architecture ("ViT-L-14"), or None where it has none; activations aside."""
    from open_clip import get_model_config, list_models

    def sizes(of: dict[str, Any]) -> tuple[Any, ...]:
        text, vision = of.get("text_cfg", {}), of.get("vision_cfg", {})
        asked = [text.get(key) for key in ("width", "layers", "vocab_size", "context_length")]
        if "vision_cfg" in config:
            asked += [vision.get(key) for key in ("width", "patch_size", "image_size")]
            asked += [str(vision.get("layers"))]  # a number, or a ResNet's list
        return (of.get("embed_dim"), *asked)

    wanted = sizes(config)
    found = [name for name in list_models() if sizes(get_model_config(name) or {}) == wanted]
    return min(found, key=lambda name: (len(name), name), default=None)
