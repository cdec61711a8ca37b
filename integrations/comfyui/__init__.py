"""A node for ComfyUI: a prompt that negates is read by a NegationCLIP text encoder, every other by the checkpoint's own.

Copy or link this folder into ComfyUI's `custom_nodes`; negclip must be installed in ComfyUI's Python. ComfyUI imports it and
reads `NODE_CLASS_MAPPINGS`. What it is built on of ComfyUI: `folder_paths`, `comfy.sd.load_clip`, and of a CLIP `clone`,
`add_patches`, `get_key_patches`, `tokenize` and `encode_from_tokens_scheduled`. The new text encoder is laid over the own one as
ComfyUI's node CLIPMergeSimple lays one over another at a ratio of 1, so that where weights lie, their dtype and what else hangs
on the CLIP stay ComfyUI's affair.

Source: nodes.py, folder_paths.py and comfy_extras/nodes_model_merging.py of github.com/comfyanonymous/ComfyUI.
"""

import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "NegationTextEncode"]

_KEPT = (".position_ids", ".logit_scale")  # no part of what reads a prompt
# "(cars:1.2)" and "[cars]" weigh words, "\(" is a bracket: neither is part of the sentence.
_WEIGHTS = re.compile(r"\\?[()\[\]]|:[\d.]+(?=\))")


def negates(prompt: str) -> bool:
    """Whether a prompt as ComfyUI has it, perhaps with weights, negates."""
    from negclip_core.language import has_negation

    return has_negation(_WEIGHTS.sub("", prompt))


@lru_cache(maxsize=1)
def _load(path: str, changed: int) -> Any:
    """The text encoder of a file as a CLIP of ComfyUI's; the last one is kept, until its file changes."""
    import comfy.sd
    import folder_paths

    return comfy.sd.load_clip([path], embedding_directory=folder_paths.get_folder_paths("embeddings"))


def _shapes(clip: Any) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the weights that read a prompt."""
    weights = clip.cond_stage_model.state_dict()
    return {name: tuple(tensor.shape) for name, tensor in weights.items() if not name.endswith(_KEPT)}


def _overlaid(clip: Any, encoder: Any, name: str) -> Any:
    """A clone of `clip` whose weights are those of `encoder` where both have them.

    Raises:
        ValueError: `clip` has no place for all of them, or another size of one; nothing has been changed.
    """
    own = _shapes(clip)
    for weight, shape in _shapes(encoder).items():
        if own.get(weight) != shape and not weight.endswith("text_projection.weight"):
            raise ValueError(
                f"{name}: does not fit this checkpoint's CLIP: {weight} is {list(shape)}, "
                f"expected {list(own[weight]) if weight in own else 'none'}; choose the text encoder of its CLIP"
            )
    overlaid = clip.clone()
    for weight, patch in encoder.get_key_patches().items():
        if own.get(weight) is not None and not weight.endswith(_KEPT):
            overlaid.add_patches({weight: patch}, 1.0, 0.0)
    return overlaid


class NegationTextEncode:
    """CLIP Text Encode, with a second text encoder for prompts that say what is absent."""

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "encode"
    CATEGORY = "conditioning"
    DESCRIPTION = "A prompt that says what is absent is read by a NegationCLIP text encoder, any other by the CLIP itself."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:
        """The node's inputs, in ComfyUI's form."""
        import folder_paths

        return {
            "required": {
                "clip": ("CLIP",),
                "text_encoder": (folder_paths.get_filename_list("text_encoders"),),
                "text": ("STRING", {"multiline": True, "dynamicPrompts": True}),
            },
            "optional": {
                "gate": ("BOOLEAN", {"default": True, "tooltip": "Off: it reads every prompt."}),
            },
        }

    def encode(self, clip: Any, text_encoder: str, text: str, gate: bool = True) -> tuple[Any]:
        """The conditioning of a prompt; `text_encoder` is a file name in models/text_encoders."""
        import folder_paths

        if clip is None:
            raise ValueError("there is no CLIP: this checkpoint holds no text encoder; load one with it")
        if not gate or negates(text):
            path = folder_paths.get_full_path_or_raise("text_encoders", text_encoder)
            clip = _overlaid(clip, _load(path, Path(path).stat().st_mtime_ns), text_encoder)
        return (clip.encode_from_tokens_scheduled(clip.tokenize(text)),)


NODE_CLASS_MAPPINGS: dict[str, type] = {"NegationTextEncode": NegationTextEncode}
NODE_DISPLAY_NAME_MAPPINGS = {"NegationTextEncode": "CLIP Text Encode (NegationCLIP)"}

try:
    import negclip_core  # noqa: F401
except ImportError:
    print(
        "negclip: not installed in ComfyUI's Python, so there is no NegationCLIP node; run "
        f"{sys.executable} -m pip install --no-deps PATH-TO-NEGCLIP",
        file=sys.stderr,
    )
    NODE_CLASS_MAPPINGS = {}
