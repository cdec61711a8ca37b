"""The miniature's UNet: diffusers' UNet2DConditionModel on 4 x 16 x 16 latents, conditioned on vanilla text states only.

v-prediction (Salimans & Ho 2022) with zero terminal signal (Lin et al. 2023) and min-SNR weights (Hang et al. 2023).
It reads all 77 states of the text encoder without a mask, as Stable Diffusion does.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from tqdm import tqdm

from negclip_core.precision import mixed_precision
from negclip_core.training.fit import Average, fit, kept
from negclip_core.training.muon import optimizers
from negclip_core.world.scenes import Scene
from pipelines.miniature.autoencoder import LATENT_CHANNELS, to_tensor
from pipelines.miniature.clip import TEXT_WIDTH, pretraining_caption
from pipelines.miniature.data import Pictures

__all__ = ["build", "create", "scheduler"]

_DROPPED_CAPTIONS = 0.1
_SNR_CAP = 5.0
_TEXTS = 16  # encoded together: few enough that their states stay in the cache


def create() -> UNet2DConditionModel:
    """An untrained UNet."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(48, 128),
        layers_per_block=1,
        # Text is read at 8 x 8 only: at 16 x 16 attention would double the cost of a step.
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        norm_num_groups=16,
    )


def scheduler() -> DDIMScheduler:
    """The noise schedule, for training and sampling alike."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # unused with trailing steps, but the pipeline warns without it
    )


def _inside(name: str, parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and "_block" in name and "time_emb" not in name


@torch.no_grad()
def _latents(autoencoder: AutoencoderKL, images: Tensor, quiet: bool) -> Tensor:
    """Scaled latents float16 [n, c, h, w]."""
    out = []
    for part in tqdm(images.split(256), desc="encoding pictures", disable=quiet, mininterval=5):
        with mixed_precision():
            latent = autoencoder.encode(to_tensor(part)).latent_dist.mode()
        out.append((latent.float() * autoencoder.config.scaling_factor).half())
    return torch.cat(out)


@torch.no_grad()
def _states(text_encoder: nn.Module, tokenizer: Any, captions: list[str], quiet: bool) -> Tensor:
    """Last hidden states float16 [n, 77, width], computed without an attention mask as the pipeline does."""
    out = []
    for start in tqdm(
        range(0, len(captions), _TEXTS), desc="encoding captions", disable=quiet, mininterval=5
    ):
        ids = tokenizer(
            captions[start : start + _TEXTS], padding="max_length", max_length=77, return_tensors="pt"
        ).input_ids
        with mixed_precision():
            out.append(text_encoder(ids).last_hidden_state.half())
    return torch.cat(out)


def build(
    autoencoder: AutoencoderKL, text_encoder: nn.Module, tokenizer: Any, data: Pictures, scenes: list[Scene],
    folder: Path, *, steps: int, seed: int = 0, batch: int = 64, captions: int = 1, quiet: bool = False,
) -> UNet2DConditionModel:  # fmt: skip
    """Train, or go on training, for `steps`; the averaged weights come back."""
    torch.manual_seed(seed)
    model = create().to(memory_format=torch.channels_last)
    # Plain attention trains faster on a CPU than the fused kernel at these sizes.
    model.set_attn_processor(AttnProcessor())
    average = Average(model, 0.999)
    rng = np.random.default_rng(seed)
    texts = [pretraining_caption(scene, rng) for _ in range(captions) for scene in scenes]
    images = torch.from_numpy(data.images)
    latents = kept(folder / "latents.safetensors", lambda: _latents(autoencoder, images, quiet))
    states = kept(
        folder / "states.safetensors", lambda: _states(text_encoder, tokenizer, ["", *texts], quiet)
    )
    n = len(scenes)
    alphas = scheduler().alphas_cumprod

    def losses(step: int) -> dict[str, Tensor]:
        rows = torch.randint(n, (batch,))
        said = 1 + torch.randint(captions, (batch,)) * n + rows
        said = torch.where(torch.rand(batch) < _DROPPED_CAPTIONS, 0, said)
        clean, noise = latents[rows].float(), torch.randn(batch, *latents.shape[1:])
        times = torch.randint(len(alphas), (batch,))
        alpha = alphas[times][:, None, None, None]
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        with mixed_precision():
            predicted = model(noisy, times, states[said].float()).sample
        snr = alpha / (1 - alpha).clamp(min=1e-6)
        weight = snr.clamp(max=_SNR_CAP).add(0.1) / (snr + 1)
        return {"velocity": (weight * (predicted.float() - velocity).square()).mean()}

    trained = optimizers(model.named_parameters(), _inside, adam_rate=1e-3)
    fit("unet", {"model": model}, trained, losses, steps=steps, seed=seed, average=average,
        checkpoint=folder / "unet.ckpt", quiet=quiet)  # fmt: skip
    average.copy_to(model)
    return model.eval()
