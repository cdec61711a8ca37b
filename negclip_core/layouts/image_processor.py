"""How pictures are prepared: open_clip's `preprocess_cfg`, and what transformers' `CLIPImageProcessor` says for it."""

from collections.abc import Mapping
from typing import Any

__all__ = ["IMAGE_PROCESSOR_FILE", "PROCESSOR_FILE", "from_processor", "is_openais", "to_processor"]

# Where transformers keeps it: by itself, or, which goes before, as a part of what it keeps of a processor.
IMAGE_PROCESSOR_FILE, PROCESSOR_FILE = "preprocessor_config.json", "processor_config.json"

# What a `preprocess_cfg` leaves out, open_clip has as this.
_OPENAI: dict[str, Any] = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
_RESAMPLING = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, which image processors keep


def _settings(preprocess: Mapping[str, Any]) -> dict[str, Any]:
    """All four of open_clip's settings, as it reads them."""
    said = {name: preprocess.get(name) or usual for name, usual in _OPENAI.items()}
    for name in ("mean", "std"):  # for each channel, or one for all
        said[name] = [said[name]] * 3 if isinstance(said[name], int | float) else list(said[name])
    if said["interpolation"] == "random":  # of training's; else it is bicubic
        said["interpolation"] = "bicubic"
    return said


def is_openais(preprocess: Mapping[str, Any]) -> bool:
    """Whether pictures are prepared as for OpenAI's CLIPs."""
    return _settings(preprocess) == _OPENAI


def to_processor(preprocess: Mapping[str, Any], side: int) -> dict[str, Any]:
    """`CLIPImageProcessor`'s settings for open_clip's `preprocess_cfg` and pictures of `side` pixels.

    Raises ValueError where there are none.
    """
    said = _settings(preprocess)
    if said["resize_mode"] not in ("shortest", "squash") or said["interpolation"] not in _RESAMPLING.values():
        raise ValueError(f"{said['interpolation']} and {said['resize_mode']}")
    squash = said["resize_mode"] == "squash"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True, "size": {"height": side, "width": side} if squash else {"shortest_edge": side},
        "resample": next(number for number, name in _RESAMPLING.items() if name == said["interpolation"]),
        "do_center_crop": not squash, "crop_size": {"height": side, "width": side},
        "do_rescale": True, "rescale_factor": 1 / 255, "do_convert_rgb": True,
        "do_normalize": True, "image_mean": said["mean"], "image_std": said["std"],
    }  # fmt: skip


def from_processor(processor: Mapping[str, Any], side: int) -> dict[str, Any]:
    """open_clip's `preprocess_cfg` for `CLIPImageProcessor`'s settings; empty where it is OpenAI's.

    Args:
        side: of the image tower's pictures, in pixels.

    Raises:
        ValueError, TypeError: open_clip prepares no pictures so.
    """
    size, crops = processor.get("size", side), processor.get("do_center_crop", True)
    for name, given in (("size", size), ("crop_size", processor.get("crop_size", side) if crops else side)):
        # In configs of old a number; since then by edges.
        if set(given.values() if isinstance(given, Mapping) else [given]) != {side}:
            raise ValueError(f"{name} {given} for pictures of {side} pixels")
    for name in ("do_resize", "do_rescale", "do_normalize"):
        if not processor.get(name, True):
            raise ValueError(f"{name} is false")
    if abs(255 * processor.get("rescale_factor", 1 / 255) - 1) > 1e-3:
        raise ValueError(f"rescale_factor {processor['rescale_factor']}")
    if (resample := processor.get("resample", 3)) not in _RESAMPLING:
        raise ValueError(f"resample {resample}")
    squash = not crops or (isinstance(size, Mapping) and "height" in size)
    found = {
        "mean": list(processor.get("image_mean", _OPENAI["mean"])),
        "std": list(processor.get("image_std", _OPENAI["std"])),
        "interpolation": _RESAMPLING[resample],
        "resize_mode": "squash" if squash else "shortest",
    }
    return {} if found == _OPENAI else found
