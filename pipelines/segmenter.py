"""Load a CLIPSeg to segment with, a SAM beside it, and what its folder says about itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from negclip_core.errors import RequestError
from negclip_core.files import sha256_file, sha256_folder
from negclip_core.models import resolve
from pipelines.host import folder_about, hush, loading

__all__ = ["Segmenter", "load_sam_model", "load_segmenter", "sam_sha256", "shrunk"]

_THRESHOLD, _PRESENCE = 0.5, 0.0
_LONGEST = 1024  # pixels that a mask is made at; SAM sees no more either


@dataclass(frozen=True)
class Segmenter:
    """A CLIPSeg on its device.

    `threshold`: from which heat on a pixel belongs to the mask. `presence`: how hot the hottest pixel must be, or the
    image shows nothing of the kind. Both come from the folder's `negclip.json` where it has one.
    """

    model: Any  # CLIPSegForImageSegmentation
    processor: Any  # CLIPSegProcessor
    about: dict[str, Any]
    sha256: str

    @property
    def threshold(self) -> float:
        return float(self.about.get("threshold", _THRESHOLD))

    @property
    def presence(self) -> float:
        return float(self.about.get("presence", _PRESENCE))

    def heat(self, image: Image.Image, expressions: Sequence[str]) -> list[np.ndarray]:
        """A heat map float32 [height, width] of the image's size for each expression; the image is encoded once."""
        from integrations.clipseg import heat_maps

        maps = heat_maps(self.model, self.processor, image, expressions).cpu().numpy()
        return [
            np.asarray(Image.fromarray(each).resize(image.size, Image.Resampling.BILINEAR)) for each in maps
        ]


def shrunk(image: Image.Image) -> Image.Image:
    """The image, or a smaller one of a large image, so that fifty megapixels cost little more memory than one."""
    scale = _LONGEST / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def load_segmenter(name: str, device: str, quiet: bool = False) -> Segmenter:
    """Load a CLIPSeg by shipped name, hub id or folder.

    Raises:
        RequestError: there is none, or it cannot be loaded.
    """
    found = resolve(name)
    if isinstance(found, Path) and not (found / "config.json").is_file():
        raise RequestError(f"{name}: expected a CLIPSeg (a folder with config.json)")
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

    from negclip_core.hub import fetch_first

    hush(quiet)
    with loading(name, "a CLIPSeg"):
        model = CLIPSegForImageSegmentation.from_pretrained(found)
        processor = CLIPSegProcessor.from_pretrained(found)
    folder = found if isinstance(found, Path) else fetch_first(found, ("config.json",)).parent
    return Segmenter(model.eval().to(device), processor, folder_about(folder), sha256_folder(folder))


def load_sam_model(name: str, device: str) -> Any:
    """segment_anything's `Sam` by shipped name, hub id, folder or checkpoint file. Raises RequestError as `load_sam`."""
    from integrations.sam_weights import load_sam

    return load_sam(_sam_path(name)).to(device)


def sam_sha256(name: str) -> str:
    """The sum of what `load_sam_model` loads by this name, a file or a folder."""
    path = _sam_path(name)
    return sha256_folder(path) if path.is_dir() else sha256_file(path)


def _sam_path(name: str) -> Path:
    from integrations.sam_weights import SAM_FILES
    from negclip_core.hub import fetch_first

    found = resolve(name)
    return found if isinstance(found, Path) else fetch_first(found, SAM_FILES)
