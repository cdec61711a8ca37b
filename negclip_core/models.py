"""From the name of a model to where it lies; `models.json` holds the names. Imports no torch."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from negclip_core.errors import RequestError

__all__ = ["HUB_ID", "LORA_FILE", "Source", "architecture_file", "arms_of", "hub_files", "resolve", "segmenter_of",
           "shipped", "text_encoder_for"]  # fmt: skip

_HERE = Path(__file__).parent
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")  # owner/name
LORA_FILE = "pytorch_lora_weights.safetensors"  # in a folder, as diffusers and its users call it


@dataclass(frozen=True)
class Source:
    """What `load_clip` takes: a name, folder, file or hub id, and for some of them the architecture."""

    source: str
    architecture: str | None = None


@cache
def _table() -> dict[str, Any]:
    return json.loads(files(__package__).joinpath("models.json").read_text("utf-8"))


def shipped() -> list[str]:
    """The names of the models that come with the package."""
    return list(_table()["shipped"])


def resolve(name: str) -> Path | str:
    """Where a model lies: the path of a shipped model, a folder or a file; or the hub id itself. Reads nothing.

    Raises:
        RequestError: the name is none of them.
    """
    if name in shipped():
        folder = _HERE / _table()["shipped"][name]
        if not folder.is_dir():
            raise RequestError(
                f"{name}: this shipped model is missing from {folder.parent}; run negclip miniature build"
            )
        return folder
    path = Path(name).expanduser()
    if name and path.exists():
        return path
    if HUB_ID.fullmatch(name) and name.split("/")[0] not in shipped():
        return name
    raise RequestError(
        f"no model called {name!r}: expected a shipped name ({', '.join(shipped())}), "
        "a hub id (owner/name), or a folder or file that exists"
    )


def text_encoder_for(model: str, width: int, layers: int, name: str | None = None) -> Source:
    """The text encoder to swap into a model: the one named, or the one made for it.

    Args:
        model: the model's name.
        width, layers: of the model's own text encoder.
        name: what the user asked for; a hub repository of several CLIPs is told which fits.

    Raises:
        RequestError: none was named, and none is known for this model; or none of the repository's fits it.
    """
    known = [
        Source(**row["encoder"]) for row in _table()["text_encoders"] if _suits(row, model, width, layers)
    ]
    if name is not None:
        fitting = next((source for source in known if source.source == name), None)
        if fitting is None and hub_files(name):
            raise RequestError(
                f"{name}: none of its text encoders ({', '.join(hub_files(name))}) fits {model}, whose own has width "
                f"{width} and {layers} layers; name another with --text-encoder"
            )
        return fitting or Source(name)
    if not known:
        raise RequestError(
            f"{model}: no NegationCLIP is known for its text encoder (width {width}, {layers} layers); "
            "name one with --text-encoder"
        )
    return known[0]


def _suits(row: Mapping[str, Any], model: str, width: int, layers: int) -> bool:
    return row.get("model") == model or (row.get("width"), row.get("layers")) == (width, layers)


def architecture_file(name: str) -> Path | None:
    """open_clip's own description of an architecture ("ViT-L-14"), or None where it knows none of that name."""
    # Found without importing open_clip, which takes seconds.
    package = find_spec("open_clip")
    if package is None or package.origin is None or not re.fullmatch(r"[\w.-]+", name):
        return None
    file = Path(package.origin).parent / "model_configs" / f"{name}.json"
    return file if file.is_file() else None


def arms_of(clip: str) -> dict[str, Source]:
    """The text encoders that are compared for a CLIP, by arm. A CLIP that is in no table has the arm `vanilla` only."""
    rows: Mapping[str, Mapping[str, str]] = _table()["clips"].get(clip, {"vanilla": {"source": clip}})
    return {arm: Source(**row) for arm, row in rows.items()}


def segmenter_of(model: str) -> tuple[str, str]:
    """The names of the CLIPSeg and of the SAM that segment for a model: its own, or itself and the table's SAM."""
    own = _table()["segmenters"].get(model, {})
    return own.get("clipseg", model), own.get("sam", _table()["sam"])


def hub_files(repository: str) -> dict[str, str]:
    """The file to read for each architecture, for a hub repository that holds several; else empty."""
    return dict(_table()["hub_files"].get(repository, {}))
