"""Load a diffusers pipeline to draw with, and what its folder says about itself."""

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from negclip_core.errors import RequestError
from negclip_core.files import read_json, sha256_file, sha256_folder
from negclip_core.models import LORA_FILE, resolve

__all__ = ["Host", "folder_about", "hush", "load_host", "loading", "need_peft"]

_ABOUT = "negclip.json"


@dataclass(frozen=True)
class Host:
    """A pipeline on its device.

    `about` is the folder's `negclip.json`, if it has one: `steps` and `guidance_scale` to draw with by default, the
    `vocabulary` that the model has learned, and `knows`, a phrase for people that says what that is. A LoRA's own
    replaces what it says anew.
    """

    name: str
    pipe: Any  # a diffusers pipeline
    about: dict[str, Any]
    sha256: str

    def default(self, setting: str, argument: str) -> Any:
        """The model's own value for a setting, else the pipeline's."""
        own = inspect.signature(type(self.pipe).__call__).parameters[argument].default
        return self.about.get(setting, own)


def need_peft(who: str) -> None:
    """Raise RequestError, which says who needs it, where PEFT is not installed."""
    if find_spec("peft") is None:
        raise RequestError(f"{who} needs PEFT; pip install 'negclip[lora]'")


def load_host(name: str, device: str, quiet: bool = False, lora: str | None = None) -> Host:
    """Load a diffusers pipeline by shipped name, hub id or folder; `quiet` hides the progress of a download.

    `lora` names low-rank updates to load into it, as `load_lora_weights` reads them: a shipped name, a hub id, a folder
    or a safetensors file.

    Raises:
        RequestError: there is none, it cannot be loaded, or PEFT is missing for `lora`.
    """
    if lora is not None:
        need_peft(f"--lora {lora}:")
    found = resolve(name)
    if isinstance(found, Path) and not (found / "model_index.json").is_file():
        raise RequestError(f"{name}: expected a diffusers pipeline (a folder with model_index.json)")
    import torch
    from diffusers import DiffusionPipeline

    hush(quiet)
    with loading(name, "a diffusers pipeline"):
        folder = found if isinstance(found, Path) else Path(DiffusionPipeline.download(found))
        # One dtype for all parts: left to themselves, diffusers and transformers choose by different rules.
        dtype = torch.float16 if device.startswith("cuda") else torch.float32
        pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    about, sha256 = folder_about(folder), sha256_folder(folder)
    if lora is not None:
        file = _add_lora(pipe, lora)
        about, sha256 = about | folder_about(file.parent), f"{sha256}+{sha256_file(file)}"
    return Host(name, pipe.to(device), about, sha256)


def _add_lora(pipe: Any, lora: str) -> Path:
    """Load a LoRA into a pipeline; returns its file."""
    found = resolve(lora)
    if isinstance(found, str):
        from negclip_core.hub import fetch_first

        file = fetch_first(found, (LORA_FILE,))
    else:
        file = found / LORA_FILE if found.is_dir() else found
    if file.suffix != ".safetensors" or not file.is_file():
        raise RequestError(f"{lora}: expected a LoRA (a .safetensors file, or a folder with {LORA_FILE})")
    with loading(lora, "a LoRA of this pipeline"):
        pipe.load_lora_weights(file.parent, weight_name=file.name, use_safetensors=True)
    if not pipe.get_active_adapters():
        raise RequestError(f"{lora}: holds nothing that fits {type(pipe).__name__}")
    return file


@contextmanager
def loading(name: str, kind: str) -> Iterator[None]:
    """Within the block, whatever goes wrong is a RequestError: the model `name` cannot be loaded as a `kind`."""
    try:
        yield
    except Exception as error:  # the hub's client, transformers and diffusers raise many kinds
        reason = " ".join(str(error).split())[:200]
        raise RequestError(
            f"{name}: cannot be loaded as {kind} ({type(error).__name__}: {reason})"
        ) from error


def hush(quiet: bool) -> None:
    """No warnings and no bars from the libraries: what matters, this package says in a line."""
    from diffusers.utils import logging as of_diffusers
    from huggingface_hub.utils import disable_progress_bars
    from transformers.utils import logging as of_transformers

    # `torch_dtype` is the one name that all supported releases of diffusers know.
    warnings.filterwarnings("ignore", "`torch_dtype` is deprecated", FutureWarning)
    for library in (of_diffusers, of_transformers):
        library.set_verbosity_error()
        library.disable_progress_bar()
    if quiet:
        disable_progress_bars()


def folder_about(folder: Path) -> dict[str, Any]:
    """What a model folder says about itself: its `negclip.json`, or nothing. Raises RequestError where that is no JSON."""
    file = folder / _ABOUT
    return read_json(file) if file.is_file() else {}
