"""An open-vocabulary detector as a judge: OWL-ViT, OWLv2, Grounding DINO. A thing is there where a box of it is found."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from eval.judges import Answers
from eval.judges.questions import ask_all, noun_phrase
from negclip_core.errors import RequestError
from negclip_core.pretrained import load_pretrained

__all__ = ["DetectorJudge"]

_BATCH = 8
# By the beginning of the model's type: how a thing is asked for, and from which score a box counts. Both are those of
# the models' authors (Minderer et al. 2023, arXiv 2306.09683; Liu et al. 2023, arXiv 2303.05499).
_WAYS = {"owl": ("a photo of {}", 0.1), "grounding-dino": ("{}.", 0.25)}


class DetectorJudge:
    """See `eval.judges.Judge`. It answers every question, also about places, of which no detector knows much."""

    labels: tuple[str, ...] = ()

    def __init__(self, model: Any, processor: Any, version: str, text: str, threshold: float) -> None:
        self.model, self.processor, self.version = model, processor, version
        self.text, self.threshold = text, threshold

    @classmethod
    def load(cls, name: str, device: str) -> "DetectorJudge":
        """By hub id or folder, such as "google/owlv2-base-patch16-ensemble". Raises RequestError where it is none."""
        kind = "AutoModelForZeroShotObjectDetection"
        model, processor, version = load_pretrained(name, kind, "an open-vocabulary detector", device)
        for beginning, (text, threshold) in _WAYS.items():
            if model.config.model_type.startswith(beginning):
                return cls(model, processor, version, text, threshold)
        raise RequestError(f"{name}: a {model.config.model_type}; expected OWL-ViT, OWLv2 or Grounding DINO")

    def answers(self, pictures: np.ndarray, asked: Sequence[Sequence[str]]) -> list[Answers]:
        """See `Judge`."""
        return ask_all(pictures, asked, _BATCH, self._ask)

    @torch.inference_mode()
    def _ask(self, pictures: np.ndarray, labels: list[str]) -> list[bool | None]:
        texts = [self.text.format(noun_phrase(label)) for label in labels]
        inputs = self.processor(images=list(pictures), text=texts, padding=True, return_tensors="pt")
        inputs = inputs.to(self.model.device, self.model.dtype)
        # [rows, boxes, queries or tokens]; with a text for each picture the best of all is what the boxes are kept by.
        scores = self.model(**inputs).logits.float().sigmoid().amax((1, 2))
        return [bool(score >= self.threshold) for score in scores]
