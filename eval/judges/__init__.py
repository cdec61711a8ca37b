"""Who decides what a picture shows: one file a judge."""

from typing import Protocol

import numpy as np

__all__ = ["Judge", "load_judge"]


class Judge(Protocol):
    """Decides, for each picture, which of the things it knows are there."""

    labels: tuple[str, ...]

    def presence(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """For RGB pictures uint8[n, height, width, 3]: label -> probability float32[n] that it is in the picture."""
        ...

    def decide(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The same as verdicts: label -> bool[n]."""
        ...


def load_judge(source: str) -> Judge:
    """The judge in the folder that `source` (a shipped name such as "miniature/judge", or a path) stands for.

    Raises:
        RequestError: there is no such folder, or it holds no judge.
    """
    from eval.judges.miniature import MiniatureJudge
    from negclip_core.models import resolve

    return MiniatureJudge.load(resolve(source))
