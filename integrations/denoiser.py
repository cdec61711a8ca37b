"""A frozen Stable Diffusion as the training engine sees it: text states in, the UNet's prediction out."""

from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from negclip_core.precision import mixed_precision

__all__ = ["Denoiser"]

_BATCH = 64


class Denoiser:
    """Implements `negclip_core.training.objectives.host_score.Host` over a `StableDiffusionPipeline`.

    Args:
        pipe: the pipeline; its UNet, autoencoder and noise schedule are read; no weight of theirs is changed.
        images: float [n, 3, height, width] in [-1, 1], in the order of the training set's images.
        bf16: run the UNet in bfloat16, on processors that are faster with it.
    """

    def __init__(self, pipe: Any, images: Tensor, *, bf16: bool = False) -> None:
        self.unet = pipe.unet.requires_grad_(False).eval()
        # Plain attention trains faster on a CPU than the fused kernel at these sizes.
        self.unet.set_attn_processor(AttnProcessor())
        self.bf16 = bf16
        self.alphas = pipe.scheduler.alphas_cumprod
        parts = []
        with torch.no_grad(), mixed_precision(bf16, pipe.device):
            for part in images.split(_BATCH):
                latents = pipe.vae.encode(part.to(pipe.vae.device, pipe.vae.dtype)).latent_dist.mode()
                parts.append((latents * pipe.vae.config.scaling_factor).half().cpu())
        self.latents = torch.cat(parts)

    def noisy(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Latents float32 [n, c, h, w] of the images at uniformly drawn times int64 [n], from the processor's generator."""
        clean = self.latents[images].float()
        times = torch.randint(len(self.alphas), (len(images),))
        alpha = self.alphas[times][:, None, None, None]
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * torch.randn_like(clean)
        return noisy.to(self.unet.device), times.to(self.unet.device)

    def predict(self, latents: Tensor, times: Tensor, states: Tensor) -> Tensor:
        """The UNet's output float [n, c, h, w] (noise or velocity, as it was trained)."""
        with mixed_precision(self.bf16, self.unet.device):
            output: Tensor = self.unet(latents, times, states).sample
        return output
