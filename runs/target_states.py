"""What would a perfectly trained text tower draw? The targets of token_targets, fed straight into the host.

    python runs/target_states.py MODEL CLIP CAPTIONS [PROMPTS]

Prints, for validation prompts that deny one or two things, the share of denied things that are drawn, of asked ones
that are kept and of places that are right, with 95 % Wilson intervals: for the prompt as vanilla reads it, its
affirmative rest, a negative prompt at the same guidance, and the targets for several λ, with ways from the negated
captions that training reads. It is how λ is chosen, and the ceiling that training is held against.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from eval.judges.miniature import MiniatureJudge
from eval.statistics import share
from negclip_core.clip import Clip, load_clip
from negclip_core.language import parse
from negclip_core.models import resolve
from negclip_core.training.captions_file import read_captions
from negclip_core.training.data import TrainingSet
from negclip_core.training.features import Features
from negclip_core.training.objectives.token_targets import (
    after_prefix,
    at_end,
    attainable,
    beyond_rest,
    scaled,
    ways,
)
from negclip_core.training.tables import caption_tables
from negclip_core.training.text import text_states, tokenise
from negclip_core.world.negation import NegatedPrompt, negated_prompt

_FAMILIES = ("before", "after", "two")
_EXTRAPOLATIONS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
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


def _ways(clip: Clip, captions: Path, prompts: list[NegatedPrompt]) -> torch.Tensor:
    """The way from what each prompt denies to its absence, float [n, width]."""
    with tempfile.TemporaryDirectory() as folder:
        tables = caption_tables(read_captions(captions), clip.tokenizer, Path(folder) / "captions")
        data = TrainingSet.make(tables, Features(torch.empty(0, 1), {}, {}), clip.tokenizer)
        way = dict(zip(data.absent.names, ways(clip.model, data).last, strict=True))
    return torch.stack([torch.stack([way[kind] for kind in p.negated]).sum(0) for p in prompts])


@torch.no_grad()
def _candidates(clip: Clip, captions: Path, prompts: list[NegatedPrompt]) -> dict[str, list[torch.Tensor]]:
    """Name -> states float [n, 77, width] with and without the condition, as guidance takes them."""

    def ids(texts: list[str]) -> torch.Tensor:
        return tokenise(clip.tokenizer, texts).long()

    def states(texts: list[str]) -> torch.Tensor:
        return text_states(clip.model, ids(texts)).last

    negated, asserted, affirmative = (
        ids([getattr(p, name) for p in prompts]) for name in ("prompt", "asserted", "affirmative")
    )
    own, rest = (text_states(clip.model, each).last for each in (negated, affirmative))
    free = after_prefix(negated, asserted, affirmative)[..., None]
    nothing = states([""]).expand_as(rest)
    found = {
        "vanilla": [own, nothing],
        "affirmative rest": [rest, nothing],
        "negative prompt": [rest, states([parse(p.prompt).negative_prompt for p in prompts])],
    }
    own_way = at_end(rest, affirmative) - at_end(states([p.asserted for p in prompts]), asserted)
    way = scaled(_ways(clip, captions, prompts), own_way.norm(dim=-1))
    for scale in _EXTRAPOLATIONS:
        beyond = attainable(clip.model.ln_final, beyond_rest(negated, affirmative, rest, scale * way))
        found[f"λ = {scale:g}"] = [torch.where(free, beyond, own), nothing]
    return found


def _column(shown: dict[str, np.ndarray], prompts: list[NegatedPrompt], field: str, family: str = "") -> str:
    """The share of the things in a field of the prompts (of one family, or of all) that the pictures show."""
    chosen = [(row, p) for row, p in enumerate(prompts) if family in ("", p.family)]
    named = [(row, [p.place] if field == "place" else getattr(p, field)) for row, p in chosen]
    seen = [bool(shown[kind][row]) for row, kinds in named for kind in kinds]
    found = share(sum(seen), len(seen))
    return f"{field} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}] n={found.n}"


def main(model: str, clip: str, captions: Path, count: int) -> None:
    """Draw under each candidate with the same seeds, judge, and print one line for each."""
    pipe = StableDiffusionPipeline.from_pretrained(resolve(model), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    judge, prompts = MiniatureJudge.load(resolve("miniature/judge")), _prompts(count)
    for name, (states, without) in _candidates(load_clip(clip), captions, prompts).items():
        pictures = []
        for rows in torch.arange(count).split(_BATCH):
            noise = [torch.Generator().manual_seed(int(row)) for row in rows]
            pictures += pipe(prompt_embeds=states[rows], negative_prompt_embeds=without[rows], generator=noise,
                             num_inference_steps=_STEPS, guidance_scale=_GUIDANCE_SCALE).images  # fmt: skip
        shown = judge.decide(np.stack([np.asarray(picture) for picture in pictures]))
        columns = [_column(shown, prompts, field) for field in ("negated", "asked", "place")]
        columns += [f"{family}: {_column(shown, prompts, 'negated', family)}" for family in _FAMILIES]
        print(f"{name:18s}", *columns, sep="  ", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 96)
