"""The miniature's autoencoder: diffusers' AutoencoderKL, 64 x 64 pixels to 4 x 16 x 16 latents, trained on drawings."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from negclip_core.precision import mixed_precision
from negclip_core.training.fit import Average, fit
from pipelines.miniature.data import Pictures

__all__ = ["LATENT_CHANNELS", "build", "create", "to_tensor"]

LATENT_CHANNELS = 4
_CHANNELS = (16, 32, 64)


def create() -> AutoencoderKL:
    """An untrained autoencoder."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=_CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )


def to_tensor(images: Tensor) -> Tensor:
    """uint8 [n, h, w, 3] -> float [n, 3, h, w] in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def _edges(images: Tensor) -> tuple[Tensor, Tensor]:
    return images[..., 1:, :] - images[..., :-1, :], images[..., :, 1:] - images[..., :, :-1]


def build(
    data: Pictures, folder: Path, *, steps: int, seed: int = 0, batch: int = 64, quiet: bool = False
) -> AutoencoderKL:
    """Train, or go on training, for `steps`; the averaged weights come back, the latents scaled to unit variance."""
    torch.manual_seed(seed)
    model = create().to(memory_format=torch.channels_last)
    average = Average(model, 0.998)
    images = torch.from_numpy(data.images)

    def losses(step: int) -> dict[str, Tensor]:
        pixels = to_tensor(images[torch.randint(len(images), (batch,))])
        if torch.rand(()) < 0.5:
            pixels = pixels.flip(3)
        with mixed_precision():
            posterior = model.encode(pixels).latent_dist
            output = model.decode(posterior.sample()).sample
        output = output.float()
        # Edges carry what people see in flat drawings; the plain squared error alone blurs them.
        edge = sum(F.l1_loss(a, b) for a, b in zip(_edges(output), _edges(pixels), strict=True))
        return {
            "pixel": 4 * F.mse_loss(output, pixels) + 0.2 * F.l1_loss(output, pixels),
            "edge": 0.2 * torch.as_tensor(edge),
            "kl": 1e-6 * posterior.kl().float().mean(),
        }

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=2e-3, weight_decay=1e-4, betas=(0.9, 0.99), fused=True
    )
    fit("autoencoder", {"model": model}, [optimizer], losses, steps=steps, seed=seed, average=average,
        checkpoint=folder / "autoencoder.ckpt", quiet=quiet)  # fmt: skip
    average.copy_to(model)
    model.eval()
    with torch.no_grad():
        latents = torch.cat(
            [model.encode(to_tensor(part)).latent_dist.mode() for part in images[:2048].split(256)]
        )
    model.register_to_config(scaling_factor=float(1 / latents.std()), shift_factor=None)
    return model
