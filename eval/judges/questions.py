"""The yes-or-no question about a label, how an answer is read, and the rows of one picture and one question each."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from eval.judges import Answers
from negclip_core.captions.phrasings import noun_phrase

__all__ = ["ask_all", "question", "read_answer"]

_ANSWER = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


def question(label: str) -> str:
    """ "car" -> "Is there a car in the picture?"; "glasses" -> "Are there glasses in the picture?"."""
    first = label.split(" with ")[0]
    be = "Are" if noun_phrase(first) == first else "Is"
    return f"{be} there {noun_phrase(label)} in the picture?"


def read_answer(text: str) -> bool | None:
    """Whether a text begins with yes (True) or no (False); None where it is neither."""
    found = _ANSWER.match(text)
    return None if found is None else found[1].lower() == "yes"


def ask_all(
    pictures: np.ndarray,
    asked: Sequence[Sequence[str]],
    batch: int,
    ask: Callable[[np.ndarray, list[str]], list[bool | None]],
) -> list[Answers]:
    """Every label of every picture through `ask`, which takes at most `batch` pictures, uint8[b, h, w, 3], and a label of each."""
    rows = [(number, label) for number, labels in enumerate(asked) for label in dict.fromkeys(labels)]
    found: list[Answers] = [{} for _ in asked]
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        said = ask(pictures[[number for number, _ in part]], [label for _, label in part])
        for (number, label), answer in zip(part, said, strict=True):
            found[number][label] = answer
    return found
