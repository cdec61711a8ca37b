"""A recipe says how a text tower is trained: objectives, rows, optimizer settings. Recipes are files (`recipes/`)."""

import json
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from negclip_core.errors import RequestError

__all__ = ["Recipe", "load_recipe", "recipe_names"]


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run."""

    about: str
    objectives: tuple[dict[str, Any], ...]  # settings by name; "every": n computes one at each n-th step only
    learning_rate: float
    batch_size: int  # captions a step
    epochs: int
    rows: str = "absent"  # "absent": images that lack the thing; "all": also those that hold it
    seed: int = 0
    split: str = "image"  # see `data.split_rows`
    bf16: bool = False  # on processors that are faster with it
    warm_up: int = 0  # steps in which the learning rate rises to its full
    decay: bool = False  # the learning rate falls to zero along half a cosine; else it stays
    patience: int = 0  # epochs without a better validation loss after which a run ends; 0: all epochs are run
    lora_rank: int = 0  # train updates of this rank of the text tower's matrices, and nothing else
    frozen: tuple[str, ...] = ("visual.", "ln_final.")  # how parameters' names begin; the paper's choice

    def asks_host(self) -> bool:
        """Whether an objective asks a diffusion host at its steps."""
        return any(objective["name"] == "host_score" for objective in self.objectives)

    def needs_host_ways(self) -> bool:
        """Whether an objective goes along ways that are found through a diffusion host beforehand."""
        return any(objective.get("through_host", False) for objective in self.objectives)


def _folder() -> Path:
    return Path(str(files(__package__).joinpath("recipes")))


def recipe_names() -> list[str]:
    """The recipes there are."""
    return sorted(path.stem for path in _folder().glob("*.json"))


def load_recipe(name: str, **changes: Any) -> Recipe:
    """A recipe by name or file, with `changes` to its settings where they are not None.

    Raises:
        RequestError: no such recipe, or a setting that recipes do not have.
    """
    path = _folder() / f"{name}.json" if name in recipe_names() else Path(name)
    try:
        settings = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(
            f"recipe {name!r} cannot be read; there are: {', '.join(recipe_names())}"
        ) from error
    settings |= {key: value for key, value in changes.items() if value is not None}
    known = {field.name for field in fields(Recipe)}
    if unknown := sorted(settings.keys() - known):
        raise RequestError(
            f"recipe {name!r}: no setting {unknown[0]!r}; there are: {', '.join(sorted(known))}"
        )
    for name in ("objectives", "frozen"):
        if name in settings:
            settings[name] = tuple(settings[name])
    return Recipe(**settings)
