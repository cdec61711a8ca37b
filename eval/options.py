"""What a person may choose for an evaluation, and how far."""

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Options", "refuse"]

# The least and the most of an option that is a number.
_BOUNDS = {
    "seed": (0, 2**62),
    "limit": (1, math.inf),
    "pictures": (1, 100_000),
    "steps": (1, 1000),
    "guidance_scale": (0, 1000),
    "batch": (1, 100_000),
}


@dataclass(frozen=True)
class Options:
    """Settings that are the same for all arms of a run."""

    seed: int = 0
    limit: int | None = None  # at most so many items a task, drawn by `seed`
    split: str = "test"  # of files that name one
    pictures: int = 1  # generated for each prompt, with seeds `seed`, `seed` + 1, …
    steps: int = 20
    guidance_scale: float = 3.0
    batch: int = 64  # pictures denoised at once
    judge: str = "miniature/judge"


def refuse(name: str, value: Any) -> None:
    """Raise ValueError, which says what is expected, where the option `name` is a number and may not be this one."""
    if name not in _BOUNDS:
        return
    whole = name != "guidance_scale"
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise ValueError(f"expected a {'whole ' if whole else ''}number")
    least, most = _BOUNDS[name]
    if not value >= least:
        raise ValueError(f"expected {least} or more")
    if value > most:
        raise ValueError(f"expected {most} or fewer")
