"""What a text tower is trained for: one file an objective, found by its name.

An objective module defines `Objective`, a dataclass whose fields are its settings in a recipe, called with a
`Situation` and returning a scalar loss. Adding one is adding a file.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import torch
from open_clip.model import CLIP
from torch import Tensor
from torch.nn import functional as F

from negclip_core.errors import RequestError
from negclip_core.training import processes
from negclip_core.training.data import TrainingSet
from negclip_core.training.packed import pooled
from negclip_core.training.recipe import is_a
from negclip_core.training.text import TextStates, text_states

__all__ = ["Situation", "create", "create_all", "names"]

_WHOLE = 0.1  # share of the steps at which all positions that a host reads are compared


@dataclass(frozen=True)
class Situation:
    """What an objective sees at one step."""

    student: CLIP
    teacher: CLIP  # the vanilla model, frozen
    data: TrainingSet
    rows: Tensor  # int64 [batch], rows of `data`
    host: Any = None  # a `host_score.Host`, for objectives that read a diffusion host
    ways: Tensor | None = None  # those of `host_ways`, for objectives that go along them
    _known: dict[tuple[bool, str, int], TextStates] = field(default_factory=dict)
    _embedded: dict[str, Tensor] = field(default_factory=dict)

    def embeddings(self, text: str) -> Tensor:
        """The student's unit-length embeddings [batch, d] of a text of all rows; computed once a step."""
        if text not in self._embedded:
            ids = processes.my_share(getattr(self.data, text)[self.rows].long())
            self._embedded[text] = F.normalize(processes.gathered(pooled(self.student, ids).float()), dim=-1)
        return self._embedded[text]

    @cached_property
    def images(self) -> Tensor:
        """The features of all rows' images, [batch, d]."""
        return self.data.seen(self.data.image[self.rows])

    def true_texts(self) -> Tensor:
        """Of each row the embedding of the text that is true of its image: `negated`, or `asserted` where the thing is there."""
        return self._chosen(self.data.holds[self.rows])

    def false_texts(self) -> Tensor:
        """Of each row the embedding of the other one."""
        return self._chosen(~self.data.holds[self.rows])

    def _chosen(self, negated: Tensor) -> Tensor:
        if bool(negated.all()):
            return self.embeddings("negated")
        chosen = negated[:, None].to(self.data.device)
        return torch.where(chosen, self.embeddings("negated"), self.embeddings("asserted"))

    @cached_property
    def _whole(self) -> bool:
        return self.host is not None or bool(torch.rand(()) < _WHOLE)

    def length(self, count: int) -> int:
        """How many positions of the first `count` rows are compared at this step: the texts' own, now and then all.

        Attention is causal, so a text's states are the same either way; what comes after its end is many positions
        that are all alike, and three in four of what a step would cost.
        """
        if self._whole:
            return self.data.empty.shape[1]
        texts = ("caption", "negated", "affirmative", "asserted")
        return 2 + max(int(getattr(self.data, text)[self.rows[:count]].argmax(1).max()) for text in texts)

    def states(self, text: str, count: int, *, vanilla: bool = False) -> TextStates:
        """The student's (or vanilla's) states of a text of the first `count` rows, at the first `length(count)` positions.

        Computed once a step, however many objectives ask. `text` is a field of `TrainingSet`.
        """
        key = (vanilla, text, count)
        if key not in self._known:
            ids = self.data.ids(text, self.rows[:count])[:, : self.length(count)]
            with torch.set_grad_enabled(torch.is_grad_enabled() and not vanilla):
                self._known[key] = text_states(self.teacher if vanilla else self.student, ids)
        return self._known[key]


def names() -> list[str]:
    """The objectives there are."""
    return sorted(module.name for module in iter_modules(__path__))


def create(settings: dict[str, Any]) -> Callable[[Situation], Tensor]:
    """The objective named by `settings["name"]`, with the rest as its settings.

    Raises:
        RequestError: no such objective, a setting it does not have, or of a value that it cannot have.
    """
    settings = dict(settings)
    name = settings.pop("name", None)
    if name not in names():
        raise RequestError(f"objective {name!r} is not known; there are: {', '.join(names())}")
    kind = import_module(f"{__name__}.{name}").Objective
    known = [each.name for each in fields(kind) if each.init]
    if unknown := sorted(settings.keys() - set(known)):
        raise RequestError(f"objective {name!r} has no setting {unknown[0]!r}; it has: {', '.join(known)}")
    for each in fields(kind):
        value = settings.get(each.name, each.default)
        # Weights, lengths and shares are from 0, counts from 1.
        if each.init and not (is_a(each.type, value) and (value is None or value >= (each.type is int))):
            raise RequestError(f"objective {name!r}: {each.name} cannot be {value!r}")
    objective: Callable[[Situation], Tensor] = kind(**settings)
    return objective


def create_all(entries: Iterable[dict[str, Any]]) -> list[tuple[int, Callable[[Situation], Tensor]]]:
    """A recipe's objectives, each with the number of steps between two of which it is due ("every"); raises as `create`."""
    return [
        (entry.get("every", 1), create({key: value for key, value in entry.items() if key != "every"}))
        for entry in entries
    ]
