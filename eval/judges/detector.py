"""An open-vocabulary detector as a judge. A thing is there where a box of it is found."""

from collections.abc import Sequence

import numpy as np

from eval.judges import Answers
from eval.judges.questions import ask_all
from negclip_core.detector import AT_ONCE, Detector

__all__ = ["DetectorJudge"]


class DetectorJudge(Detector):
    """See `eval.judges.Judge`. It answers every question, also about places, of which no detector knows much."""

    labels: tuple[str, ...] = ()

    def answers(self, pictures: np.ndarray, asked: Sequence[Sequence[str]]) -> list[Answers]:
        """See `Judge`."""
        return ask_all(pictures, asked, AT_ONCE, self._ask)

    def _ask(self, pictures: np.ndarray, labels: list[str]) -> list[bool | None]:
        return [*self.finds(list(pictures), labels)]
