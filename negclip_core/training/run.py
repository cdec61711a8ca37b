"""One training run: what is trained, one step of it, and its state on disk."""

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any

import torch
from open_clip.model import CLIP
from torch import Tensor, nn

from negclip_core.errors import UnfinishedWork
from negclip_core.precision import mixed_precision
from negclip_core.training import processes
from negclip_core.training.data import TrainingSet
from negclip_core.training.low_rank import add_low_rank, is_low_rank
from negclip_core.training.muon import Muon
from negclip_core.training.objectives import Situation, create_all
from negclip_core.training.recipe import Recipe
from negclip_core.training.states import States

__all__ = ["Run"]


class Run:
    """A student and its frozen teacher, the optimizers, and how far it has got: what a checkpoint holds."""

    def __init__(
        self, model: CLIP, recipe: Recipe, data: TrainingSet, per_epoch: int, host: Any = None,
        ways: Tensor | None = None, made_of: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.recipe, self.data, self.host, self.ways = recipe, data, host, ways
        self.made_of = {"training": "text tower", **(made_of or {})}
        self.student = model.requires_grad_(False)
        # Both share the image tower: nothing of it is trained, and it is most of a CLIP.
        self.teacher = copy.deepcopy(model, {id(model.visual): model.visual}).eval()
        if recipe.lora_rank:
            torch.manual_seed(recipe.seed)
            add_low_rank(model, recipe.lora_rank)
        self.parameters = {name: p for name, p in model.named_parameters() if self._trained(name)}
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        self.objectives = create_all(recipe.objectives)
        self.optimizers = _optimizers(self.parameters, recipe)
        self.rates = [optimizer.defaults["lr"] for optimizer in self.optimizers.values()]
        self.step, self.seconds = 0, 0.0
        self.per_epoch, self.total = per_epoch, per_epoch * recipe.epochs
        self.losses: list[float] = []
        self.best = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def _trained(self, name: str) -> bool:
        return is_low_rank(name) if self.recipe.lora_rank else not name.startswith(self.recipe.frozen)

    def loss(self, rows: Tensor, step: int = 0) -> Tensor:
        """The sum of the objectives that are due at a step; all of them are at step 0."""
        now = Situation(self.student, self.teacher, self.data, rows, self.host, self.ways)
        with mixed_precision(self.recipe.bf16, self.data.device):
            due = [objective(now) for every, objective in self.objectives if step % every == 0]
        return torch.stack(due).sum()

    def rate(self) -> float:
        """The share of the learning rate at this step."""
        warm = min(1.0, (self.step + 1) / max(1, self.recipe.warm_up))
        return warm * (1 + math.cos(math.pi * self.step / self.total)) / 2 if self.recipe.decay else warm

    def take_step(self, rows: Tensor) -> float:
        """One optimizer step on the rows; returns the loss. Raises UnfinishedWork if that is no number any more."""
        # All that is random in a step follows from its number, so that a resumed run repeats it.
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)
        for optimizer, rate in zip(self.optimizers.values(), self.rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * self.rate()
            optimizer.zero_grad(set_to_none=True)
        loss = self.loss(rows, self.step)
        if loss.requires_grad:  # not where nothing of these rows concerns the objectives that are due
            loss.backward()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise UnfinishedWork(f"the loss became {value} at step {self.step}; lower --learning-rate")
        processes.average_gradients(self.parameters.values())
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.step += 1
        return value

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are `best`, counted from 1; the last of several as good. 0 before the first ends."""
        return len(self.losses) - self.losses[::-1].index(min(self.losses)) if self.losses else 0

    @property
    def is_over(self) -> bool:
        """Whether all steps are taken, or the recipe's patience has run out."""
        patience = self.recipe.patience
        return self.step >= self.total or 0 < patience <= len(self.losses) - self.best_epoch

    def save(self, states: States) -> None:
        """Write the state, whole or not at all."""
        parts = {name: p.detach() for name, p in self.parameters.items()}
        states.save(
            {"step": self.step, "seconds": self.seconds, "losses": self.losses, "best": self.best,
             "parameters": parts, **{name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
             "recipe": json.dumps(asdict(self.recipe), sort_keys=True), "made_of": json.dumps(self.made_of)}
        )  # fmt: skip

    def load(self, states: States) -> None:
        """Go on from the newest state, if there is one. Raises RequestError where that is of a run of other things."""
        state = states.load()
        if state is None:
            return
        with states.put_to_use():
            states.check(json.loads(state.get("made_of", "{}")), self.made_of)
            states.check(_settings(state["recipe"]), asdict(self.recipe))
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
            self.losses = [float(loss) for loss in state["losses"]]
            self.best = {
                name: state["best"][name].view_as(p).to(p.device) for name, p in self.parameters.items()
            }
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(state["parameters"][name])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state[name])


def _optimizers(parameters: Mapping[str, nn.Parameter], recipe: Recipe) -> dict[str, torch.optim.Optimizer]:
    """AdamW, and Muon for the matrices of the blocks where the recipe has it, by their names in a state."""
    matrices = {
        name: p for name, p in parameters.items() if recipe.muon_rate and "resblocks." in name and p.ndim == 2
    }
    others = [p for name, p in parameters.items() if name not in matrices]
    found: dict[str, torch.optim.Optimizer] = {}
    if others:
        found["optimizer"] = torch.optim.AdamW(others, lr=recipe.learning_rate, fused=True)
    if matrices:
        # Weights that decay would leave vanilla's for nothing.
        found["muon"] = Muon(matrices.values(), lr=recipe.muon_rate, weight_decay=0.0)
    return found


def _settings(recipe: str) -> dict[str, Any]:
    """A recipe's settings from JSON; one that is newer than the run they are of counts as left at its default."""
    known = {each.name: each.default for each in fields(Recipe) if each.default is not MISSING}
    return {**json.loads(json.dumps(known)), **json.loads(recipe)}
