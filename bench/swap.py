"""What a swap costs: the time of a picture in 25 steps against the same pipeline without it, and memory held.

    python bench/swap.py [RUNS]

The three ways run in turn in one process; the shares of a machine that others use cancel out in the ratio of medians.
"""

import statistics
import sys

import torch
from in_turn import in_turn
from torch import nn

from integrations.stable_diffusion import swap_text_encoder
from negclip_core.clip import load_clip
from pipelines.host import load_host

_STEPS = 25


def _bytes(*modules: nn.Module) -> int:
    """Of all weights that the modules hold, each counted once."""
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


def main(runs: int) -> None:
    """Time the three in turn, after one run of each that is not counted."""
    pipe = load_host("miniature", "cpu").pipe
    encoder = load_clip("miniature/negationclip")

    def draw() -> None:
        seed = torch.Generator().manual_seed(0)
        pipe("a street with no cars", num_inference_steps=_STEPS, generator=seed)

    def swapped(gate: bool) -> None:
        with swap_text_encoder(pipe, encoder, gate):
            draw()

    ways = {"no swap": draw, "gate": lambda: swapped(True), "no gate": lambda: swapped(False)}
    times = in_turn(ways, runs)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name}: {medians[name] / medians['no swap']:.3f} of no swap "
              f"(median {medians[name]:.3f} s, {min(values):.3f} to {max(values):.3f} s, n = {runs})")  # fmt: skip
    own = pipe.text_encoder
    with swap_text_encoder(pipe, encoder):
        more = _bytes(own, pipe.text_encoder) - _bytes(own)
    print(f"memory held more, in text encoders of the host: {more / _bytes(own):.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
