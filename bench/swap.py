"""What a swap costs: the time of a picture in 25 steps against the same pipeline without it, and memory held.

    python bench/swap.py [RUNS] [--published] [--device cuda]

The three ways draw in turn in one process; the shares of a machine that others use cancel out in the ratio of medians.
`--published` draws with a Stable Diffusion 1.5 of the published size and random weights instead of the miniature.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from in_turn import in_turn
from random_clip import random_clip
from torch import nn

from integrations.stable_diffusion import swap_text_encoder
from negclip_core.clip import Clip, load_clip
from pipelines.convert import run as convert
from pipelines.host import load_host

_STEPS = 25


def _published(device: str) -> tuple[Any, Clip]:
    """A Stable Diffusion 1.5 and a ViT-L/14 for it, as large as the published ones; float16 on CUDA."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTokenizer

    with tempfile.TemporaryDirectory() as folder:
        encoder = load_clip(random_clip("ViT-L-14-quickgelu", Path(folder) / "clip"))
        convert(str(Path(folder) / "clip"), Path(folder) / "hub", "transformers")
        tokenizer = CLIPTokenizer.from_pretrained(Path(folder) / "hub")
        text_encoder = encoder.text_encoder()
    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512,
        )  # fmt: skip
    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=DDIMScheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device, torch.float16 if device.startswith("cuda") else torch.float32), encoder


def _bytes(*modules: nn.Module) -> int:
    """Of all weights that the modules hold, each counted once."""
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


def main(runs: int, published: bool, device: str) -> None:
    """Time the three in turn, after one run of each that is not counted."""
    if published:
        pipe, encoder = _published(device)
    else:
        pipe, encoder = load_host("miniature", device).pipe, load_clip("miniature/negationclip")

    def draw(pipe: Any) -> None:
        seed = torch.Generator().manual_seed(0)
        # Pixels, which are there when they have come to the processor.
        pipe("a street with no cars", num_inference_steps=_STEPS, generator=seed, output_type="np")

    pipes = {"no swap": pipe}
    for name, gate in (("gate", True), ("no gate", False)):
        # Of the same parts, so that all three can be drawn with in turn.
        pipes[name] = type(pipe)(**pipe.components, requires_safety_checker=False)
        pipes[name].set_progress_bar_config(disable=True)
        start = time.perf_counter()
        swap_text_encoder(pipes[name], encoder, gate)
        print(f"{name}: swapped in {time.perf_counter() - start:.3f} s, once")
    times = in_turn({name: partial(draw, each) for name, each in pipes.items()}, runs)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name}: {medians[name] / medians['no swap']:.3f} of no swap "
              f"(median {medians[name]:.3f} s, {min(values):.3f} to {max(values):.3f} s, n = {runs})")  # fmt: skip
    own = pipe.text_encoder
    more = _bytes(own, pipes["gate"].text_encoder) - _bytes(own)
    print(f"memory held more, in text encoders of the host: {more / _bytes(own):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", type=int, nargs="?", default=20)
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--device", default="cpu")
    main(**vars(parser.parse_args()))
