"""Steering: at every block of the text tower, turn the end token's state towards "negated".

Source: Sammani, Chamiti et al., When Negation Is a Geometry Problem in Vision-Language Models, arXiv 2603.20554. For each
block a logistic regression without intercept tells the states x of sentences from those of their negated
counterparts; with its unit normal d, a text's x becomes (1 − α) x + α |x| d, α = 0.13, before the next block reads it.
Pairs: the authors had a language model negate some 4,000 captions of COCO; here they are 4,000 sentences of the drawn
world, in the phrasings of its training split. Applied to texts that deny something, as all of their queries do.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from eval.encoders import Encoder
from negclip_core.errors import RequestError
from negclip_core.language import Parse
from negclip_core.training.text import cut, reads_padding, text_states
from negclip_core.world.negation import negated_prompt

__all__ = ["Correction", "direction"]

_PAIRS, _STRENGTH = 4_000, 0.13
_AT_ONCE = 256  # texts

Change = Callable[
    [int, Tensor], Tensor
]  # of a block's number and the end tokens' states [n, width]: their new states


def direction(plain: np.ndarray, negated: np.ndarray) -> np.ndarray:
    """The unit normal [width], towards `negated`, of a logistic regression between rows [n, width] of the two.

    As scikit-learn's with its defaults (penalty |w|² / 2) and no intercept.
    """
    rows = np.concatenate([plain, negated]).astype(np.float64)
    sign = np.repeat([-1.0, 1.0], [len(plain), len(negated)])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (rows @ weights)
        value = np.logaddexp(0, -margin).sum() + weights @ weights / 2
        return float(value), weights - (sign * expit(-margin)) @ rows

    found = minimize(loss, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x
    unit: np.ndarray = found / np.linalg.norm(found)
    return unit


class Correction:
    """Raises RequestError for a tower that has no end token's state to steer, as SigLIP's."""

    def __init__(self, encoder: Encoder, tuned: bool) -> None:
        self._clip = encoder.clip
        if reads_padding(self._clip.model):
            raise RequestError(
                f"arm {encoder.name}: its text tower reads its padding, as SigLIP's do; there is no end token to steer"
            )
        rng = np.random.default_rng(0)
        pairs = [negated_prompt(rng, "train") for _ in range(_PAIRS)]
        plain, negated = (
            self._states(texts) for texts in ([p.asserted for p in pairs], [p.prompt for p in pairs])
        )
        device = self._clip.device
        self.directions = [
            torch.from_numpy(direction(a, b)).float().to(device) for a, b in zip(plain, negated, strict=True)
        ]

    def __call__(self, parses: list[Parse]) -> np.ndarray:
        def steered(block: int, states: Tensor) -> Tensor:
            length = states.norm(dim=1, keepdim=True)
            return (1 - _STRENGTH) * states + _STRENGTH * length * self.directions[block]

        return self._encode([parsed.text for parsed in parses], steered)

    def _states(self, texts: list[str]) -> list[np.ndarray]:
        """Each block's states of the texts' end tokens, [n, width]."""
        found: list[list[np.ndarray]] = [[] for _ in self._clip.model.transformer.resblocks]

        def noted(block: int, states: Tensor) -> Tensor:
            found[block].append(states.cpu().numpy())
            return states

        self._encode(texts, noted)
        return [np.concatenate(parts) for parts in found]

    @torch.no_grad()
    def _encode(self, texts: list[str], change: Change) -> np.ndarray:
        """Embeddings float32 [n, d], with each block's states of end tokens changed on the way."""
        rows = []
        for start in range(0, len(texts), _AT_ONCE):
            ids = cut(self._clip.tokenizer(texts[start : start + _AT_ONCE])).to(self._clip.device)
            with _changed(self._clip.model.transformer.resblocks, ids.argmax(1), change):
                rows.append(text_states(self._clip.model, ids).pooled.cpu().numpy())
        return np.concatenate(rows)


@contextmanager
def _changed(blocks: torch.nn.ModuleList, ends: Tensor, change: Change) -> Iterator[None]:
    """Within the block, every transformer block's output [n, length, width] has its rows at `ends` [n] changed."""

    def hook(block: int) -> Callable[..., Tensor]:
        def changed(module: torch.nn.Module, given: object, output: Tensor) -> Tensor:
            output = output.clone()
            texts = torch.arange(len(ends), device=ends.device)
            output[texts, ends] = change(block, output[texts, ends])
            return output

        return changed

    with ExitStack() as stack:
        for number, block in enumerate(blocks):
            stack.enter_context(block.register_forward_hook(hook(number)))
        yield
