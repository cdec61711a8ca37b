"""Spoil drawings the ways an autoencoder and a diffusion model spoil pictures: blur, noise, ghosts, warps, colours.

The map of instances moves with the pixels, so that what can still be seen stays known.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Spoiled", "blend_of", "photometric", "spoil"]

_GHOST = 0.3  # the most of another picture that may shine through
_CLEAN_SHARE = 0.15


@dataclass(frozen=True)
class Spoiled:
    """A batch after spoiling."""

    pixels: Tensor  # float [n, 3, h, w] in [0, 1]
    instances: Tensor  # uint8 [n, h, w], as in `negclip_core.world.drawing.Picture`
    ghost: Tensor  # float [n], how much of picture i - 1 (the batch rolled by one) shines through


def _uniform(n: int, low: float, high: float) -> Tensor:
    return torch.rand(n, 1, 1, 1) * (high - low) + low


def _grid(n: int, side: int) -> Tensor:
    """Sampling grid [n, side, side, 2]: mirror, small shift, rotation and zoom, and a smooth elastic warp."""
    mirrored = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    angle, zoom = (torch.rand(n) - 0.5) * 0.16, 1 + (torch.rand(n) - 0.5) * 0.2
    move = (torch.rand(n, 2) - 0.5) * 0.16
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = mirrored * zoom * angle.cos(), -zoom * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = mirrored * zoom * angle.sin(), zoom * angle.cos()
    theta[:, :, 2] = move
    grid = F.affine_grid(theta, [n, 1, side, side], align_corners=False)
    waves = (torch.rand(n, 2, 6, 6) - 0.5) * _uniform(n, 0, 0.14)
    warp = F.interpolate(waves, size=(side, side), mode="bicubic", align_corners=False)
    return grid + warp.permute(0, 2, 3, 1)


def _blurred(pixels: Tensor, sigma: float) -> Tensor:
    radius = int(2.5 * sigma) + 1
    kernel = torch.exp(-torch.arange(-radius, radius + 1).float().square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = F.pad(pixels, (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)


def _resampled(pixels: Tensor, size: int) -> Tensor:
    small = F.interpolate(pixels, size=(size, size), mode="area")
    return F.interpolate(small, size=pixels.shape[2:], mode="bicubic", align_corners=False)


def photometric(pixels: Tensor) -> Tensor:
    """Blur, down-and-up sampling, fine and coarse noise, and colour changes, each picture its own strength."""
    n, side = len(pixels), pixels.shape[2]
    sigma = float(torch.rand(())) * 1.6 + 0.4
    pixels = torch.lerp(pixels, _blurred(pixels, sigma), _uniform(n, -0.6, 1).clamp(min=0))
    size = int(torch.randint(side // 4 + 4, side - 8, ()))
    pixels = torch.lerp(pixels, _resampled(pixels, size), _uniform(n, -1.2, 1).clamp(min=0))
    coarse = F.interpolate(torch.randn(n, 3, 16, 16), size=(side, side), mode="bilinear", align_corners=False)
    pixels = pixels + coarse * _uniform(n, -0.05, 0.09).clamp(min=0)
    pixels = pixels + torch.randn_like(pixels) * _uniform(n, -0.04, 0.06).clamp(min=0)
    middle = pixels.mean((1, 2, 3), keepdim=True)
    grey = pixels.mean(1, keepdim=True)
    pixels = torch.lerp(grey, pixels, _uniform(n, 0.75, 1.2))
    gain = 1 + (torch.rand(n, 3, 1, 1) - 0.5) * 0.12
    return ((pixels - middle) * _uniform(n, 0.75, 1.2) + middle) * gain + _uniform(n, -0.08, 0.08)


def blend_of(ghost: Tensor, pixels: Tensor) -> Tensor:
    """Each picture with `ghost[i]` of its neighbour in the batch shining through."""
    return torch.lerp(pixels, pixels.roll(1, 0), ghost[:, None, None, None])


def _cut_out(pixels: Tensor, instances: Tensor) -> tuple[Tensor, Tensor]:
    """A rectangle of one colour over one picture in four; its pixels show nothing any more."""
    n, side = len(pixels), pixels.shape[2]
    low = torch.rand(n, 2)
    high = low + torch.rand(n, 2) * 0.3
    at = (torch.arange(side) + 0.5) / side
    rows = (at >= low[:, :1]) & (at < high[:, :1])
    columns = (at >= low[:, 1:]) & (at < high[:, 1:])
    inside = rows[:, :, None] & columns[:, None, :] & (torch.rand(n, 1, 1) < 0.25)
    return torch.where(inside[:, None], torch.rand(n, 3, 1, 1), pixels), instances.masked_fill(inside, 0)


def spoil(images: Tensor, instances: Tensor) -> Spoiled:
    """Spoil uint8 images [n, h, w, 3] with instances uint8 [n, h, w]; random numbers come from torch's generator."""
    n, side = len(images), images.shape[1]
    pixels = images.permute(0, 3, 1, 2).float().div(255)
    grid = _grid(n, side)
    warped = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    marks = F.grid_sample(instances[:, None].float(), grid, mode="nearest", align_corners=False)[:, 0]
    warped, marks = _cut_out(warped, marks)
    ghost = (torch.rand(n) * 2 - 1).clamp(min=0) * _GHOST
    spoiled = photometric(blend_of(ghost, warped))
    clean = torch.rand(n) < _CLEAN_SHARE
    ghost = ghost.masked_fill(clean, 0)
    pixels = torch.where(clean[:, None, None, None], warped, spoiled).clamp(0, 1)
    return Spoiled(pixels, marks.to(torch.uint8), ghost)
