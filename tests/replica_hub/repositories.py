"""Write replicas of published repositories: true file names, configs, tensor names, widths and dtypes, random weights.

    python tests/replica_hub/repositories.py FOLDER        with all blocks of each text encoder, some 12 GB

Text encoders have their true width, vocabulary and, in `FULL`, all their blocks; denoisers, autoencoders and T5 a block
or two with true interfaces to the rest; segmenters are whole. `write` takes the number of blocks that the larger text
encoders are cut to.
"""

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import negclip_core  # noqa: F401  (first, for torchvision beside a CPU torch)

# isort: split
import open_clip
import torch

__all__ = ["FULL", "REPOSITORIES", "write"]

FULL = 99
_BLOCKS = {"B": 12, "L": 12, "H": 24, "bigG": 32}
# width, heads, projection, activation; token 49407 ends a text, and pads it for the first alone
_TEXT = {"B": (512, 8, 512, "quick_gelu"), "L": (768, 12, 768, "quick_gelu"), "H": (1024, 16, 1024, "gelu"),
         "bigG": (1280, 20, 1280, "gelu")}  # fmt: skip
_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _depth(kind: str, blocks: int) -> int:
    """Blocks of a text encoder: all of the smaller ones', by which people's encoders are found, at most `blocks` of others."""
    return _BLOCKS[kind] if kind in ("B", "L") else min(blocks, _BLOCKS[kind])


@cache
def _vocabulary() -> tuple[dict[str, int], str]:
    """CLIP's own words, and the text of its `merges.txt`."""
    own = open_clip.tokenizer.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    words = {names.get(word, word): number for word, number in own.encoder.items()}
    pairs = sorted(own.bpe_ranks, key=own.bpe_ranks.__getitem__)
    return words, "\n".join(["#version: 0.2", *(" ".join(pair) for pair in pairs)]) + "\n"


def _tokenizer(folder: Path, pad: str = "<|endoftext|>") -> Any:
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    words, merges = _vocabulary()
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text(merges)
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token=pad, model_max_length=77
    )


def _clip_text(kind: str, blocks: int, projected: bool, dtype: torch.dtype) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    width, heads, projection, activation = _TEXT[kind]
    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=4 * width, num_attention_heads=heads, projection_dim=projection,
        num_hidden_layers=_depth(kind, blocks), hidden_act=activation,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).to(dtype)


def _t5(dtype: torch.dtype) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(d_model=4096, d_kv=64, num_heads=2, d_ff=64, num_layers=1, vocab_size=32128)
    ).to(dtype)


def _t5_tokenizer() -> Any:
    from transformers import T5TokenizerFast

    words = ["<pad>", "</s>", "<unk>", "▁", *(chr(code) for code in range(32, 127))]
    return T5TokenizerFast(vocab=[(word, -float(rank)) for rank, word in enumerate(words)], extra_ids=0)


def _autoencoder(dtype: torch.dtype, latents: int = 4, **settings: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32,) * 4, layers_per_block=1, latent_channels=latents, sample_size=512, **settings,
    ).to(dtype)  # fmt: skip


def _unet(dtype: torch.dtype, reads: int, sample: int, **settings: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=sample, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=reads,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=8, **settings,
    ).to(dtype)  # fmt: skip


def _stable_diffusion_1(folder: Path, blocks: int) -> None:
    from diffusers import PNDMScheduler, StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    vision = {"hidden_size": 1024, "num_hidden_layers": 1, "num_attention_heads": 16, "patch_size": 14}
    pipe = StableDiffusionPipeline(
        vae=_autoencoder(torch.float32), text_encoder=_clip_text("L", blocks, False, torch.float32),
        tokenizer=_tokenizer(folder / "tokenizer"), unet=_unet(torch.float32, 768, 64),
        scheduler=PNDMScheduler(**_BETAS, skip_prk_steps=True, steps_offset=1),
        safety_checker=StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=768)),
        feature_extractor=CLIPImageProcessor(),
    )  # fmt: skip
    pipe.save_pretrained(folder)


def _turbo(folder: Path, blocks: int) -> None:
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

    scheduler = EulerDiscreteScheduler(**_BETAS, timestep_spacing="trailing", steps_offset=1)
    text_encoder = _clip_text("H", min(blocks, 24) - 1, False, torch.float32)  # without the last block
    pipe = StableDiffusionPipeline(
        vae=_autoencoder(torch.float32), text_encoder=text_encoder, tokenizer=_tokenizer(folder / "tokenizer", "!"),
        unet=_unet(torch.float32, 1024, 64), scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)


def _xl(folder: Path, blocks: int) -> None:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    unet = _unet(
        torch.float32, 2048, 128, addition_embed_type="text_time", addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )  # fmt: skip
    pipe = StableDiffusionXLPipeline(
        vae=_autoencoder(torch.float32, scaling_factor=0.13025), unet=unet,
        text_encoder=_clip_text("L", blocks, False, torch.float32),
        text_encoder_2=_clip_text("bigG", blocks, True, torch.float32), tokenizer=_tokenizer(folder / "tokenizer"),
        tokenizer_2=_tokenizer(folder / "tokenizer_2", "!"),
        scheduler=EulerDiscreteScheduler(**_BETAS, steps_offset=1),
    )  # fmt: skip
    pipe.save_pretrained(folder)


