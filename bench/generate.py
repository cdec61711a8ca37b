"""How much longer `negclip generate` takes than the same picture from diffusers alone. Prints the ratio of medians.

    python bench/generate.py [RUNS]

Both are whole processes, run in turn; the shares of a machine that others use cancel out in the ratio.
"""

import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from in_turn import in_turn

from negclip_core.models import resolve

_BARE = """
import negclip_core
from diffusers import StableDiffusionPipeline
import torch
pipe = StableDiffusionPipeline.from_pretrained({folder!r})
pipe("a street with no cars", num_inference_steps=25, guidance_scale=3.0,
     generator=torch.Generator().manual_seed(0)).images[0].save({out!r})
"""


def main(runs: int) -> None:
    """Time both, in turn, after one run of each that is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        bare = _BARE.format(folder=str(resolve("miniature")), out=str(Path(folder, "bare.png")))
        commands = {
            "diffusers": [sys.executable, "-c", bare],
            "negclip": [
                str(Path(sys.executable).with_name("negclip")),
                "generate",
                "a street with no cars",
                "--out",
                folder,
            ],
        }
        ways = {
            name: partial(subprocess.run, command, check=True, capture_output=True)
            for name, command in commands.items()
        }
        times = in_turn(ways, runs)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name}: median {medians[name]:.2f} s, {min(values):.2f} to {max(values):.2f} s, n = {runs}")
    print(f"negclip / diffusers: {medians['negclip'] / medians['diffusers']:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
