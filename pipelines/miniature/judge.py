"""Train the miniature's judge on drawings, spoiled as generated pictures are, and measure what it can be trusted with."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from eval.judges.labels import LabelFile
from eval.judges.miniature import LABELS, JudgeNetwork, MiniatureJudge, scene_labels, thing_labels
from negclip_core.errors import RequestError
from negclip_core.files import atomic_write_json
from negclip_core.images import open_image
from negclip_core.precision import mixed_precision
from negclip_core.training.fit import fit
from negclip_core.world.catalog import ATTRIBUTES
from negclip_core.world.scenes import Scene
from pipelines.miniature.data import Pictures, pictures
from pipelines.miniature.degrade import photometric, spoil
from pipelines.miniature.labels import MOST_THINGS

__all__ = ["against_people", "build"]

_DRAWN = (30_000, 4_000, 4_000)  # pictures to train on, to choose thresholds on and to measure on
_INDEX = {label: i for i, label in enumerate(LABELS)}
# Less of a thing than the first is not there, more than the second is; in between the judge may say what it likes.
_GONE, _THERE = 0.15, 0.5
_GHOST_SEEN = 0.15
_ALIKE = 0.002  # F1s this close are the same
_WORN = torch.tensor([" with " in label or label in ATTRIBUTES for label in LABELS])


def _thing_table(scenes: list[Scene]) -> tuple[Tensor, Tensor]:
    """bool [n, things, labels] of every thing, and bool [n, labels] of the place."""
    things = torch.zeros(len(scenes), MOST_THINGS, len(LABELS), dtype=torch.bool)
    places = torch.zeros(len(scenes), len(LABELS), dtype=torch.bool)
    for row, scene in enumerate(scenes):
        places[row, _INDEX[scene.place]] = True
        for slot, thing in enumerate(scene.things[:MOST_THINGS]):
            things[row, slot, [_INDEX[label] for label in thing_labels(thing)]] = True
    return things, places


def _areas(instances: Tensor) -> Tensor:
    """Share of each 8 x 8 cell that each thing covers: [n, things, h / 8, w / 8]."""
    slots = torch.arange(1, MOST_THINGS + 1, dtype=torch.uint8)[None, :, None, None]
    return F.avg_pool2d((instances[:, None] == slots).float(), 8)


def _targets(
    things: Tensor, place: Tensor, before: Tensor, after: Tensor, ghost: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What to say of spoiled pictures: presence [n, labels], its weight [n, labels], cells [n, labels, 8, 8].

    `before` and `after` [n, things, 8, 8] are the areas of the things in the drawing and in the spoiled picture.
    """
    total = before.sum((2, 3))
    seen = (after.sum((2, 3)) / total.clamp(min=1e-6))[..., None].expand(things.shape)
    # Of somebody partly covered, nobody knows whether the hat was under the cover.
    enough = torch.where(_WORN, 0.9, _THERE)
    present = (things & (seen >= enough)).any(1) | place
    doubtful = (things & (seen >= torch.where(_WORN, 0.0, _GONE))).any(1)
    doubtful |= things.any(1).roll(1, 0) & (ghost > _GHOST_SEEN)[:, None]
    weight = 1.0 - (doubtful & ~present).float()
    cells = torch.einsum("ntl,nthw->nlhw", things.float(), after).clamp(max=1)
    cells = torch.maximum(cells, place.float()[:, :, None, None])
    return present.float(), weight, cells


def build(
    out_dir: Path,
    steps: int = 3_000,
    seed: int = 0,
    progress: bool = True,
    *,
    store: Path | None = None,
    batch: int = 64,
    drawn: tuple[int, int, int] = _DRAWN,
) -> dict[str, Any]:
    """Train the judge, or go on training it, and write it with its figures to `out_dir`.

    Writes config.json, model.safetensors and figures.json; the checkpoint and, unless `store` says where they are,
    the drawings are kept in `out_dir`/training. Returns the figures.
    """
    work = out_dir / "training"
    store = store or work / "pictures"
    data = pictures(store, "train", drawn[0], quiet=not progress)
    torch.manual_seed(seed)
    network = JudgeNetwork(len(LABELS)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _train(network, data, work / f"judge-{seed}-{steps}.ckpt", steps, seed, batch, progress)
    judge = MiniatureJudge(network, LABELS, dict.fromkeys(LABELS, 0.5))
    judge.thresholds = _thresholds(judge, pictures(store, "validation", drawn[1], quiet=not progress))
    judge.save(out_dir)
    figures = _figures(MiniatureJudge.load(out_dir), pictures(store, "test", drawn[2], quiet=not progress))
    figures["training"] = {"pictures": drawn[0], "steps": steps, "batch": batch, "seed": seed}
    atomic_write_json(out_dir / "figures.json", figures)
    return figures


def _train(
    network: JudgeNetwork, data: Pictures, checkpoint: Path, steps: int, seed: int, batch: int, progress: bool
) -> None:
    things, places = _thing_table(data.scenes())
    images, instances = torch.from_numpy(data.images), torch.from_numpy(data.instances)
    # What is rare counts for more when it is there, or its label is learned last ("red ball": one picture in 33).
    rarity = (things.any(1) | places).float().mean(0).clamp(min=0.01).rsqrt()

    def losses(_: int) -> dict[str, Tensor]:
        rows = torch.randint(len(images), (batch,))
        spoiled = spoil(images[rows], instances[rows])
        before, after = _areas(instances[rows]), _areas(spoiled.instances)
        present, weight, cells = _targets(things[rows], places[rows], before, after, spoiled.ghost)
        # Half precision doubles the speed on a CPU that has it.
        with mixed_precision():
            logits, seen = network(spoiled.pixels)
        return {
            "presence": F.binary_cross_entropy_with_logits(logits, present, weight, pos_weight=rarity) * 4,
            "cells": F.binary_cross_entropy_with_logits(seen, cells, pos_weight=rarity[:, None, None]) * 4,
        }

    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.02)
    fit(
        "judge",
        {"network": network},
        [optimizer],
        losses,
        steps=steps,
        seed=seed,
        checkpoint=checkpoint,
        quiet=not progress,
    )
    network.eval()


