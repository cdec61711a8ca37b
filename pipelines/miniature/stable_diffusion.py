"""Put the miniature's parts together as a `StableDiffusionPipeline` folder that diffusers loads by itself."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from negclip_core.clip import Clip
from negclip_core.files import atomic_write_json
from negclip_core.world.tokenizer import words
from pipelines.miniature.half import load_in_float32
from pipelines.miniature.unet import scheduler

__all__ = ["assemble"]

_STEPS, _GUIDANCE_SCALE = 25, 3.0


def assemble(
    clip: Clip, tokenizer: CLIPTokenizer, autoencoder: AutoencoderKL, unet: UNet2DConditionModel, folder: Path,
    dtype: torch.dtype = torch.float16,
) -> None:  # fmt: skip
    """Save the pipeline, and beside it what its folder says of itself (`negclip.json`)."""
    text_encoder = clip.text_encoder()
    assert isinstance(text_encoder, CLIPTextModel)
    pipe = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.to(dtype=dtype).save_pretrained(folder, safe_serialization=True)
    load_in_float32(folder / "text_encoder" / "config.json")
    about = {
        "name": "the miniature",
        "steps": _STEPS,
        "guidance_scale": _GUIDANCE_SCALE,
        "vocabulary": list(words()),
        "knows": "streets, parks, beaches, lakes, farms, kitchens, living rooms and offices, with people, animals and things",
    }
    atomic_write_json(folder / "negclip.json", about)
