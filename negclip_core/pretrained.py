"""Load a transformers model by its class: safetensors alone, and no code but the library's."""

from pathlib import Path
from typing import Any

from negclip_core.errors import RequestError, reason_of
from negclip_core.files import read_json, sha256_folder
from negclip_core.models import resolve

__all__ = ["load_pretrained", "model_folder", "model_type"]

_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")


def model_folder(name: str) -> Path:
    """The folder of a model by hub id (which is fetched) or path. Raises RequestError where there is none."""
    found = resolve(name)
    if isinstance(found, str):
        from huggingface_hub import snapshot_download

        try:
            found = Path(snapshot_download(found, allow_patterns=list(_FILES)))
        except Exception as error:  # the hub's client and its transport raise many kinds
            from negclip_core.hub import out_of_reach

            raise out_of_reach(name, error) from error
    if not (found / "config.json").is_file():
        raise RequestError(f"{name}: expected a transformers model (a folder with config.json)")
    if not any(found.glob("*.safetensors")):
        raise RequestError(f"{name}: expected weights as .safetensors, found none; other forms are not read")
    return found


def model_type(folder: Path) -> str:
    """What config.json calls the architecture: "blip", "owlv2". Raises RequestError where it is no JSON object."""
    return str(read_json(folder / "config.json").get("model_type", ""))


def load_pretrained(name: str, kind: str, what: str, device: str) -> tuple[Any, Any, str]:
    """Model and processor of transformers' class `kind`, which people call `what`, and the sum of the folder.

    On a GPU in half precision: bfloat16 for weights kept as that, which float16 may not hold. Raises RequestError where
    the folder holds no such model, or not all of its weights.
    """
    import torch
    import transformers

    folder = model_folder(name)
    kept = read_json(folder / "config.json")
    half = torch.bfloat16 if "bfloat16" in (kept.get("dtype"), kept.get("torch_dtype")) else torch.float16
    dtype = half if device.startswith("cuda") else torch.float32
    try:
        model, info = getattr(transformers, kind).from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, dtype=dtype, output_loading_info=True
        )
        processor = transformers.AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever its many readers do
        raise RequestError(f"{name}: cannot be loaded as {what} ({reason_of(error)})") from error
    if missing := sorted(info["missing_keys"]):
        raise RequestError(
            f"{name}: not {what}: {len(missing)} of its weights are missing, {missing[0]} first"
        )
    return model.eval().to(device), processor, sha256_folder(folder)
