"""The training loop: epochs over negated captions, validation after each, the best kept, resumable bit for bit."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from torch import Tensor
from tqdm import tqdm

from negclip_core.errors import RequestError
from negclip_core.training import processes
from negclip_core.training.data import TrainingSet
from negclip_core.training.low_rank import merge_low_rank
from negclip_core.training.objectives import Situation
from negclip_core.training.recipe import Recipe
from negclip_core.training.run import Run
from negclip_core.training.states import States

__all__ = ["Outcome", "train"]

_CHECKPOINT_SECONDS = 60.0
_TOLD_STEPS = 10
_VALIDATED = 16  # batches
_PROBED = 2048  # captions


@dataclass(frozen=True)
class Outcome:
    """What a run gave. `weights` are the best epoch's, the whole CLIP's."""

    weights: dict[str, Tensor]
    low_rank: dict[str, Tensor]  # the updates by themselves, as diffusers names them, if such were trained
    best_epoch: int
    validation_loss: list[float]
    seconds: float
    samples_per_second: float


def _usable(data: TrainingSet, recipe: Recipe) -> Tensor:
    """Which rows a recipe may use, bool [rows]."""
    seen = data.image >= 0
    return seen & data.holds if recipe.rows == "absent" else seen


@torch.no_grad()
def _validate(run: Run, rows: Tensor) -> float:
    """Mean loss over the first `_VALIDATED` whole batches of rows, or what there is of one, with the same noise each time."""
    batch = run.recipe.batch_size
    whole = rows[: max(batch, len(rows) // batch * batch)][: batch * _VALIDATED]
    losses = []
    for number, part in enumerate(whole.split(batch)):
        torch.manual_seed(number)
        losses.append(float(run.loss(part)))
    return sum(losses) / len(losses)


@torch.no_grad()
def _negation_accuracy(run: Run, rows: Tensor) -> float:
    """The share of the first `_PROBED` rows whose true text is nearer to the image than its counterpart is."""
    right = []
    each = _PROBED // processes.count()
    for part in rows[: each * processes.count()].split(run.recipe.batch_size):
        now = Situation(run.student, run.teacher, run.data, part)
        margin = (now.true_texts() - now.false_texts()) * now.images
        right.append(margin.sum(1) > 0)
    return float(torch.cat(right).float().mean())


def train(
    model: CLIP,
    data: TrainingSet,
    rows: tuple[Tensor, Tensor],
    recipe: Recipe,
    *,
    checkpoint: Path,
    host: Any = None,
    ways: Tensor | None = None,
    made_of: Mapping[str, Any] | None = None,
    quiet: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda entry: None,
    begun: Callable[[int], None] = lambda step: None,
) -> Outcome:
    """Fine-tune the text side of `model`, in place.

    Args:
        rows: rows of `data` for training and for validation.
        checkpoint: where the run's state is kept (see `States`); if there is one the run goes on from it, to the same
            weights as if it had never stopped.
        host: what the objective `host_score` reads.
        ways: what `token_targets` goes along where it is told to go `through_host`, see `host_ways`.
        made_of: what the run is made of besides `recipe`, JSON values by name, such as the SHA-256 of the captions; a state
            that names others is refused.
        report: called after the first and every tenth step with {"step", "training_loss"}, of that step alone, and
            after each epoch with {"epoch", "step", "validation_loss", "negation_accuracy"}: the mean loss of the first 16
            batches of validation captions, and the share of the first 2,048 of them whose true text is nearer to the image
            than its counterpart is.
        begun: called once, before any `report`, with the number of steps that the run goes on after. What a run that
            was stopped had reported of later ones is reported again.

    Raises:
        RequestError: the checkpoint is of another run (the line says what differs), or there are fewer rows than one batch.
        UnfinishedWork: the loss is no longer a number, or the state cannot be written.
    """
    train_rows, validation_rows = (part[_usable(data, recipe)[part]] for part in rows)
    # So that each process has as many.
    validation_rows = validation_rows[: len(validation_rows) // processes.count() * processes.count()]
    if len(train_rows) < recipe.batch_size or not len(validation_rows):
        raise RequestError(
            f"{len(train_rows)} captions to train on and {len(validation_rows)} to validate on are too few for a "
            f"batch of {recipe.batch_size}; give more captions or a smaller --batch-size"
        )
    if recipe.batch_size % processes.count():
        raise RequestError(
            f"a batch of {recipe.batch_size} cannot be shared by {processes.count()} processes; choose a multiple"
        )
    run = Run(model, recipe, data, len(train_rows) // recipe.batch_size, host, ways, made_of)
    states = States(checkpoint, quiet)
    run.load(states)
    begun(run.step)
    _take_steps(run, train_rows, validation_rows, states, quiet, report)
    with torch.no_grad():
        for name, parameter in run.parameters.items():
            parameter.copy_(run.best[name])
    low_rank = merge_low_rank(model) if recipe.lora_rank else {}
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    speed = run.step * recipe.batch_size / run.seconds
    return Outcome(weights, low_rank, run.best_epoch, run.losses, run.seconds, speed)


def _take_steps(
    run: Run, rows: Tensor, validation_rows: Tensor, states: States, quiet: bool,
    report: Callable[[dict[str, Any]], None],
) -> None:  # fmt: skip
    """All steps that the run has not taken yet; its state is saved every minute and at the end."""
    recipe, per_epoch = run.recipe, run.per_epoch
    saved_at = started = time.monotonic()
    bar = tqdm(total=run.total, initial=run.step, desc="training", unit="step", disable=quiet or not processes.is_first(),
               mininterval=2)  # fmt: skip
    order = None
    while not run.is_over:
        within = run.step % per_epoch
        if order is None or not within:
            order = _order(run, len(rows))
        loss = run.take_step(rows[order[within * recipe.batch_size : (within + 1) * recipe.batch_size]])
        bar.update()
        if run.step == 1 or run.step % _TOLD_STEPS == 0:
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            report({"step": run.step, "training_loss": loss})
        if run.step % per_epoch == 0:
            _end_epoch(run, validation_rows, report)
        now = time.monotonic()
        if now - saved_at > _CHECKPOINT_SECONDS or run.step == per_epoch or run.is_over:
            run.seconds += now - started
            started = saved_at = now
            run.save(states)
    bar.close()


def _order(run: Run, count: int) -> Tensor:
    """The order of the rows in the epoch that the next step belongs to."""
    epoch = run.step // run.per_epoch
    return torch.randperm(count, generator=torch.Generator().manual_seed(run.recipe.seed * 10_007 + epoch))


def _end_epoch(run: Run, rows: Tensor, report: Callable[[dict[str, Any]], None]) -> None:
    run.losses.append(_validate(run, rows))
    if run.losses[-1] <= min(run.losses):
        run.best = {name: parameter.detach().clone() for name, parameter in run.parameters.items()}
    accuracy = _negation_accuracy(run, rows)
    report(
        {
            "epoch": len(run.losses),
            "step": run.step,
            "validation_loss": run.losses[-1],
            "negation_accuracy": accuracy,
        }
    )
