"""An arm: one way of handling the prompt, which is a method and the text encoder that it reads with."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from integrations.denied import unet_of
from integrations.methods import Method, acts_inside, find_method, guided
from integrations.stable_diffusion import check_fit, swap_text_encoder
from negclip_core.clip import Clip

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["VANILLA", "Arm", "Drawing", "arm_name"]

VANILLA = "vanilla"
Drawing = Callable[[Sequence[str], Sequence[int]], "list[Image]"]


def arm_name(method: str) -> str:
    """The name of a method's arm with NegationCLIP: its own, but `negationclip` for the plain swap."""
    return "negationclip" if method == "encoder" else method


@dataclass(frozen=True)
class Arm:
    """One arm of a comparison. `encoder` is None where the host's own text encoder reads the prompt."""

    name: str
    method: Method
    encoder: Clip | None
    gate: bool = True

    @classmethod
    def vanilla(cls) -> "Arm":
        """The host as it is."""
        return cls(VANILLA, find_method("encoder"), None)

    @classmethod
    def of(cls, method: str, encoder: Clip | None, gate: bool = True) -> "Arm":
        """The arm of a method (`find_method`'s names), which reads with `encoder` if it swaps the text encoder at all.

        Raises RequestError where there is no such method.
        """
        found = find_method(method)
        return cls(arm_name(method), found, encoder if found.SWAPS_TEXT_ENCODER else None, gate)

    def check(self, pipe: Any) -> None:
        """Raise RequestError where the encoder does not fit the pipeline or the method has no hold there; change nothing."""
        if acts_inside(self.method):
            unet_of(pipe)
        if self.encoder is not None:
            check_fit(pipe, self.encoder)

    @contextmanager
    def applied(self, pipe: Any, **settings: Any) -> Iterator[Drawing]:
        """Within the block, the function given draws with this arm; afterwards the pipeline is as it was.

        It takes n prompts and n seeds and gives n pictures, drawn as one batch. A picture's first noise depends on its
        seed alone, so the same seeds make pairs across arms. `settings` go to the pipeline's call.
        """

        def draw(prompts: Sequence[str], seeds: Sequence[int]) -> "list[Image]":
            rows = [self.method.arguments(prompt) for prompt in prompts]
            texts = _arguments(pipe, rows)
            # On the CPU, so that a seed means the same noise on every device.
            generators = [torch.Generator().manual_seed(seed) for seed in seeds]
            with guided(self.method, pipe, prompts):
                return list(pipe(**texts, generator=generators, **settings).images)

        if self.encoder is None:
            yield draw
        else:
            with swap_text_encoder(pipe, self.encoder, self.gate):
                yield draw


@torch.no_grad()
def _arguments(pipe: Any, rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """What the pipeline is called with for a batch; a prompt without a negative one is read as it is by itself."""
    prompts = [row["prompt"] for row in rows]
    negatives = [row.get("negative_prompt", "") for row in rows]
    if not any(negatives):
        return {"prompt": prompts}
    if all(negatives) or not pipe.config.get("force_zeros_for_empty_prompt"):
        return {"prompt": prompts, "negative_prompt": negatives}
    # Stable Diffusion XL: where there is no negative prompt it reads zeros, which an empty one does not give.
    names = (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    )
    found = pipe.encode_prompt(prompts, device=pipe._execution_device, negative_prompt=negatives)
    texts = dict(zip(names, found, strict=True))
    for name in names[1::2]:
        texts[name][[not negative for negative in negatives]] = 0
    return texts
