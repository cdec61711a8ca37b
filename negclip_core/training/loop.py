"""The training loop: epochs over negated captions, validation after each, the best kept, resumable bit for bit."""

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from torch import Tensor
from tqdm import tqdm

from negclip_core.errors import RequestError, UnfinishedWork
from negclip_core.files import atomic_path
from negclip_core.precision import mixed_precision
from negclip_core.training.data import TrainingSet
from negclip_core.training.objectives import Situation, create
from negclip_core.training.recipe import Recipe

__all__ = ["Outcome", "trained_parameters", "train"]

_CHECKPOINT_SECONDS = 60.0
_WARM_UP_STEPS = 50


@dataclass(frozen=True)
class Outcome:
    """What a run gave. `weights` are the best epoch's, the whole CLIP's."""

    weights: dict[str, Tensor]
    best_epoch: int
    validation_loss: list[float]
    seconds: float
    samples_per_second: float


def trained_parameters(model: CLIP) -> dict[str, Tensor]:
    """The paper's choice: the text side without its final layer norm, the projection and the logit scale."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if not name.startswith(("visual.", "ln_final."))
    }


def _without_every(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "every"}


class _Run:
    """One run's state: what a checkpoint holds."""

    def __init__(self, model: CLIP, recipe: Recipe, data: TrainingSet, host: Any, per_epoch: int) -> None:
        self.teacher = copy.deepcopy(model).requires_grad_(False).eval()
        self.student = model.requires_grad_(False)
        self.parameters = trained_parameters(model)
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        self.recipe, self.data, self.host = recipe, data, host
        self.objectives = [
            (entry.get("every", 1), create(_without_every(entry))) for entry in recipe.objectives
        ]
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=recipe.learning_rate)
        self.step, self.seconds = 0, 0.0
        self.per_epoch, self.total = per_epoch, per_epoch * recipe.epochs
        self.losses: list[float] = []
        self.best = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def loss(self, rows: Tensor, step: int = 0) -> Tensor:
        """The sum of the objectives that are due at a step; all of them are at step 0."""
        now = Situation(self.student, self.teacher, self.data, rows, self.host)
        with mixed_precision(self.recipe.bf16):
            due = [objective(now) for every, objective in self.objectives if step % every == 0]
        return torch.stack(due).sum()

    def rate(self) -> float:
        """The share of the learning rate at this step."""
        warm = min(1.0, (self.step + 1) / _WARM_UP_STEPS)
        return warm * (1 + math.cos(math.pi * self.step / self.total)) / 2 if self.recipe.decay else warm

    def take_step(self, rows: Tensor) -> float:
        """One optimizer step on the rows; returns the loss. Raises UnfinishedWork if that is no number any more."""
        # All that is random in a step follows from its number, so that a resumed run repeats it.
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * self.rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(rows, self.step)
        if not torch.isfinite(loss):
            raise UnfinishedWork(f"the loss became {float(loss)} at step {self.step}; lower --learning-rate")
        loss.backward()
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())

    def save(self, path: Path) -> None:
        parts = {name: p.detach() for name, p in self.parameters.items()}
        state = {"step": self.step, "seconds": self.seconds, "losses": self.losses, "best": self.best,
                 "parameters": parts, "optimizer": self.optimizer.state_dict(),
                 "recipe": json.dumps(asdict(self.recipe), sort_keys=True)}  # fmt: skip
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        if state["recipe"] != json.dumps(asdict(self.recipe), sort_keys=True):
            raise RequestError(
                f"{path}: belongs to a run with other settings; give another --out, or delete it to start anew"
            )
        self.step, self.seconds, self.losses = state["step"], state["seconds"], state["losses"]
        self.best = state["best"]
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state["parameters"][name])
        self.optimizer.load_state_dict(state["optimizer"])


@torch.no_grad()
def _validate(run: _Run, rows: Tensor) -> float:
    """Mean loss over validation rows, in the same batches and with the same noise each time."""
    batch = run.recipe.batch_size
    whole = rows[: max(batch, len(rows) // batch * batch)][: batch * 16]
    losses = []
    for number, part in enumerate(whole.split(batch)):
        torch.manual_seed(number)
        losses.append(float(run.loss(part)))
    return sum(losses) / len(losses)


def train(
    model: CLIP,
    data: TrainingSet,
    rows: tuple[Tensor, Tensor],
    recipe: Recipe,
    *,
    checkpoint: Path,
    host: Any = None,
    quiet: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda entry: None,
) -> Outcome:
    """Fine-tune the text side of `model`, in place.

    Args:
        rows: rows of `data` for training and for validation.
        checkpoint: where the run's state is kept; if it exists the run goes on from it, to the same weights as if it
            had never stopped.
        host: what the objective `host_score` reads.
        report: called after each epoch with {"epoch", "validation_loss", ...}.

    Raises:
        RequestError: the checkpoint is of another run, or there are fewer rows than one batch.
        UnfinishedWork: the loss is no longer a number.
    """
    train_rows, validation_rows = rows
    if recipe.rows == "absent":
        train_rows, validation_rows = (part[data.holds[part]] for part in rows)
    if len(train_rows) < recipe.batch_size or not len(validation_rows):
        raise RequestError(
            f"{len(train_rows)} captions to train on and {len(validation_rows)} to validate on are too few for a "
            f"batch of {recipe.batch_size}; give more captions or a smaller --batch-size"
        )
    run = _Run(model, recipe, data, host, len(train_rows) // recipe.batch_size)
    if checkpoint.exists():
        run.load(checkpoint)
    _take_steps(run, train_rows, validation_rows, checkpoint, quiet, report)
    with torch.no_grad():
        for name, parameter in run.parameters.items():
            parameter.copy_(run.best[name])
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    best = min(range(len(run.losses)), key=run.losses.__getitem__)
    return Outcome(weights, best + 1, run.losses, run.seconds, run.step * recipe.batch_size / run.seconds)


def _take_steps(
    run: _Run, rows: Tensor, validation_rows: Tensor, checkpoint: Path, quiet: bool,
    report: Callable[[dict[str, Any]], None],
) -> None:  # fmt: skip
    """All steps that the run has not taken yet; its state is saved every minute and at the end."""
    recipe = run.recipe
    per_epoch, total = run.per_epoch, run.total
    saved_at = started = time.monotonic()
    bar = tqdm(total=total, initial=run.step, desc="training", unit="step", disable=quiet, mininterval=2)
    while run.step < total:
        epoch, within = divmod(run.step, per_epoch)
        order = torch.randperm(
            len(rows), generator=torch.Generator().manual_seed(recipe.seed * 10_007 + epoch)
        )
        loss = run.take_step(rows[order[within * recipe.batch_size : (within + 1) * recipe.batch_size]])
        bar.update()
        if run.step % 10 == 0:
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        if run.step % per_epoch == 0:
            _end_epoch(run, validation_rows, report)
        now = time.monotonic()
        if now - saved_at > _CHECKPOINT_SECONDS or run.step in (total, per_epoch):
            run.seconds += now - started
            started = saved_at = now
            run.save(checkpoint)
    bar.close()


def _end_epoch(run: _Run, rows: Tensor, report: Callable[[dict[str, Any]], None]) -> None:
    run.losses.append(_validate(run, rows))
    if run.losses[-1] <= min(run.losses):
        run.best = {name: parameter.detach().clone() for name, parameter in run.parameters.items()}
    report({"epoch": len(run.losses), "step": run.step, "validation_loss": run.losses[-1]})
