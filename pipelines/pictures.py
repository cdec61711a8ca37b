"""How drawn pictures are named and written: whole, and with what made them in their PNG text."""

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negclip_core.files import atomic_path

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["file_stems", "write_png"]


def file_stems(prompts: Iterable[str]) -> list[str]:
    """A short, distinct file name for each prompt, without suffix: letters of ASCII, digits and hyphens."""
    stems: list[str] = []
    for prompt in prompts:
        stem = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")
        # A name that says too little or was cut gets a few digits of the prompt's sum.
        if len(stem) > 60 or not stem or stem in stems:
            stem = f"{stem[:52].rstrip('-') or 'prompt'}-{sha256(prompt.encode()).hexdigest()[:6]}"
        stems.append(stem)
    return stems


def write_png(image: "Image", path: Path, record: Mapping[str, Any]) -> None:
    """Write a picture. Its text holds prompt, seed, arm and model by themselves, and all of `record` as JSON."""
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    for name in ("prompt", "seed", "arm", "model"):
        if name in record:
            text.add_itxt(name, str(record[name]))
    text.add_itxt("negclip", json.dumps(record, ensure_ascii=False, sort_keys=True))
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=text)
