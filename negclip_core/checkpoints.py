"""Read CLIP's weights, safely, from any layout; write open_clip's.

Nothing is unpickled but tensors (`weights_only=True`), and what a file is, its keys and shapes say, never its name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from negclip_core.errors import RequestError
from negclip_core.files import atomic_write_json, atomic_write_text, read_json, sha256_file, write_safetensors
from negclip_core.layouts import openai, transformers
from negclip_core.layouts.embedded import text_encoders
from negclip_core.layouts.image_processor import IMAGE_PROCESSOR_FILE, PROCESSOR_FILE, from_processor
from negclip_core.layouts.shapes import first_fault, mlp_width
from negclip_core.layouts.siglip import is_siglip
from negclip_core.tensor_files import INDEX, fingerprint, read_tensors, within

__all__ = [
    "FOLDER_LAYOUTS",
    "Checkpoint",
    "copy_tokenizer",
    "model_card",
    "read_checkpoint",
    "write_open_clip_folder",
]

_TOKENIZER = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json")
_OPEN_CLIP = (
    "open_clip_config.json",
    ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    _TOKENIZER,
)
_TRANSFORMERS = (
    "config.json",
    ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}"),
    (*_TOKENIZER, PROCESSOR_FILE, IMAGE_PROCESSOR_FILE),
)
# (config, weights by preference, what may lie beside them) of the layouts that are folders
FOLDER_LAYOUTS = (_OPEN_CLIP, _TRANSFORMERS)
_LAYOUTS = "a CLIP in OpenAI's, open_clip's, transformers' or ComfyUI's layout"


@dataclass(frozen=True)
class Checkpoint:
    """A CLIP's weights in canonical form (negclip_core/layouts)."""

    weights: dict[str, Tensor]  # float32, OpenAI's names; without `visual.*` where there is no image tower
    config: dict[str, Any]  # open_clip's `model_cfg`
    layout: str  # "openai" | "open_clip" | "transformers" | "comfyui"
    sha256: str  # of the file that the weights came from
    preprocess: dict[str, Any] = field(default_factory=dict)  # open_clip's `preprocess_cfg`; empty: OpenAI's
    tokenizer_folder: Path | None = None  # where tokenizer files lie beside the weights
    config_known: bool = (
        True  # False: the file has no config, so heads and activation are OpenAI's by convention
    )
    dtypes: dict[str, torch.dtype] = field(default_factory=dict)  # of the file's tensors, by canonical name

    @property
    def reads_padding(self) -> bool:
        """Whether the text tower looks both ways or pools elsewhere than at the end token, which only open_clip can say."""
        text = self.config["text_cfg"]
        return bool(text.get("no_causal_mask")) or text.get("pool_type", "argmax") != "argmax"


def read_checkpoint(path: Path, width: int | None = None) -> Checkpoint:
    """Read a CLIP from a file, or from an open_clip or transformers folder.

    Args:
        width: of the text tower that is meant, for a Stable Diffusion checkpoint that holds several.

    Raises:
        RequestError: it is none of these, is damaged, or holds something else.
    """
    if not path.is_dir():
        beside = [path.parent / name for name, weights, _ in FOLDER_LAYOUTS if path.name in weights]
        document = next((read_json(config) for config in beside if config.is_file()), {})
        return _canonical(_encoder_alone(read_tensors(path), path, width), path, document)
    for config_name, weight_names, _ in FOLDER_LAYOUTS:
        if (path / config_name).is_file():
            weights = next((path / name for name in weight_names if (path / name).is_file()), None)
            if weights is None:
                raise RequestError(
                    f"{path}: {config_name} is there, but none of {', '.join(weight_names)} beside it"
                )
            document = read_json(within(path, path / config_name))
            return _canonical(read_tensors(within(path, weights)), weights, document)
    raise RequestError(f"{path}: expected a folder with open_clip_config.json or config.json and its weights")


def _encoder_alone(weights: dict[str, Tensor], path: Path, width: int | None) -> dict[str, Tensor]:
    """The text encoder of a Stable Diffusion checkpoint; any other file's tensors as they are."""
    found = text_encoders(weights)
    if not found:
        return weights
    sizes = {prefix: _width(own) for prefix, own in found.items()}
    chosen = [own for prefix, own in found.items() if width in (None, sizes[prefix])]
    if len(chosen) != 1:
        held = ", ".join(f"one of width {size}" for size in sizes.values())
        raise RequestError(f"{path}: holds {held}; name the architecture of the one that is meant")
    return chosen[0]


