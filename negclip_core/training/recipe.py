"""A recipe says how a text tower is trained: objectives, rows, optimizer settings. Recipes are files (`recipes/`)."""

import json
import math
from dataclasses import MISSING, dataclass, fields
from importlib.resources import files
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args

from negclip_core.errors import RequestError

__all__ = ["Recipe", "is_a", "load_recipe", "recipe_names"]


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run."""

    about: str
    objectives: tuple[dict[str, Any], ...]  # settings by name; "every": n computes one at each n-th step only
    learning_rate: float  # AdamW's
    batch_size: int  # captions a step
    epochs: int
    rows: str = "absent"  # "absent": images that lack the thing; "all": also those that hold it
    seed: int = 0
    split: str = "image"  # see `data.split_rows`
    bf16: bool = False  # on processors that are faster with it
    warm_up: int = 0  # steps in which the learning rate rises to its full
    decay: bool = False  # the learning rate falls to zero along half a cosine; else it stays
    patience: int = 0  # epochs without a better validation loss after which a run ends; 0: all epochs are run
    muon_rate: float = (
        0.0  # the learning rate of Muon on the matrices of the blocks; 0: AdamW on these as well
    )
    lora_rank: int = 0  # train updates of this rank of the text tower's matrices, and nothing else
    frozen: tuple[str, ...] = ("visual.", "ln_final.")  # how parameters' names begin; the paper's choice

    def asks_host(self) -> bool:
        """Whether an objective asks a diffusion host at its steps."""
        return any(objective["name"] == "host_score" for objective in self.objectives)

    def needs_host_ways(self) -> bool:
        """Whether an objective goes along ways that are found through a diffusion host beforehand."""
        return any(objective.get("through_host", False) for objective in self.objectives)


_RANGES: dict[str, tuple[float, float]] = {
    "learning_rate": (0, 1e3), "muon_rate": (0, 1e3), "batch_size": (1, 2**24), "epochs": (1, 10**6), "seed": (0, 2**31), "warm_up": (0, 10**9),
    "patience": (0, 10**6), "lora_rank": (0, 2**16),
}  # fmt: skip
_CHOICES = {"rows": ("absent", "all"), "split": ("image", "caption")}


def _folder() -> Path:
    return Path(str(files(__package__).joinpath("recipes")))


def recipe_names() -> list[str]:
    """The recipes there are."""
    return sorted(path.stem for path in _folder().glob("*.json"))


def load_recipe(name: str, **changes: Any) -> Recipe:
    """A recipe by name or file, with `changes` to its settings where they are not None.

    Raises:
        RequestError: no such recipe, or a setting that recipes do not have, or of a value that it cannot have.
    """
    path = _folder() / f"{name}.json" if name in recipe_names() else Path(name)
    try:
        settings = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(
            f"recipe {name!r} cannot be read; there are: {', '.join(recipe_names())}"
        ) from error
    if not isinstance(settings, dict):
        raise RequestError(f"recipe {name!r}: expected a JSON object of settings")
    settings |= {key: value for key, value in changes.items() if value is not None}
    known = {field.name for field in fields(Recipe)}
    if unknown := sorted(settings.keys() - known):
        raise RequestError(
            f"recipe {name!r}: no setting {unknown[0]!r}; there are: {', '.join(sorted(known))}"
        )
    _check(f"recipe {name!r}", settings)
    for part in ("objectives", "frozen"):
        if part in settings:
            settings[part] = tuple(settings[part])
    return Recipe(**settings)


def _check(recipe: str, settings: dict[str, Any]) -> None:
    """Raise RequestError where a setting is missing or has a value that it cannot have."""
    for field in fields(Recipe):
        if field.name not in settings and field.default is MISSING:
            raise RequestError(f"{recipe}: has no {field.name!r}")
        if field.name in settings and not is_a(field.type, settings[field.name]):
            raise RequestError(f"{recipe}: {field.name} cannot be {settings[field.name]!r}")
    for part, (least, most) in _RANGES.items():
        if part in settings and not least <= settings[part] <= most:
            raise RequestError(f"{recipe}: {part} {settings[part]}: expected a number from {least} to {most}")
    for part, values in _CHOICES.items():
        if part in settings and settings[part] not in values:
            raise RequestError(f"{recipe}: {part} {settings[part]!r}: expected {' or '.join(values)}")
    every = [objective.get("every", 1) for objective in settings["objectives"]]
    if wrong := [each for each in every if type(each) is not int or each < 1]:
        raise RequestError(f"{recipe}: every {wrong[0]!r}: expected a whole number from 1")
    if 1 not in every:
        raise RequestError(f"{recipe}: no objective is due at every step; leave out 'every' of one at least")


def is_a(kind: Any, value: Any) -> bool:
    """Whether a value from JSON is of a setting's kind, a type as annotated; numbers are finite."""
    if isinstance(kind, UnionType):
        return any(is_a(each, value) for each in get_args(kind))
    if kind is NoneType:
        return value is None
    if kind is float:
        return type(value) in (int, float) and abs(value) < math.inf
    if kind in (int, str, bool):
        return type(value) is kind
    if not isinstance(value, list | tuple):
        return False
    if kind == tuple[str, ...]:
        return all(isinstance(part, str) for part in value)
    return all(isinstance(part, dict) and isinstance(part.get("name"), str) for part in value)