def _truth(scenes: list[Scene]) -> dict[str, np.ndarray]:
    known = [scene_labels(scene) for scene in scenes]
    return {label: np.array([label in labels for labels in known]) for label in LABELS}


def _degraded(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """The same pictures, uint8, blurred and discoloured; nothing moved, covered or blended."""
    torch.manual_seed(seed)
    parts = torch.from_numpy(images).permute(0, 3, 1, 2).split(64)
    pixels = torch.cat([photometric(part.float().div(255)) for part in parts]).clamp(0, 1)
    return pixels.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def _thresholds(judge: MiniatureJudge, data: Pictures) -> dict[str, float]:
    """For each label the threshold of the best F1, clean and degraded drawings together.

    F1 as if half the pictures showed the thing: a generated picture's odds are not the drawn world's.
    """
    truth = _truth(data.scenes())
    clean, degraded = judge.presence(data.images), judge.presence(_degraded(data.images))
    grid = np.linspace(0.02, 0.98, 97)
    chosen = {}
    for label, true in truth.items():
        p = np.concatenate([clean[label], degraded[label]])
        is_there = np.concatenate([true, true])
        hit = (p[is_there][:, None] >= grid).sum(0) / max(1, is_there.sum())
        false = (p[~is_there][:, None] >= grid).sum(0) / max(1, (~is_there).sum())
        f1 = 2 * hit / (hit + false + 1)
        # Of thresholds that do equally well on drawings, the middle one leaves most room on both sides.
        chosen[label] = round(float(np.median(grid[f1 >= f1.max() - _ALIKE])), 3)
    return chosen


def _precision_recall(verdict: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    hits = int((verdict & true).sum())
    return {
        "precision": round(hits / max(1, int(verdict.sum())), 4),
        "recall": round(hits / max(1, int(true.sum())), 4),
        "false_alarms": round(int((verdict & ~true).sum()) / max(1, int((~true).sum())), 4),
        "present": int(true.sum()),
        "n": len(true),
    }


def _figures(judge: MiniatureJudge, data: Pictures) -> dict[str, Any]:
    """Precision, recall and share of false alarms of every label on drawings that took no part in training."""
    truth = _truth(data.scenes())
    figures: dict[str, Any] = {}
    for name, images in (("clean", data.images), ("degraded", _degraded(data.images, seed=1))):
        verdicts = judge.decide(images)
        figures[name] = {label: _precision_recall(verdicts[label], truth[label]) for label in LABELS}
    return figures


def against_people(labels: Path, judge: MiniatureJudge) -> dict[str, Any]:
    """Precision and recall of `judge` against what a person saw, each picture of the file `labels` counted once.

    What the person left open is not counted.

    Raises:
        RequestError: as `LabelFile.read`; or nothing was answered, the pictures differ in size, or the judge does not know
            a label.
    """
    file = LabelFile.read(labels)
    answers = [
        {label: there for label, there in file.answers[key].items() if there is not None}
        for key in file.images
    ]
    if not any(answers):
        raise RequestError(f"{labels}: nobody answered anything")
    if unknown := {label for answer in answers for label in answer} - set(judge.labels):
        raise RequestError(f"{labels}: labels that the judge does not know: {', '.join(sorted(unknown))}")
    images = [np.asarray(open_image(labels.parent / name)) for name in file.images.values()]
    if len(sizes := {image.shape[:2] for image in images}) > 1:
        raise RequestError(
            f"{labels}: expected pictures of one size, got {', '.join(map(str, sorted(sizes)))}"
        )
    verdicts = judge.decide(np.stack(images))
    table: dict[str, Any] = {}
    for label in sorted({label for answer in answers for label in answer}):
        rows = [row for row, answer in enumerate(answers) if label in answer]
        table[label] = _precision_recall(
            verdicts[label][rows], np.array([answers[row][label] for row in rows])
        )
    every = [
        (verdicts[label][row], value) for row, answer in enumerate(answers) for label, value in answer.items()
    ]
    verdict, true = (np.array(column, dtype=bool) for column in zip(*every, strict=True))
    return {"all": _precision_recall(verdict, true), "labels": table}
