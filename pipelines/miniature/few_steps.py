"""Four steps without guidance instead of twelve with: a low-rank update of the miniature's UNet, and its text encoder as it was.

Progressive distillation (Salimans & Ho 2022) that takes guidance in (Meng et al. 2023, "On distillation of guided
diffusion models"): the teacher's guided path is drawn once, and the student learns to reach in one step where the teacher
is three steps later. The update is saved as diffusers' `load_lora_weights` reads it. It never meets a negated caption but
those that the UNet met, and never a fine-tuned text encoder.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor
from tqdm import tqdm

from negclip_core.files import atomic_write_json
from negclip_core.training.fit import Average, fit, kept

__all__ = ["STEPS", "build"]

STEPS = 4  # of the student
_TEACHERS = 3  # of the teacher's, for each of them
_GUIDANCE_SCALE = 3.0
_SHARD = 128  # paths that are drawn together, and kept
_RANK = 32
_UPDATED = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2",
            "conv_shortcut", "time_emb_proj")  # fmt: skip


@torch.no_grad()
def _paths(pipe: StableDiffusionPipeline, texts: Sequence[str], seed: Sequence[int]) -> Tensor:
    """The latents float16 [n, STEPS + 1, c, h, w] that the guided teacher passes for n texts."""
    pipe.scheduler.set_timesteps(STEPS * _TEACHERS)
    channels, side = pipe.unet.config.in_channels, pipe.unet.config.sample_size
    noise = np.random.default_rng(seed).standard_normal((len(texts), channels, side, side), np.float32)
    latents = torch.from_numpy(noise)
    passed, both = [latents], _states(pipe, [""] * len(texts) + list(texts))
    for number, time in enumerate(pipe.scheduler.timesteps, 1):
        without, given = pipe.unet(latents.repeat(2, 1, 1, 1), time, both).sample.chunk(2)
        guided = without + _GUIDANCE_SCALE * (given - without)
        latents = pipe.scheduler.step(guided, time, latents).prev_sample
        if number % _TEACHERS == 0:
            passed.append(latents)
    return torch.stack(passed, 1).half()


@torch.no_grad()
def _states(pipe: StableDiffusionPipeline, texts: Sequence[str]) -> Tensor:
    """What the UNet reads of texts, float32 [n, 77, width]."""
    ids = pipe.tokenizer(list(texts), padding="max_length", max_length=77, return_tensors="pt").input_ids
    states: Tensor = pipe.text_encoder(ids).last_hidden_state
    return states


def _goals(alphas: Tensor, passed: Tensor) -> Tensor:
    """The velocity [n, c, h, w] with which one step of DDIM goes from `passed[:, 0]` to `passed[:, 1]`.

    `alphas` [n, 2] are the products of alphas there, 1 at the end of the path.
    """
    here, there = (alphas[:, i, None, None, None] for i in (0, 1))
    clean, noise = here.sqrt(), (1 - here).sqrt()
    straight = there.sqrt() * clean + (1 - there).sqrt() * noise
    turned = (1 - there).sqrt() * clean - there.sqrt() * noise
    return (passed[:, 1] - straight * passed[:, 0]) / turned


def build(
    pipe: StableDiffusionPipeline, texts: Sequence[str], folder: Path, *, steps: int, seed: int = 0, batch: int = 32,
    quiet: bool = False,
) -> None:  # fmt: skip
    """Draw a path for each text, train, and write `folder`; `pipe`'s UNet is tuned in place. Needs PEFT."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    work = folder.with_name(f"{folder.name}-paths")
    work.mkdir(parents=True, exist_ok=True)
    paths = torch.cat(
        [
            kept(work / f"{start:06d}.safetensors", partial(_paths, pipe, texts[start : start + _SHARD], [seed, start]))
            for start in tqdm(range(0, len(texts), _SHARD), desc="drawing paths", disable=quiet)
        ]
    )  # fmt: skip

    pipe.scheduler.set_timesteps(STEPS)
    times = pipe.scheduler.timesteps
    alphas = torch.cat([pipe.scheduler.alphas_cumprod[times], torch.ones(1)])
    unet = pipe.unet.requires_grad_(False)
    torch.manual_seed(seed)
    unet.add_adapter(LoraConfig(r=_RANK, lora_alpha=_RANK, target_modules=list(_UPDATED)))
    update = torch.nn.ParameterDict(
        {name.replace(".", "/"): p for name, p in unet.named_parameters() if p.requires_grad}
    )
    average = Average(update, 0.99)

    def losses(step: int) -> dict[str, Tensor]:
        rows, at = torch.randint(len(paths), (batch,)), torch.randint(STEPS, (batch,))
        passed = torch.stack([paths[rows, at], paths[rows, at + 1]], 1).float()
        goal = _goals(torch.stack([alphas[at], alphas[at + 1]], 1), passed)
        found = unet(passed[:, 0], times[at], _states(pipe, [texts[row] for row in rows.tolist()])).sample
        return {"velocity": (found - goal).square().mean()}

    trained: list[Any] = [torch.optim.AdamW(update.parameters(), lr=1e-3, weight_decay=0.0, fused=True)]
    fit("few-steps", {"update": update}, trained, losses, steps=steps, seed=seed, average=average,
        checkpoint=work / "few-steps.ckpt", quiet=quiet)  # fmt: skip
    average.copy_to(update)
    halved = {name: tensor.half() for name, tensor in get_peft_model_state_dict(unet).items()}
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=halved)
    atomic_write_json(folder / "negclip.json", {"steps": STEPS, "guidance_scale": 1.0})
