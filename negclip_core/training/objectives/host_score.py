"""Ask the frozen host itself: what the negated caption draws should be the rest, pushed away from the absent thing.

    L = |v(z_t, t, h(negated)) - v*|²,    v* = v(rest) + η (v(rest) - v(rest with the thing)), vanilla's states

The host's prediction tells apart, at every pixel and noise level, what belongs to the thing and what to the rest;
text states do not. The direction is that of concept erasure (Gandikota et al. 2023, equation 7), here given to a
text encoder while the diffusion model stays as it is. Equivalent at sampling time to one more guidance term, at no
extra call of the host.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from negclip_core.training.objectives import Situation

__all__ = ["Host", "Objective"]


class Host(Protocol):
    """A frozen diffusion model, seen from the text encoder's side."""

    def noisy(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Latents of the images (rows of the training set) at random noise levels, and those levels."""

    def predict(self, latents: Tensor, times: Tensor, states: Tensor) -> Tensor:
        """The model's output for text states float [n, 77, width]; differentiable in them."""


@dataclass(frozen=True)
class Objective:
    """Squared error of the host's output under the negated caption, relative to the output's own size."""

    weight: float = 1.0
    push: float = 1.0  # η
    batch: int = 48

    def __call__(self, now: Situation) -> Tensor:
        host: Host = now.host
        rows = now.rows[: self.batch]
        latents, times = host.noisy(now.data.picture[rows])
        texts = ("affirmative", "asserted")
        states = torch.cat([now.states(text, self.batch, vanilla=True).last for text in texts])
        with torch.no_grad():
            rest, there = (
                host.predict(torch.cat([latents] * 2), torch.cat([times] * 2), states).float().chunk(2)
            )
            target = rest + self.push * (rest - there)
        states = now.states("negated", self.batch).last
        output = host.predict(latents, times, states).float()
        return self.weight * (output - target).square().mean() / rest.square().mean()
