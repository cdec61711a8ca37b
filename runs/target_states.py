"""What would a perfectly trained text tower draw? The targets of token_targets, fed straight into the host.

    python runs/target_states.py MODEL [PROMPTS]

Prints, for validation prompts that deny one or two things, the share of denied things that are drawn and of asked ones
that are kept, with 95 % Wilson intervals: for the prompt as vanilla reads it, its affirmative rest, a negative prompt
at the same guidance, and the targets for several λ, in the nearest states that the tower's last norm can put out. It
is how λ is chosen, and the ceiling that training is held against.
"""

import sys

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from eval.judges import load_judge
from eval.statistics import share
from negclip_core.language import parse
from negclip_core.models import resolve
from negclip_core.training.objectives.token_targets import after_prefix, attainable, targets
from negclip_core.world.negation import NegatedPrompt, negated_prompt

_FAMILIES = ("before", "after", "two")
_EXTRAPOLATIONS = (1.0, 1.5, 2.0, 3.0)
_BATCH, _STEPS, _GUIDANCE_SCALE = 16, 10, 3.0


def _prompts(count: int) -> list[NegatedPrompt]:
    """Prompts about places; where two things are denied they are of the family "two"."""
    rng = np.random.default_rng(0)
    found: list[NegatedPrompt] = []
    while len(found) < count:
        prompt = negated_prompt(rng, "validation", _FAMILIES[len(found) % len(_FAMILIES)])
        if not prompt.noun:
            found.append(prompt)
    return found


def _last_norm(pipe: StableDiffusionPipeline) -> torch.nn.LayerNorm:
    """The text encoder's final layer norm."""
    return [m for m in pipe.text_encoder.modules() if isinstance(m, torch.nn.LayerNorm)][-1]


@torch.no_grad()
def _candidates(pipe: StableDiffusionPipeline, prompts: list[NegatedPrompt]) -> dict[str, list[torch.Tensor]]:
    """Name -> states float [n, 77, width] with and without the condition, as guidance takes them."""

    def ids(texts: list[str]) -> torch.Tensor:
        found: torch.Tensor = pipe.tokenizer(
            texts, padding="max_length", max_length=77, return_tensors="pt"
        ).input_ids
        return found

    def states(texts: list[str]) -> torch.Tensor:
        found: torch.Tensor = pipe.text_encoder(ids(texts)).last_hidden_state
        return found

    texts = [[getattr(p, name) for p in prompts] for name in ("prompt", "asserted", "affirmative")]
    tokens = tuple(ids(each) for each in texts)
    own, there, rest = (states(each) for each in texts)
    free = after_prefix(*tokens)[..., None] > 0
    nothing = states([""]).expand_as(rest)
    denied = states([parse(p.prompt).negative_prompt for p in prompts])
    found = {
        "vanilla": [own, nothing],
        "affirmative rest": [rest, nothing],
        "negative prompt": [rest, denied],
    }
    for scale in _EXTRAPOLATIONS:
        beyond = attainable(_last_norm(pipe), targets(tokens, (own, there, rest), scale))
        found[f"λ = {scale:g}"] = [torch.where(free, beyond, own), nothing]
    return found


def _column(shown: dict[str, np.ndarray], prompts: list[NegatedPrompt], field: str, family: str = "") -> str:
    """The share of the things in a field of the prompts (of one family, or of all) that the pictures show."""
    chosen = [(row, p) for row, p in enumerate(prompts) if family in ("", p.family)]
    seen = [bool(shown[kind][row]) for row, p in chosen for kind in getattr(p, field)]
    found = share(sum(seen), len(seen))
    return f"{field} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}] n={found.n}"


def main(model: str, count: int) -> None:
    """Draw under each candidate with the same seeds, judge, and print one line for each."""
    pipe = StableDiffusionPipeline.from_pretrained(resolve(model), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    judge, prompts = load_judge("miniature/judge"), _prompts(count)
    for name, (states, without) in _candidates(pipe, prompts).items():
        pictures = []
        for rows in torch.arange(count).split(_BATCH):
            noise = [torch.Generator().manual_seed(int(row)) for row in rows]
            pictures += pipe(prompt_embeds=states[rows], negative_prompt_embeds=without[rows], generator=noise,
                             num_inference_steps=_STEPS, guidance_scale=_GUIDANCE_SCALE).images  # fmt: skip
        shown = judge.decide(np.stack([np.asarray(picture) for picture in pictures]))
        columns = [_column(shown, prompts, "negated"), _column(shown, prompts, "asked")]
        columns += [f"{family}: {_column(shown, prompts, 'negated', family)}" for family in _FAMILIES]
        print(f"{name:18s}", *columns, sep="  ", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 96)
