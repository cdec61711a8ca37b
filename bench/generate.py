"""How much longer `negclip generate` takes than the same picture from diffusers alone. Prints the ratio of medians.

    python bench/generate.py [RUNS]

Both are whole processes, run in turn; the shares of a machine that others use cancel out in the ratio.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from negclip_core.models import resolve

_BARE = """
import negclip_core
from diffusers import StableDiffusionPipeline
import torch
pipe = StableDiffusionPipeline.from_pretrained({folder!r})
pipe("a street with no cars", num_inference_steps=25, guidance_scale=3.0,
     generator=torch.Generator().manual_seed(0)).images[0].save({out!r})
"""


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


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
        times: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(runs + 1):
            for name, command in commands.items():
                seconds = _seconds(command)
                if number:
                    times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name}: median {medians[name]:.2f} s, {min(values):.2f} to {max(values):.2f} s, n = {runs}")
    print(f"negclip / diffusers: {medians['negclip'] / medians['diffusers']:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
