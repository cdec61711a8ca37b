"""A training loop for any loss: seeded by step, checkpointed, resumable bit for bit. The miniature and decoders share it."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from negclip_core.files import atomic_path
from negclip_core.training.states import States

__all__ = ["Average", "cosine", "fit", "kept"]

_CHECKPOINT_SECONDS = 60.0


class Average:
    """Exponential moving average of a module's parameters (the weights that are shipped)."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay = module, decay
        self.values = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the current parameters; early steps average over fewer, so that the start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(self.module.named_parameters())
        torch._foreach_lerp_(
            list(self.values.values()), [parameters[name] for name in self.values], 1 - decay
        )

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Write the averages into `module`."""
        for name, parameter in module.named_parameters():
            parameter.copy_(self.values[name])


def cosine(step: int, steps: int, warm_up: int = 100, floor: float = 0.02) -> float:
    """Learning-rate factor in [0, 1]: linear warm-up, then half a cosine down to `floor`."""
    import math

    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def kept(path: Path, make: Callable[[], Tensor]) -> Tensor:
    """The tensor in `path`, made and written there first if it is not: what a resumed part need not compute again."""
    if not path.exists():
        with atomic_path(path) as temporary:
            save_file({"value": make()}, temporary)
    return load_file(path)["value"]


def _state(
    made_of: Mapping[str, Any],
    modules: Mapping[str, nn.Module],
    optimizers: Iterable[torch.optim.Optimizer],
    average: Average | None,
) -> dict[str, Any]:
    return {
        "made_of": json.dumps(made_of),
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "average": average.values if average else {},
    }


def _go_on(
    state: dict[str, Any],
    modules: Mapping[str, nn.Module],
    optimizers: Iterable[torch.optim.Optimizer],
    average: Average | None,
    steps: int,
) -> int:
    """Put a state into what is trained; how many of the steps it has taken."""
    taken = int(state["step"])
    if not 0 <= taken <= steps:
        raise ValueError(f"it has taken {taken} of {steps} steps")
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    if average:
        average.values = state["average"]
    return taken


def fit(
    name: str,
    modules: Mapping[str, nn.Module],
    optimizers: list[torch.optim.Optimizer],
    step_losses: Callable[[int], dict[str, Tensor]],
    *,
    steps: int,
    checkpoint: Path,
    seed: int = 0,
    made_of: Mapping[str, Any] | None = None,
    average: Average | None = None,
    schedule: Callable[[int, int], float] = cosine,
    quiet: bool = False,
) -> None:
    """Take `steps` optimizer steps on the sum of the losses that `step_losses(step)` returns.

    Everything random in a step must come from torch's generator, which is seeded from `seed` and the step, so that
    a run resumed from `checkpoint` equals one that was never interrupted. That is refused where the state is of another
    `name`, number of steps or seed, or of a run that was made of other things: `made_of`, JSON values by name.

    Raises:
        RequestError: the state in `checkpoint` is of another run; the line says what differs.
        UnfinishedWork: the state cannot be written.
    """
    about = {"training": name, "steps": steps, "seed": seed, **(made_of or {})}
    states = States(checkpoint, quiet)
    start = 0
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    if (state := states.load()) is not None:
        with states.put_to_use():
            states.check(json.loads(state.get("made_of", "{}")), about)
            start = _go_on(state, modules, optimizers, average, steps)

    saved_at = time.monotonic()
    bar = tqdm(range(start, steps), initial=start, total=steps, desc=name, disable=quiet, mininterval=5)
    shown: dict[str, float] = {}
    for step in bar:
        torch.manual_seed(seed * 1_000_003 + step)
        for optimizer, base in zip(optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = rate * schedule(step, steps)
            optimizer.zero_grad(set_to_none=True)
        losses = step_losses(step)
        torch.stack(list(losses.values())).sum().backward()
        for module in modules.values():
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if average:
            average.update(step)
        if step % 20 == 0:
            for key, value in losses.items():
                shown[key] = 0.8 * shown.get(key, float(value.detach())) + 0.2 * float(value.detach())
            bar.set_postfix({key: f"{value:.4f}" for key, value in shown.items()}, refresh=False)
        if time.monotonic() - saved_at > _CHECKPOINT_SECONDS:
            states.save({"step": step + 1, **_state(about, modules, optimizers, average)})
            saved_at = time.monotonic()
    if start < steps:
        states.save({"step": steps, **_state(about, modules, optimizers, average)})
