"""An open-vocabulary detector of transformers: OWL-ViT, OWLv2, Grounding DINO. A thing is there where a box of it is found."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from negclip_core.captions.phrasings import noun_phrase
from negclip_core.errors import RequestError
from negclip_core.pretrained import load_pretrained

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["AT_ONCE", "Detector"]

AT_ONCE = 8  # pictures
# By the beginning of the model's type: how a thing is asked for, and from which score a box counts. Both are those of
# the models' authors (Minderer et al. 2023, arXiv 2306.09683; Liu et al. 2023, arXiv 2303.05499).
_WAYS = {"owl": ("a photo of {}", 0.1), "grounding-dino": ("{}.", 0.25)}
_Self = TypeVar("_Self", bound="Detector")


class Detector:
    """`version` is the sum of its files; `threshold`, from 0 to 1, the score from which a box counts."""

    def __init__(self, model: Any, processor: Any, version: str, text: str, threshold: float) -> None:
        self.model, self.processor, self.version = model, processor, version
        self.text, self.threshold = text, threshold

    @classmethod
    def load(cls: type[_Self], name: str, device: str) -> _Self:
        """By hub id or folder, such as "google/owlv2-base-patch16-ensemble". Raises RequestError where it is none."""
        kind = "AutoModelForZeroShotObjectDetection"
        model, processor, version = load_pretrained(name, kind, "an open-vocabulary detector", device)
        for beginning, (text, threshold) in _WAYS.items():
            if model.config.model_type.startswith(beginning):
                return cls(model, processor, version, text, threshold)
        raise RequestError(f"{name}: a {model.config.model_type}; expected OWL-ViT, OWLv2 or Grounding DINO")

    @torch.inference_mode()
    def finds(self, pictures: "Sequence[np.ndarray | Image]", things: Sequence[str]) -> list[bool]:
        """Whether each of the RGB pictures, uint8[h, w, 3] if arrays, shows its thing ("car", "man with hat")."""
        texts = [self.text.format(noun_phrase(thing)) for thing in things]
        inputs = self.processor(images=list(pictures), text=texts, padding=True, return_tensors="pt")
        inputs = inputs.to(self.model.device, self.model.dtype)
        # [rows, boxes, queries or tokens]; with a text for each picture the best of all is what the boxes are kept by.
        scores = self.model(**inputs).logits.float().sigmoid().amax((1, 2))
        return [bool(score >= self.threshold) for score in scores]
