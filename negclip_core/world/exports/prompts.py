"""Prompts for pictures: with a negation in every family, and without one."""

from dataclasses import asdict
from typing import Any

from negclip_core.world.catalog import Split
from negclip_core.world.exports.pictures import stream
from negclip_core.world.negation import NegatedPrompt, drift_prompt, negated_prompt

__all__ = ["prompts"]

_DRIFT_SHARE = 0.25


def prompts(split: Split, seed: int, count: int) -> list[dict[str, Any]]:
    """`count` different prompts (as far as the split has so many), a quarter of them without negation.

    The first n are a fair sample of all, for any n.
    """
    rng = stream("prompts", split, seed)
    found: dict[str, NegatedPrompt] = {}
    for _ in range(20 * count):
        prompt = drift_prompt(rng, split) if rng.random() < _DRIFT_SHARE else negated_prompt(rng, split)
        found.setdefault(prompt.prompt, prompt)
        if len(found) == count:
            break
    return [_row(f"{split}-{number:05d}", prompt) for number, prompt in enumerate(found.values())]


def _row(key: str, prompt: NegatedPrompt) -> dict[str, Any]:
    return {"id": key} | asdict(prompt) | {"negated": list(prompt.negated), "asked": list(prompt.asked)}
