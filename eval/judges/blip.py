"""BLIP-VQA as a judge (Li et al. 2022, arXiv 2201.12086): asked a question, it writes the answer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from eval.judges import Answers
from eval.judges.questions import ask_all, question, read_answer
from negclip_core.pretrained import load_pretrained

__all__ = ["BlipJudge"]

_BATCH = 32
_LONGEST = 8  # tokens of an answer


class BlipJudge:
    """See `eval.judges.Judge`."""

    labels: tuple[str, ...] = ()

    def __init__(self, model: Any, processor: Any, version: str) -> None:
        self.model, self.processor, self.version = model, processor, version

    @classmethod
    def load(cls, name: str, device: str) -> "BlipJudge":
        """By hub id or folder, such as "Salesforce/blip-vqa-base". Raises RequestError where it is none."""
        return cls(*load_pretrained(name, "BlipForQuestionAnswering", "BLIP for questions", device))

    def answers(self, pictures: np.ndarray, asked: Sequence[Sequence[str]]) -> list[Answers]:
        """See `Judge`."""
        return ask_all(pictures, asked, _BATCH, self._ask)

    @torch.inference_mode()
    def _ask(self, pictures: np.ndarray, labels: list[str]) -> list[bool | None]:
        questions = [question(label) for label in labels]
        inputs = self.processor(images=list(pictures), text=questions, padding=True, return_tensors="pt")
        inputs = inputs.to(self.model.device, self.model.dtype)
        said = self.model.generate(**inputs, do_sample=False, max_new_tokens=_LONGEST)
        # The first token only says that an answer begins.
        texts = self.processor.batch_decode(said[:, 1:], skip_special_tokens=True)
        return [read_answer(text) for text in texts]
