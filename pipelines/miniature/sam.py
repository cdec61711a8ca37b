"""The miniature's Segment Anything: segment_anything's own classes at a small size, trained on drawn things.

As its authors do (Kirillov et al. 2023, sections 3 and A): a point, a box or both, moved by some noise, stand for a
thing; of three masks the best one is learned, and a fourth where the prompt leaves no doubt; then the best one so far
is a prompt as well; focal and dice loss 20 to 1; a head learns each mask's IoU. It never reads a text.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from negclip_core.files import atomic_path
from negclip_core.training.fit import Average, fit
from pipelines.miniature.data import SIZE, Pictures
from pipelines.miniature.image_tower import span

__all__ = ["build", "create", "save"]

_PATCH, _WIDTH, _DEPTH, _HEADS, _WINDOW, _GLOBAL = 4, 96, 4, 4, 8, (1, 3)
_PROMPT_WIDTH, _MLP = 64, 256
_PROMPTS = 6  # a picture and step
_SMALLEST = 12  # pixels of a thing that is asked for
_NOISE = 0.1  # standard deviation of a box's sides, in units of the thing
_WAYS = ("point", "box", "both")
_PASSES = 2  # the second one with the first one's mask as a prompt


def create(seed: int) -> Sam:
    """An untrained model for pictures of `SIZE` pixels, float32."""
    torch.manual_seed(seed)
    grid = SIZE // _PATCH
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=SIZE, patch_size=_PATCH, embed_dim=_WIDTH, depth=_DEPTH, num_heads=_HEADS, out_chans=_PROMPT_WIDTH,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), use_rel_pos=True, window_size=_WINDOW,
            global_attn_indexes=_GLOBAL,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=_PROMPT_WIDTH, image_embedding_size=(grid, grid), input_image_size=(SIZE, SIZE), mask_in_chans=16
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3, transformer_dim=_PROMPT_WIDTH, iou_head_hidden_dim=_PROMPT_WIDTH,
            transformer=TwoWayTransformer(depth=2, embedding_dim=_PROMPT_WIDTH, num_heads=8, mlp_dim=_MLP),
        ),
    )  # fmt: skip


def save(model: Sam, folder: Path) -> None:
    """Write `folder`/model.safetensors under segment_anything's names, in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(weights, temporary)


def _asked(instances: Tensor) -> Tensor:
    """Masks bool [prompts, SIZE, SIZE] of things of one picture uint8 [SIZE, SIZE], which has some."""
    things = 1 + torch.where(torch.bincount(instances.flatten().long())[1:] >= _SMALLEST)[0]
    chosen = things[torch.randint(len(things), (_PROMPTS,))]
    return instances[None] == chosen[:, None, None].to(instances.dtype)


def _prompts(masks: Tensor) -> tuple[tuple[Tensor, Tensor] | None, Tensor | None]:
    """A point within each mask, a box around it, or both; pixels, x before y."""
    way = _WAYS[int(torch.randint(len(_WAYS), ()))]
    places = torch.multinomial(masks.flatten(1).float(), 1)
    point = torch.cat([places % SIZE, places // SIZE], 1).float()
    sides = []
    for hits in (masks.any(1), masks.any(2)):
        low, high = span(hits)
        moved = torch.stack([low, high], 1) + _NOISE * (high - low)[:, None] * torch.randn(len(masks), 2)
        sides.append(moved.sort(1).values * SIZE)
    box = torch.stack([sides[0][:, 0], sides[1][:, 0], sides[0][:, 1], sides[1][:, 1]], 1).clamp(0, SIZE)
    points = (point[:, None], torch.ones(len(masks), 1)) if way != "box" else None
    return points, box if way != "point" else None


def _losses(logits: Tensor, quality: Tensor, masks: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """For logits [n, 4, side, side] and predicted IoUs [n, 4]: the first mask's loss, the best one's of the rest, and
    the best one's logits [n, 1, side, side]."""
    goal = masks[:, None].float().expand_as(logits)
    focal = sigmoid_focal_loss(logits, goal).mean((2, 3))
    heat = logits.sigmoid()
    dice = 1 - (2 * (heat * goal).sum((2, 3)) + 1) / (heat.sum((2, 3)) + goal.sum((2, 3)) + 1)
    loss = 20 * focal + dice
    with torch.no_grad():
        found = logits > 0
        both = (found & masks[:, None]).sum((2, 3))
        overlap = both / (found | masks[:, None]).sum((2, 3)).clamp(min=1)
    best = loss[:, 1:].min(1)
    found_losses = {
        "one": loss[:, 0].mean(),
        "best": best.values.mean(),
        "quality": F.mse_loss(quality, overlap),
    }
    return found_losses, logits[torch.arange(len(logits)), 1 + best.indices][:, None].detach()


def build(
    model: Sam,
    data: Pictures,
    folder: Path,
    *,
    steps: int,
    seed: int = 0,
    batch: int = 8,
    quiet: bool = False,
) -> None:
    """Train `model` in place, or go on training it, for `steps` of `batch` pictures with `_PROMPTS` prompts each."""
    images, instances = torch.from_numpy(data.images), torch.from_numpy(data.instances)
    things = instances.flatten(1).amax(1).long()
    enough = (instances > 0).flatten(1).sum(
        1
    ) >= _SMALLEST * things  # so that at least one of them is that large
    full = torch.where(enough & (things > 0))[0]
    average = Average(model, 0.998)

    def losses(step: int) -> dict[str, Tensor]:
        rows = full[torch.randint(len(full), (batch,))]
        pixels = model.preprocess(images[rows].permute(0, 3, 1, 2).float())
        found: list[dict[str, Tensor]] = []
        for row, looked in zip(rows, model.image_encoder(pixels), strict=True):
            masks = _asked(instances[row])
            points, boxes = _prompts(masks)
            before = None
            for _ in range(_PASSES):
                sparse, dense = model.prompt_encoder(points=points, boxes=boxes, masks=before)
                logits, quality = model.mask_decoder.predict_masks(
                    looked[None], model.prompt_encoder.get_dense_pe(), sparse, dense
                )
                each, before = _losses(logits, quality, masks)
                found.append(each)
        return {name: torch.stack([each[name] for each in found]).mean() for name in found[0]}

    trained: list[Any] = [torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)]
    fit("sam", {"sam": model}, trained, losses, steps=steps, seed=seed, average=average,
        checkpoint=folder / "sam.ckpt", quiet=quiet)  # fmt: skip
    average.copy_to(model)
    model.eval()