def _three(folder: Path, blocks: int) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    half = torch.bfloat16
    transformer = SD3Transformer2DModel(
        sample_size=128, patch_size=2, in_channels=16, out_channels=16, num_layers=1, attention_head_dim=64,
        num_attention_heads=2, joint_attention_dim=4096, caption_projection_dim=128, pooled_projection_dim=2048,
        pos_embed_max_size=384, qk_norm="rms_norm",
    ).to(half)  # fmt: skip
    pipe = StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_autoencoder(half, 16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip_text("L", blocks, True, half), text_encoder_2=_clip_text("bigG", blocks, True, half),
        text_encoder_3=_t5(half), tokenizer=_tokenizer(folder / "tokenizer"),
        tokenizer_2=_tokenizer(folder / "tokenizer_2", "!"), tokenizer_3=_t5_tokenizer(),
    )  # fmt: skip
    pipe.save_pretrained(folder)


def _flux(folder: Path, blocks: int) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    half = torch.bfloat16
    transformer = FluxTransformer2DModel(
        num_layers=1, num_single_layers=1, attention_head_dim=128, num_attention_heads=2, joint_attention_dim=4096,
        pooled_projection_dim=768, guidance_embeds=False,
    ).to(half)  # fmt: skip
    pipe = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), transformer=transformer,
        vae=_autoencoder(half, 16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip_text("L", blocks, False, half), text_encoder_2=_t5(half),
        tokenizer=_tokenizer(folder / "tokenizer"), tokenizer_2=_t5_tokenizer(),
    )  # fmt: skip
    pipe.save_pretrained(folder)


def _open_clip(kind: str, blocks: int, **vision: Any) -> Any:
    """A CLIP of open_clip's class: the text tower's true sizes, and an image tower of one block where none are named."""
    width, heads, projection, activation = _TEXT[kind]
    text = {"context_length": 77, "vocab_size": 49408, "width": width, "heads": heads,
            "layers": _depth(kind, blocks)}  # fmt: skip
    config = {
        "embed_dim": projection,
        "vision_cfg": {"image_size": 224, "layers": 1, **vision},
        "text_cfg": text,
    }
    if activation == "quick_gelu":
        config["quick_gelu"] = True
    return open_clip.CLIP(**config), config


def _negationclip(folder: Path, blocks: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"ViT-B16": ("B", 12, 768, 16), "ViT-L14": ("L", 24, 1024, 14)}
    for name, (kind, layers, width, patch) in sizes.items():
        model, _ = _open_clip(kind, blocks, layers=layers, width=width, patch_size=patch)
        weights = {key: tensor.half() for key, tensor in model.state_dict().items()}
        torch.save(weights, folder / f"negationclip_{name}.pth")


def _laion(folder: Path, blocks: int) -> None:
    from safetensors.torch import save_file

    _tokenizer(folder)
    model, config = _open_clip("H", blocks, width=1280, head_width=80, patch_size=14)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    save_file(dict(model.state_dict()), folder / "open_clip_model.safetensors")


def _clipseg(folder: Path, blocks: int) -> None:
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, CLIPSegProcessor, ViTImageProcessor

    config = CLIPSegConfig(
        vision_config={"patch_size": 16}, reduce_dim=64, use_complex_transposed_convolution=True
    )
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    size = {"height": 352, "width": 352}
    CLIPSegProcessor(ViTImageProcessor(size=size), _tokenizer(folder)).save_pretrained(folder)


def _sam(folder: Path, blocks: int) -> None:
    from transformers import SamConfig, SamModel

    SamModel(SamConfig()).save_pretrained(folder)


REPOSITORIES: dict[str, Callable[[Path, int], None]] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _stable_diffusion_1,
    "stabilityai/sd-turbo": _turbo,
    "stabilityai/stable-diffusion-xl-base-1.0": _xl,
    "stabilityai/stable-diffusion-3.5-medium": _three,
    "black-forest-labs/FLUX.1-schnell": _flux,
    "jerryray/negationclip": _negationclip,
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": _laion,
    "CIDAS/clipseg-rd64-refined": _clipseg,
    "facebook/sam-vit-base": _sam,
}


def write(root: Path, name: str, blocks: int) -> None:
    """Write a repository below `root`; its ViT-H and bigG text encoders have at most `blocks` blocks, ViT-L's all."""
    torch.manual_seed(0)
    with torch.no_grad():
        REPOSITORIES[name](root / name, blocks)


if __name__ == "__main__":
    for repository in REPOSITORIES:
        print(repository, flush=True)
        write(Path(sys.argv[1]), repository, FULL)
