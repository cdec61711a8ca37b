"""Muon (Jordan et al. 2024) for matrices and convolution kernels, in float32.

torch's own Muon orthogonalises in bfloat16, which takes most of a step on processors that emulate it, and refuses
convolution kernels.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

__all__ = ["Muon", "optimizers"]

_A, _B, _C = 3.4445, -4.7750, 2.0315
_STEPS = 5


def _orthogonal(matrix: Tensor) -> Tensor:
    """Near the closest matrix with orthonormal rows or columns, by a quintic Newton-Schulz iteration."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised; a kernel [out, in, h, w] counts as a matrix [out, in * h * w]."""

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, weight_decay: float = 0.01, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                average = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(average, group["momentum"])
                matrix = update.reshape(len(update), -1)
                scale = math.sqrt(max(1.0, matrix.shape[0] / matrix.shape[1]))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(_orthogonal(matrix).reshape(update.shape), alpha=-group["lr"] * scale)


def optimizers(
    parameters: Iterable[tuple[str, Tensor]], inside: Callable[[str, Tensor], bool], adam_rate: float
) -> list[torch.optim.Optimizer]:
    """For a model trained from nothing: Muon on the named parameters that are `inside` its blocks, AdamW on its ends,
    norms and biases."""
    matrices: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in parameters:
        (matrices if inside(name, parameter) else rest).append(parameter)
    return [
        Muon(matrices, lr=0.01),
        torch.optim.AdamW(rest, lr=adam_rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True),
    ]
