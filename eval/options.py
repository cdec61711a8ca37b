"""What a person may choose for an evaluation."""

from dataclasses import dataclass

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """Settings that are the same for all arms of a run."""

    seed: int = 0
    limit: int | None = None  # at most so many items a task, drawn by `seed`
    split: str = "test"  # of prompts that name a split
    pictures: int = 1  # generated for each prompt, with seeds `seed`, `seed` + 1, …
    steps: int = 20
    guidance_scale: float = 3.0
    batch: int = 64  # pictures denoised at once
    judge: str = "miniature/judge"