def _width(weights: Mapping[str, Tensor]) -> int:
    return next(t.shape[-1] for name, t in weights.items() if name.endswith("token_embedding.weight"))


def _canonical(weights: dict[str, Tensor], path: Path, document: dict[str, Any]) -> Checkpoint:
    layout = "open_clip" if "model_cfg" in document else "openai"
    if is_siglip(weights):
        raise RequestError(
            f"{path}: is a SigLIP, or a CLIP whose text tower is a module of its own; expected {_LAYOUTS}"
        )
    try:
        if openai.is_openai(weights):
            found = openai.strip(weights)
        elif transformers.is_transformers(weights):
            found = transformers.from_transformers(weights)
            alone = not document and "text_model.embeddings.token_embedding.weight" in weights
            layout = "comfyui" if alone and "visual.conv1.weight" not in found else "transformers"
        else:
            shown = ", ".join(list(weights)[:3])
            raise RequestError(f"{path}: expected {_LAYOUTS}, got {len(weights)} tensors such as {shown}")
        dtypes = {name: tensor.dtype for name, tensor in found.items()}
        config = openai.config_from_shapes(found)
        fault = first_fault(found, config)
    except (ArithmeticError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise RequestError(
            f"{path}: expected {_LAYOUTS}, but {reason} is missing or has a wrong shape"
        ) from error
    if fault is not None:
        raise RequestError(f"{path}: {fault}; fetch it again, or ask who made it")
    found = {name: tensor.float().contiguous() for name, tensor in found.items()}
    config = _as_said(document, layout, config, path)
    folder = path.parent if document and any((path.parent / name).is_file() for name in _TOKENIZER) else None
    if folder is not None:
        for name in _TOKENIZER:
            within(folder, folder / name)
    preprocess = _preprocess(document, layout, config, path.parent)
    return Checkpoint(found, config, layout, fingerprint(path), preprocess, folder, bool(document), dtypes)


def _preprocess(
    document: dict[str, Any], layout: str, config: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """open_clip's `preprocess_cfg`, from the file's own config or from what transformers keeps beside it."""
    if layout == "transformers" and document and "vision_cfg" in config:
        files = (within(folder, folder / name) for name in (PROCESSOR_FILE, IMAGE_PROCESSOR_FILE))
        whole, own = (read_json(file) if file.is_file() else {} for file in files)
        try:
            return from_processor(whole.get("image_processor", own), config["vision_cfg"]["image_size"])
        except (AttributeError, TypeError, ValueError) as error:
            raise RequestError(
                f"{folder}: its {PROCESSOR_FILE} or {IMAGE_PROCESSOR_FILE} prepares pictures as open_clip does not "
                f"({error}); correct it, or delete it to have them prepared as OpenAI's CLIPs do"
            ) from error
    preprocess = document.get("preprocess_cfg", {})
    if not isinstance(preprocess, dict):
        raise RequestError(f"{folder}: its config is not a CLIP's (preprocess_cfg is no object)")
    return preprocess


def _as_said(document: dict[str, Any], layout: str, found: dict[str, Any], path: Path) -> dict[str, Any]:
    """The `model_cfg` of the file's own config where there is one, checked against `found`, that of the weights."""
    where = f"{path.parent}: its config"
    try:
        if layout == "transformers" and document:
            config = transformers.model_config(document, found)
        elif layout == "open_clip":
            own = document["model_cfg"]
            # What a config leaves out, open_clip has as GELU, and as perceptrons of four times the width.
            text = {name: value for name, value in found["text_cfg"].items() if name != "mlp_ratio"}
            config = {**found, "quick_gelu": False, **own, "text_cfg": {**text, **own["text_cfg"]}}
        else:
            return found
        heads, width = config["text_cfg"]["heads"], found["text_cfg"]["width"]
        if type(heads) is not int or heads < 1 or width % heads:
            raise ValueError(f"{heads!r} heads do not divide a width of {width}")
        if "vision_cfg" in found and not isinstance(config["vision_cfg"], dict):
            raise TypeError("vision_cfg is no object")
        sizes = _sizes(config, found)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise RequestError(f"{where} is not a CLIP's ({type(error).__name__}: {error})") from error
    for name, said, has in sizes:
        if said != has:
            raise RequestError(
                f"{where} says {name} {said}, the weights have {has}; the two do not belong together"
            )
    return config


def _sizes(config: dict[str, Any], found: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Each size of a `model_cfg`: its name, what the config says, and what the weights have."""
    own = ("width", "layers", "vocab_size", "context_length")
    rows = [(f"text {name}", config["text_cfg"][name], found["text_cfg"][name]) for name in own]
    vision = {name: value for name, value in found.get("vision_cfg", {}).items() if name != "mlp_ratio"}
    rows += [
        (f"image {name}", config["vision_cfg"].get(name, value), value) for name, value in vision.items()
    ]
    for kind, part in (("text", "text_cfg"), ("image", "vision_cfg")):
        if part in found:
            said = {**config[part], "width": found[part]["width"]}
            rows.append((f"{kind} mlp width", mlp_width(said), mlp_width(found[part])))
    return [*rows, ("embed_dim", config["embed_dim"], found["embed_dim"])]


def write_open_clip_folder(
    folder: Path,
    weights: Mapping[str, Tensor],
    config: Mapping[str, Any],
    *,
    preprocess: Mapping[str, Any],
    made_by: Mapping[str, Any],
    tokenizer_folder: Path | None = None,
    dtype: torch.dtype | None = torch.float32,
) -> str:
    """Write a CLIP as an open_clip folder (`local-dir:` and, uploaded, `hf-hub:` read it); return the weights' SHA-256.

    Args:
        weights: canonical, such as `open_clip.model.CLIP(...).state_dict()`.
        config, preprocess: open_clip's `model_cfg` and `preprocess_cfg`.
        made_by: what made it (versions, settings, seeds, sums of inputs); kept in `README.md` and in the weights' file.
        tokenizer_folder: where to copy tokenizer files from, for a vocabulary that is not CLIP's own.
        dtype: of the file's floats; None: each its own.
    """
    config = dict(config)
    if tokenizer_folder is not None:
        copy_tokenizer(tokenizer_folder, folder)
        # Any name makes open_clip's `local-dir:` take the tokenizer in the folder rather than CLIP's own.
        config["text_cfg"] = {**config["text_cfg"], "hf_tokenizer_name": "."}
    tensors = {
        name: tensor.detach()
        .to("cpu", dtype if dtype and tensor.is_floating_point() else tensor.dtype)
        .contiguous()
        for name, tensor in weights.items()
        if name != "attn_mask"
    }
    record = json.dumps(made_by, indent=2, ensure_ascii=False, sort_keys=True)
    # One entry only: safetensors writes several in no fixed order, and the same run must give the same bytes.
    write_safetensors(tensors, folder / _OPEN_CLIP[1][0], {"made_by": record})
    atomic_write_text(folder / "README.md", model_card("open_clip", record))
    # Last, so that a folder with a config is a whole one.
    atomic_write_json(folder / _OPEN_CLIP[0], {"model_cfg": config, "preprocess_cfg": dict(preprocess)})
    return sha256_file(folder / _OPEN_CLIP[1][0])


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Put the tokenizer's files that lie in one folder into another."""
    for name in _TOKENIZER:
        if (source / name).is_file():
            atomic_write_text(folder / name, (source / name).read_text("utf-8"))


def model_card(library: str, record: str) -> str:
    """The hub's `README.md` for a folder that `library` ("open_clip", "transformers") loads; `record` is what made it, as JSON."""
    loaded = {
        "open_clip": "with open_clip's `local-dir:`",
        "transformers": "with transformers' `from_pretrained`",
    }
    return (
        f"---\nlibrary_name: {library}\npipeline_tag: zero-shot-image-classification\ntags: [clip, negation]\n---\n"
        "# A CLIP text tower that reads negation\n\n"
        f"A folder of {library}: load it with `negclip_core.load_clip(folder)`, or {loaded[library]}.\n\n"
        f"What made it:\n\n```json\n{record}\n```\n"
    )
