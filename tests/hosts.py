"""Tiny random pipelines of every host's own classes."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from negclip_core.clip import Clip, load_clip

__all__ = ["HOSTS", "OPTIONS", "PUBLISHED", "drawer", "make_host", "published_host"]

_WORDS = ["a", "street", "with", "no", "cars", "car"]


def _vae(latents: int = 4) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=latents, sample_size=16, shift_factor=0.1,
    )  # fmt: skip


def _one(small: Clip, wide: Clip, tokenizer: Any) -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 16), norm_num_groups=4, layers_per_block=1, attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=64,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=_vae(), text_encoder=small.text_encoder(), tokenizer=tokenizer, unet=unet,
        scheduler=DDIMScheduler(prediction_type="v_prediction", clip_sample=False, steps_offset=1), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip


def _xl(small: Clip, wide: Clip, tokenizer: Any) -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 16), norm_num_groups=4, layers_per_block=1, attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64 + 96, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32 + 6 * 8,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=_vae(), text_encoder=small.text_encoder(), text_encoder_2=wide.text_encoder(projection=True),
        tokenizer=tokenizer, tokenizer_2=copy.deepcopy(tokenizer), unet=unet, scheduler=EulerDiscreteScheduler(),
        add_watermarker=False,
    )  # fmt: skip


def _three(small: Clip, wide: Clip, tokenizer: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=16, out_channels=16, num_layers=1, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=160, caption_projection_dim=32, pooled_projection_dim=64,
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), vae=_vae(16),
        text_encoder=small.text_encoder(projection=True), text_encoder_2=wide.text_encoder(projection=True),
        text_encoder_3=None, tokenizer=tokenizer, tokenizer_2=copy.deepcopy(tokenizer), tokenizer_3=None,
    )  # fmt: skip


def _flux(small: Clip, wide: Clip, tokenizer: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    words = {word: i for i, word in enumerate(["<pad>", "</s>", *_WORDS])}
    inner = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=64, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    five = T5EncoderModel(T5Config(vocab_size=16, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=_vae(), transformer=transformer, tokenizer=tokenizer,
        text_encoder=small.text_encoder(), text_encoder_2=five.eval(),
        tokenizer_2=PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", model_max_length=32),
    )  # fmt: skip


HOSTS: dict[str, Callable[[Clip, Clip, Any], Any]] = {
    "Stable Diffusion 1.x": _one,
    "Stable Diffusion XL": _xl,
    "Stable Diffusion 3.x": _three,
    "FLUX.1": _flux,
}
OPTIONS: dict[str, dict[str, Any]] = {"FLUX.1": {"max_sequence_length": 16}}


def drawer(host: str) -> Callable[..., torch.Tensor]:
    """draw(pipe, prompt or prompts, **options) for a host's pipelines: latents, small, the same noise each time."""

    def draw(pipe: Any, prompt: Any, **options: Any) -> torch.Tensor:
        count = (len(prompt) if isinstance(prompt, list) else 1) * options.get("num_images_per_prompt", 1)
        generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
        sizes = {} if "image" in options else {"height": 16, "width": 16}
        settings = {
            "num_inference_steps": 2,
            "output_type": "latent",
            **sizes,
            **OPTIONS.get(host, {}),
            **options,
        }
        images: torch.Tensor = pipe(prompt=prompt, generator=generators, **settings).images
        return images

    return draw


def make_host(name: str, clip_folder: Path, wide_clip_folder: Path) -> Any:
    """A pipeline whose first text encoder is the CLIP of `clip_folder`, and whose second, if it has one, the wide one."""
    from transformers import CLIPTokenizer

    torch.manual_seed(0)
    pipe = HOSTS[name](
        load_clip(clip_folder), load_clip(wide_clip_folder), CLIPTokenizer.from_pretrained(clip_folder)
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


# Text encoders of the published hosts: (class, width, blocks, heads, projection), by slot.
_L = ("CLIPTextModel", 768, 12, 12, 768)
_L_PROJECTED = ("CLIPTextModelWithProjection", 768, 12, 12, 768)
_BIG_G = ("CLIPTextModelWithProjection", 1280, 32, 20, 1280)
PUBLISHED: dict[str, tuple[str, dict[str, tuple[str, int, int, int, int]]]] = {
    "Stable Diffusion 1.x": ("StableDiffusionPipeline", {"text_encoder": _L}),
    "Stable Diffusion 2.x": (
        "StableDiffusionPipeline",
        {"text_encoder": ("CLIPTextModel", 1024, 23, 16, 512)},
    ),
    "Stable Diffusion XL": ("StableDiffusionXLPipeline", {"text_encoder": _L, "text_encoder_2": _BIG_G}),
    "Stable Diffusion 3.x": (
        "StableDiffusion3Pipeline",
        {"text_encoder": _L_PROJECTED, "text_encoder_2": _BIG_G},
    ),
    "FLUX.1": ("FluxPipeline", {"text_encoder": _L}),
}


class _Words:
    """As much of CLIP's own tokenizer as deciding whether an encoder fits takes."""

    eos_token_id = 49407

    def get_added_vocab(self) -> dict[str, int]:
        return {}


def published_host(name: str) -> Any:
    """The slots of a published host at their true size, without weights."""
    import transformers

    pipeline, slots = PUBLISHED[name]
    pipe = type(pipeline, (), {})()
    for number, (slot, (kind, width, layers, heads, projection)) in enumerate(slots.items()):
        config = transformers.CLIPTextConfig(
            vocab_size=49408, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
            num_attention_heads=heads, projection_dim=projection,
        )  # fmt: skip
        with torch.device("meta"):
            setattr(pipe, slot, getattr(transformers, kind)(config))
        setattr(pipe, "tokenizer" + "_2" * number, _Words())
    return pipe
