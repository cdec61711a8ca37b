"""Several processes that train one tower: `accelerate launch` or `torchrun` with `--no-python negclip train ...`.

Each encodes its share of a batch's texts. The embeddings are gathered, so that each computes the loss of the whole batch,
and the gradients put together are those that one process would have found.
"""

import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn

__all__ = ["average_gradients", "count", "gathered", "is_first", "my_device", "my_share", "wait"]


def _state(on_cpu: bool = True) -> Any:
    """accelerate's view of how this process was launched; None where it is alone. The first call says where it computes."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    from accelerate import PartialState

    return PartialState(cpu=on_cpu)


def count() -> int:
    """How many processes there are."""
    return _state().num_processes if _state() else 1


def my_device(name: str) -> torch.device:
    """A device of one process by name; of several processes on CUDA, each has its own.

    To be asked before anything else here: processes that compute on the processor cannot speak to each other through CUDA.
    """
    on_cuda = name.startswith("cuda")
    state = _state(not on_cuda)
    return torch.device(state.device) if state and on_cuda else torch.device(name)


def is_first() -> bool:
    """Whether this process is the one that writes and reports."""
    return _state() is None or bool(_state().is_main_process)


def wait() -> None:
    """Until all processes have come here."""
    if _state():
        _state().wait_for_everyone()


def my_share(rows: Tensor) -> Tensor:
    """The part of [n, ...] that falls to this process; n is a multiple of `count()`."""
    return rows.chunk(count())[_state().process_index] if _state() else rows


def gathered(share: Tensor) -> Tensor:
    """[n, ...] from the processes' shares of it, in their order, for a loss that all of them compute."""
    return _Gather.apply(share) if _state() else share


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, share: Tensor) -> Tensor:
        parts = [torch.empty_like(share) for _ in range(count())]
        distributed.all_gather(parts, share.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Every process finds the same gradient; each goes on with its share, and `average_gradients` takes the mean.
        return my_share(gradient) * count()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the mean of all processes' gradients."""
    if not _state():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    for gradient, mean in zip(gradients, (flat / count()).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
