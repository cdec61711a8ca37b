"""How far two judges agree on the same pictures: Cohen's kappa (Cohen 1960) for each question, by statsmodels."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.generation import pixels
from eval.judges.labels import picture_key
from eval.judges.questions import question
from eval.registry import Record
from negclip_core.errors import RequestError

__all__ = ["agreement", "judged", "needs_statsmodels"]

_KINDS = ("negated", "asked", "place")
_ALL = "all questions"


def needs_statsmodels() -> None:
    """Raise RequestError where statsmodels is not installed."""
    try:
        import statsmodels.stats.inter_rater  # noqa: F401
    except ImportError as error:
        raise RequestError("two judges need statsmodels: pip install negclip[judges]") from error


def agreement(pairs: Sequence[tuple[bool, bool]]) -> dict[str, float | None]:
    """{"n", "same", "kappa", "low", "high"} of n questions that both judges answered.

    "same" is the share of like answers; kappa has a normal 95 % interval, and is None where both judges always say the
    same one thing, which leaves no agreement beyond chance to measure. Raises ValueError for no pairs.
    """
    if not pairs:
        raise ValueError("no pairs: no agreement to estimate")
    from statsmodels.stats.inter_rater import cohens_kappa

    table = np.zeros((2, 2), int)
    for first, second in pairs:
        table[int(first), int(second)] += 1
    n, same = len(pairs), float(np.trace(table) / len(pairs))
    found: dict[str, float | None] = {"n": n, "same": round(same, 6)}
    if n in table:
        return (
            {**found, "kappa": None, "low": None, "high": None} if same == 1 else {**found, **_kappa(0, 0, 0)}
        )
    result = cohens_kappa(table)
    return {**found, **_kappa(result.kappa, result.kappa_low, result.kappa_upp)}


def _kappa(kappa: float, low: float, high: float) -> dict[str, float]:
    return {
        "kappa": round(float(kappa), 6),
        "low": round(max(float(low), -1.0), 6),
        "high": round(min(float(high), 1.0), 6),
    }


def judged(records: dict[str, dict[str, Record]], out: Path) -> dict[str, Any]:
    """What judges answered of all arms' pictures, from the records of a task of generation.

    {"questions", "unanswered"}, and where there were two judges "second_unanswered" and "agreement": for all questions, for
    those about what is negated, asked for and the place, and for each question by itself. A picture that several arms
    share counts once there.

    Raises:
        RequestError: the judge answered no question at all.
    """
    every = [record for own in records.values() for record in own.values()]
    said = [answer for record in every for _, _, answer in _questions(record)]
    open_ones = sum(answer is None for answer in said)
    if said and open_ones == len(said):
        raise RequestError(
            f"the judge answered none of {len(said)} questions yes or no; is it the right one for these pictures?"
        )
    found = {"questions": len(said), "unanswered": open_ones}
    if any("second" not in record for record in every):
        return found
    other = [record["second"][label] for record in every for _, label, _ in _questions(record)]
    return {
        **found,
        "second_unanswered": sum(answer is None for answer in other),
        "agreement": _by_question(every, out),
    }


def _questions(record: Record) -> Iterator[tuple[str, str, bool | None]]:
    return ((kind, label, answer) for kind in _KINDS for label, answer in record[kind].items())


def _by_question(records: list[Record], out: Path) -> dict[str, dict[str, float | None]]:
    groups: dict[str, list[tuple[bool, bool]]] = {_ALL: [], **{kind: [] for kind in _KINDS}}
    counted = set()
    for record in records:
        picture = picture_key(pixels(out / record["image"]))
        for kind, label, first in _questions(record):
            second = record["second"][label]
            if None in (first, second) or (picture, kind, label) in counted:
                continue
            counted.add((picture, kind, label))
            for group in (_ALL, kind, question(label)):
                groups.setdefault(group, []).append((bool(first), bool(second)))
    return {name: agreement(pairs) for name, pairs in groups.items() if pairs}
