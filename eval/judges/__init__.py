"""Who decides what a picture shows: one file a judge."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from negclip_core.errors import RequestError

__all__ = ["Answers", "Judge", "load_judge"]

Answers = dict[str, bool | None]  # label -> there, not there, or neither was said


class Judge(Protocol):
    """Says of pictures which things are there.

    `labels`: all that it can be asked about; empty where that is anything. `version`: what its answers depend on, a sum
    of its files or the name of a model elsewhere.
    """

    labels: tuple[str, ...]
    version: str

    def answers(self, pictures: np.ndarray, asked: Sequence[Sequence[str]]) -> list[Answers]:
        """For each of the RGB pictures uint8[n, height, width, 3], an answer to each label asked of it."""
        ...


def load_judge(source: str, device: str = "cpu") -> Judge:
    """The judge that `source` stands for.

    "vqa:MODEL" is a transformers model that answers questions (a hub id or a folder) or an OpenAI-compatible endpoint (its
    address), "detector:MODEL" one that finds objects, "labels:FILE" what people said, and any other name (such as
    "miniature/judge", or a folder) a judge of miniature pictures.

    Raises:
        RequestError: there is no such judge, or it cannot be loaded or reached.
    """
    kind, colon, name = source.partition(":")
    if not colon:
        from eval.judges.miniature import MiniatureJudge
        from negclip_core.models import resolve

        return MiniatureJudge.load(resolve(source))
    if kind == "vqa":
        return _answerer(name, device)
    if kind == "detector":
        from eval.judges.detector import DetectorJudge

        return DetectorJudge.load(name, device)
    if kind == "labels":
        from eval.judges.labels import LabelJudge

        return LabelJudge.load(name)
    raise RequestError(
        f"--judge {source}: expected vqa:MODEL, vqa:http://HOST:PORT/v1, detector:MODEL, labels:FILE or a judge's folder"
    )


def _answerer(name: str, device: str) -> Judge:
    if name.startswith(("http://", "https://")):
        from eval.judges.endpoint import EndpointJudge

        return EndpointJudge.load(name)
    from eval.judges.blip import BlipJudge
    from eval.judges.chat import ChatJudge
    from negclip_core.pretrained import model_folder, model_type

    is_blip = model_type(model_folder(name)) == "blip"
    return BlipJudge.load(name, device) if is_blip else ChatJudge.load(name, device)
