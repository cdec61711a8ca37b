"""Any vision-language chat model of transformers as a judge: LLaVA, Qwen-VL, SmolVLM and the like."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from eval.judges import Answers
from eval.judges.questions import ask_all, question, read_answer
from negclip_core.errors import RequestError
from negclip_core.pretrained import load_pretrained

__all__ = ["ChatJudge"]

_BATCH = 8
_LONGEST = 8  # tokens of an answer


class ChatJudge:
    """See `eval.judges.Judge`."""

    labels: tuple[str, ...] = ()

    def __init__(self, model: Any, processor: Any, version: str) -> None:
        self.model, self.processor, self.version = model, processor, version
        # What is written goes on from the end of each row, so the filling stands before it.
        processor.tokenizer.padding_side = "left"

    @classmethod
    def load(cls, name: str, device: str) -> "ChatJudge":
        """By hub id or folder. Raises RequestError where it is none, or has no form for a chat."""
        what = "a vision-language model"
        model, processor, version = load_pretrained(name, "AutoModelForImageTextToText", what, device)
        if not getattr(processor, "chat_template", None) or not hasattr(processor, "tokenizer"):
            raise RequestError(f"{name}: its processor has no chat template; name a model tuned for chat")
        return cls(model, processor, version)

    def answers(self, pictures: np.ndarray, asked: Sequence[Sequence[str]]) -> list[Answers]:
        """See `Judge`."""
        return ask_all(pictures, asked, _BATCH, self._ask)

    @torch.inference_mode()
    def _ask(self, pictures: np.ndarray, labels: list[str]) -> list[bool | None]:
        texts = [
            self.processor.apply_chat_template([_message(label)], add_generation_prompt=True)
            for label in labels
        ]
        images = [[picture] for picture in pictures]
        inputs = self.processor(images=images, text=texts, padding=True, return_tensors="pt")
        inputs = inputs.to(self.model.device, self.model.dtype)
        said = self.model.generate(**inputs, do_sample=False, max_new_tokens=_LONGEST)
        start = inputs["input_ids"].shape[1]
        texts = self.processor.batch_decode(said[:, start:], skip_special_tokens=True)
        return [read_answer(text) for text in texts]


def _message(label: str) -> dict[str, Any]:
    text = f"{question(label)} Answer yes or no."
    return {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
