"""Hold the masks of an arm against the true ones: the run and the measures that tasks of segmentation share.

mIoU is the mean over expressions that mean something, cIoU all intersections over all unions; gIoU, N-acc and T-acc
are gRefCOCO's (Liu et al. 2023, "GRES", section 5.1), where an empty mask for an expression that means nothing counts
as 1, and any other as 0.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from eval.choice import refuse_nan
from eval.options import Options
from eval.refer_files import Referred, truth
from eval.registry import Record, Values
from integrations.referring import Finder
from negclip_core.errors import RequestError
from negclip_core.images import open_image

__all__ = ["measure", "run"]

_PRECISIONS = (0.5, 0.6, 0.7, 0.8, 0.9)


def run(items: list[Referred], done: set[str], subject: Finder, options: Options) -> Iterator[list[Record]]:
    """Find what each expression means, an image at a time, so that it is encoded once for all its expressions."""
    order = {path: row for row, path in enumerate(dict.fromkeys(item.image for item in items))}
    with subject.reading():
        for path, group in groupby(
            sorted(items, key=lambda item: order[item.image]), lambda item: item.image
        ):
            mine = list(group)
            if done.issuperset(item.id for item in mine):
                continue
            image = open_image(path)
            if image.size != mine[0].size[::-1]:
                raise RequestError(
                    f"{path}: is {image.width} x {image.height} pixels, but its annotations say "
                    f"{mine[0].size[1]} x {mine[0].size[0]}"
                )
            found = subject.find(image, [item.expression for item in mine])
            records = []
            for item, (mask, score) in zip(mine, found, strict=True):
                refuse_nan(np.array([score]), subject.name, item.id)
                records.append(_record(item, mask, score))
            yield records


def _record(item: Referred, mask: np.ndarray, score: float) -> Record:
    true = truth(item)
    intersection, union = int((mask & true).sum()), int((mask | true).sum())
    return {
        "id": item.id, "expression": item.expression, "family": item.family, "negated": item.negated,
        "nothing": not item.shapes, "empty": not mask.any(), "score": score,
        "intersection": intersection, "union": union, "iou": intersection / union if union else 1.0,
    }  # fmt: skip


def measure(records: list[Record], reference: list[Record], out: Path) -> Values:
    """Units are expressions. What is measured on expressions that mean something leaves the others out."""
    something = [r for r in records if not r["nothing"]]
    nothing = [r for r in records if r["nothing"]]
    values: Values = {"miou": _ious(something)}
    for name, negated in (("negated", True), ("affirmative", False)):
        values[f"miou:{name}"] = _ious([r for r in something if r["negated"] == negated])
    for family in dict.fromkeys(r["family"] for r in something):
        # Families of the file's own may hold both kinds, as "attribute" does: told apart.
        for name, negated in (("negated", True), ("affirmative", False)):
            own = [r for r in something if r["family"] == family and r["negated"] == negated]
            if family != name and own:
                values[f"miou:{name}:{family}"] = _ious(own)
    values["ciou"] = _cumulative(something)
    for least in _PRECISIONS:
        values[f"precision@{least}"] = {r["id"]: float(r["iou"] >= least) for r in something}
    if nothing:
        values |= _nothing(records, something, nothing)
    return values


def _ious(records: list[Record]) -> dict[str, float]:
    return {r["id"]: r["iou"] for r in records}


def _cumulative(records: list[Record]) -> dict[str, float]:
    """Values whose mean is sum(intersections) / sum(unions), and whose spread is that of this ratio (delta method)."""
    unions = sum(r["union"] for r in records)
    if not unions:
        return {}
    ratio = sum(r["intersection"] for r in records) / unions
    mean = unions / len(records)
    return {r["id"]: ratio + (r["intersection"] - ratio * r["union"]) / mean for r in records}


def _nothing(records: list[Record], something: list[Record], nothing: list[Record]) -> Values:
    values: Values = {
        "giou": {r["id"]: r["iou"] for r in records},
        "n-acc": {r["id"]: float(r["empty"]) for r in nothing},
        "t-acc": {r["id"]: float(not r["empty"]) for r in something},
    }
    for name, negated in (("affirmative", False), ("negated", True)):
        there = {r["id"]: r["score"] for r in something if r["negated"] == negated}
        missing = {r["id"]: r["score"] for r in nothing if r["negated"] == negated}
        if there and missing:
            values[f"auroc:{name}"] = _auroc(there, missing)
    return values


def _auroc(there: dict[str, float], missing: dict[str, float]) -> dict[str, float]:
    """Values whose mean is the area under the ROC curve, and whose spread is that of both samples (DeLong et al. 1988).

    The area is the mean over what is there of the share of what is not that scores lower, ties counting half (Hanley &
    McNeil 1982), and so it is seen from the other side.
    """
    ours, others = (np.array(list(scores.values())) for scores in (there, missing))
    of_there, of_missing = _below(ours, others), 1 - _below(others, ours)
    area, n = of_there.mean(), len(ours) + len(others)
    values: dict[str, float] = {}
    for scores, shares in ((there, of_there), (missing, of_missing)):
        values |= dict(zip(scores, (area + n / len(shares) * (shares - area)).tolist(), strict=True))
    return values


def _below(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of each score, the share of the others that are lower, ties counting half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, scores) + np.searchsorted(ordered, scores, "right")) / (2 * len(others))
