"""Read a Segment Anything model: segment_anything's own checkpoint file, or a transformers folder (`SamModel`).

What a file holds, its names and shapes say; so vit_b, vit_l, vit_h and smaller ones need no name and no configuration.
"""

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from negclip_core.errors import RequestError
from negclip_core.tensor_files import read_tensors

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

__all__ = ["SAM_FILES", "load_sam"]

SAM_FILES = ("model.safetensors", "pytorch_model.bin")  # of a transformers folder, by preference
# transformers' names -> segment_anything's (transformers, models/sam/convert_sam_to_hf.py, the other way round).
_NAMES = (
    (r"^vision_encoder\.layers\.", "image_encoder.blocks."),
    (r"^vision_encoder\.", "image_encoder."),
    (r"patch_embed\.projection", "patch_embed.proj"),
    (r"neck\.conv1", "neck.0"),
    (r"neck\.layer_norm1", "neck.1"),
    (r"neck\.conv2", "neck.2"),
    (r"neck\.layer_norm2", "neck.3"),
    (r"mask_embed\.conv1", "mask_downscaling.0"),
    (r"mask_embed\.layer_norm1", "mask_downscaling.1"),
    (r"mask_embed\.conv2", "mask_downscaling.3"),
    (r"mask_embed\.layer_norm2", "mask_downscaling.4"),
    (r"mask_embed\.conv3", "mask_downscaling.6"),
    (r"prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
    # The same tensor has two names, of which a file holds either or both.
    (
        r"^(prompt_encoder\.shared|shared_image)_embedding\.positional_embedding",
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    (r"upscale_conv1", "output_upscaling.0"),
    (r"upscale_layer_norm", "output_upscaling.1"),
    (r"upscale_conv2", "output_upscaling.3"),
    (r"((?:mlps\.\d|iou_prediction_head)\.)layers\.0\.", r"\1layers.1."),
    (r"((?:mlps\.\d|iou_prediction_head)\.)proj_in\.", r"\1layers.0."),
    (r"((?:mlps\.\d|iou_prediction_head)\.)proj_out\.", r"\1layers.2."),
    (r"layer_norm_final_attn", "norm_final_attn"),
    (r"\.layer_norm(\d)\.", r".norm\1."),
)


def load_sam(path: Path) -> "Sam":
    """segment_anything's `Sam`, float32, in eval mode.

    Raises:
        RequestError: there is no such file or folder, or it holds something else.
    """
    file = next((path / name for name in SAM_FILES if (path / name).is_file()), path)
    if file.is_dir():
        raise RequestError(f"{path}: expected a SAM checkpoint, or a folder with {' or '.join(SAM_FILES)}")
    weights = _canonical(read_tensors(file))
    if "image_encoder.pos_embed" not in weights:
        raise RequestError(
            f"{path}: expected the weights of a Segment Anything model (segment_anything or transformers)"
        )
    try:
        model = _shaped_like(weights)
        model.load_state_dict(weights)
    except (RuntimeError, KeyError, ValueError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RequestError(f"{path}: not a whole Segment Anything model ({reason})") from error
    return model.eval().requires_grad_(False)


def _canonical(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _NAMES if "vision_encoder.pos_embed" in tensors else ():
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor.float()
    return renamed


def _shaped_like(weights: dict[str, Tensor]) -> "Sam":
    """A model of the sizes that the weights have (segment_anything, build_sam.py)."""
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    _, grid, _, width = weights["image_encoder.pos_embed"].shape
    patch = weights["image_encoder.patch_embed.proj.weight"].shape[-1]
    depth = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("image_encoder.blocks."))
    spans = [
        (len(weights[f"image_encoder.blocks.{i}.attn.rel_pos_h"]) + 1) // 2 for i in range(depth)
    ]  # positions a side that a block attends to
    heads = width // weights["image_encoder.blocks.0.attn.rel_pos_h"].shape[1]
    prompts = len(weights["image_encoder.neck.0.weight"])
    mlp = len(weights["image_encoder.blocks.0.mlp.lin1.weight"])
    layers = 1 + max(
        int(name.split(".")[3]) for name in weights if name.startswith("mask_decoder.transformer.layers.")
    )
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=grid * patch,
            patch_size=patch,
            embed_dim=width,
            depth=depth,
            num_heads=heads,
            mlp_ratio=mlp / width,
            out_chans=prompts,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=min(spans),
            global_attn_indexes=tuple(i for i, span in enumerate(spans) if span == grid),
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=prompts,
            image_embedding_size=(grid, grid),
            input_image_size=(grid * patch, grid * patch),
            mask_in_chans=len(weights["prompt_encoder.mask_downscaling.3.weight"]),
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=len(weights["mask_decoder.mask_tokens.weight"]) - 1,
            transformer=TwoWayTransformer(
                depth=layers,
                embedding_dim=prompts,
                num_heads=8,  # no shape tells it; every published SAM has eight
                mlp_dim=len(weights["mask_decoder.transformer.layers.0.mlp.lin1.weight"]),
            ),
            transformer_dim=prompts,
            iou_head_hidden_dim=len(weights["mask_decoder.iou_prediction_head.layers.0.weight"]),
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )
