"""What a picture looks like before its last step: the latents decoded as they stand."""

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["preview"]


@torch.no_grad()
def preview(pipe: Any, latents: torch.Tensor) -> "Image | None":
    """The first of n latents [n, channels, h, w] as the pipeline's decoder shows it.

    None where the latents are packed otherwise (FLUX), or the decoder has to be cast for each use (Stable Diffusion XL
    in half precision): such hosts show their pictures when they are done.
    """
    config = pipe.vae.config
    half_overflows = latents.dtype == torch.float16 and getattr(config, "force_upcast", False)
    if latents.ndim != 4 or half_overflows:
        return None
    shift = getattr(config, "shift_factor", None) or 0.0
    decoded = pipe.vae.decode(latents[:1] / config.scaling_factor + shift, return_dict=False)[0]
    image: Image = pipe.image_processor.postprocess(decoded, output_type="pil")[0]
    return image
