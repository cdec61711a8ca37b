"""Thirty-two pairs that nobody picked: held-out prompts in the order in which they are made, seeds 0 to 31.

    python runs/unpicked.py OUT.png [MODEL]

Each pair is vanilla's picture on the left and NegationCLIP's on the right, enlarged without smoothing, its prompt below.
"""

import sys
from pathlib import Path

import numpy as np
from pair_sheet import pair_sheet
from PIL import Image

from integrations.arms import Arm
from negclip_core.clip import load_clip
from negclip_core.world.negation import negated_prompt
from pipelines.host import load_host
from pipelines.pictures import write_png

_PAIRS = 32


def _draw(model: str, prompts: list[str]) -> list[list[Image.Image]]:
    """For each arm a picture a prompt, at the model's own number of steps and guidance scale."""
    host = load_host(model, "cpu", quiet=True)
    settings = {"num_inference_steps": host.default("steps", "num_inference_steps"),
                "guidance_scale": host.default("guidance_scale", "guidance_scale")}  # fmt: skip
    arms = (Arm.vanilla(), Arm.of("encoder", load_clip("miniature/negationclip")))
    columns = []
    for arm in arms:
        with arm.applied(host.pipe, **settings) as draw:
            columns.append([draw([prompt], [seed])[0] for seed, prompt in enumerate(prompts)])
    return columns


def main(out: Path, model: str) -> None:
    """Draw the pairs and write the sheet."""
    rng = np.random.default_rng(0)
    prompts = [negated_prompt(rng, "test").prompt for _ in range(_PAIRS)]
    write_png(pair_sheet(prompts, _draw(model, prompts)), out, {"model": model, "prompts": prompts})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "miniature")
