"""DEO: move the text's embedding towards what it asks for and away from what it denies, by gradient.

Source: Lee et al., DEO: Training-Free Direct Embedding Optimization for Negation-Aware Retrieval, arXiv 2603.09185.
From u = e, 20 steps of Adam at 0.001 on

    mean |u − p| + 0.2 |u − e| − mean |u − n|

over the embeddings p of what the text asks for and n of what it denies, u brought to unit length after each step;
weights, steps and rate are those of its code. Its authors let a language model write the parts, several each; here p is
the text without its negations (none where nothing is left of it), and there is one n for each thing denied.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from eval.encoders import Encoder
from negclip_core.language import Parse

__all__ = ["Correction"]

_STEPS, _RATE = 20, 1e-3
_ASKED, _KEPT, _DENIED = 1.0, 0.2, 1.0


class Correction:
    """Optimises the rows of all texts at once; Adam moves each number by itself, so none hangs on its neighbours."""

    def __init__(self, encoder: Encoder, tuned: bool) -> None:
        self._encoder = encoder

    def __call__(self, parses: list[Parse]) -> np.ndarray:
        own = torch.from_numpy(self._encoder.texts([parsed.text for parsed in parses]))
        denied = self._parts([parsed.negative_prompt.split(", ") for parsed in parses])
        # Where nothing is asked for, the text's own row stands in, with no weight.
        asked = self._parts([[parsed.affirmative or parsed.text] for parsed in parses])
        asked[2][[row for row, parsed in enumerate(parses) if not parsed.affirmative]] = 0.0
        moved = own.clone().requires_grad_()
        adam = torch.optim.Adam([moved], lr=_RATE)
        for _ in range(_STEPS):
            adam.zero_grad()
            kept = (moved - own).norm(dim=1).sum()
            (
                _ASKED * _distance(moved, *asked) + _KEPT * kept - _DENIED * _distance(moved, *denied)
            ).backward()
            adam.step()
            moved.data = F.normalize(moved.data, dim=1)
        found: np.ndarray = moved.detach().numpy()
        return found

    def _parts(self, texts: list[list[str]]) -> tuple[Tensor, Tensor, Tensor]:
        """Of all texts' parts the embeddings [m, d], whose they are [m], and each one's weight within its text [m]."""
        flat = [part for parts in texts for part in parts]
        owner = torch.tensor([row for row, parts in enumerate(texts) for _ in parts], dtype=torch.long)
        weight = torch.tensor([1 / len(parts) for parts in texts for _ in parts])
        return torch.from_numpy(self._encoder.texts(flat)), owner, weight


def _distance(moved: Tensor, parts: Tensor, owner: Tensor, weight: Tensor) -> Tensor:
    """The sum over texts of the mean distance to a text's parts."""
    return ((moved[owner] - parts).norm(dim=1) * weight).sum()
