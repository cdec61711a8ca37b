"""The miniature CLIP's image tower: a ViT trained by labels, then by the scene tower's embeddings, then frozen.

A ViT this small does not learn to see objects from a caption loss in hours on two cores; labels on every patch and
on the joint embedding teach it in minutes. That is image-side supervision which CLIP itself did not have; negation
is not part of it: the embedding is asked what is there, and the text tower alone meets words.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from negclip_core.precision import mixed_precision
from negclip_core.training.fit import Average, fit
from negclip_core.training.muon import optimizers
from negclip_core.world.catalog import COLOURS, KINDS, PLACES
from negclip_core.world.scenes import Scene
from pipelines.miniature.data import Pictures
from pipelines.miniature.labels import FACTS, MOST_THINGS, ThingTable, table
from pipelines.miniature.scene_tower import NO_PLACE, SceneTower

__all__ = ["MEAN", "STD", "Heads", "augment", "build", "crops", "normalise", "span"]

MEAN, STD = 0.5, 0.5
_GRID = 8  # patches a side


def normalise(images: Tensor) -> Tensor:
    """uint8 [n, h, w, 3] -> float [n, 3, h, w], as the model's preprocessing does it."""
    return images.permute(0, 3, 1, 2).float().div(255).sub(MEAN).div(STD)


def crops(images: Tensor, boxes: Tensor, mode: str = "bilinear") -> Tensor:
    """Cut one box out of each picture and stretch it to the picture's size.

    Args:
        images: float [n, c, h, w].
        boxes: float [n, 4], x, y, w, h in units of the side.
    """
    n, side = len(images), images.shape[-1]
    axis = (torch.arange(side) + 0.5) / side
    x = boxes[:, 0, None] + boxes[:, 2, None] * axis
    y = boxes[:, 1, None] + boxes[:, 3, None] * axis
    grid = torch.stack([x[:, None, :].expand(n, side, side), y[:, :, None].expand(n, side, side)], -1) * 2 - 1
    return F.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False)


def span(hits: Tensor) -> tuple[Tensor, Tensor]:
    """Where bool rows [n, side] begin and end to be true, float [n] each, in units of the side."""
    side = hits.shape[1]
    index = torch.arange(side)
    low = torch.where(hits, index, side).amin(1)
    high = torch.where(hits, index + 1, 0).amax(1)
    return low / side, high / side


def _random_boxes(instances: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
    """A box for each picture: the whole of it (slightly cut), or one of its things with a margin; and which it is."""
    n = len(instances)
    whole = torch.rand(n, 4) * torch.tensor([0.06, 0.06, 0.0, 0.0])
    boxes = torch.stack([whole[:, 0], whole[:, 1], 1 - 2 * whole[:, 0], 1 - 2 * whole[:, 1]], 1)
    counts = (kinds >= 0).sum(1).clamp(min=1)
    chosen = (torch.rand(n) * counts).long() + 1
    mask = instances == chosen[:, None, None].to(instances.dtype)
    rows, columns = mask.any(2), mask.any(1)
    (left, right), (top, bottom) = span(columns), span(rows)
    margin = torch.rand(n, 4) * 0.12 - 0.02
    left, top = left - margin[:, 0] * (right - left), top - margin[:, 1] * (bottom - top)
    right, bottom = right + margin[:, 2] * (right - left), bottom + margin[:, 3] * (bottom - top)
    near = torch.stack([left, top, right - left, bottom - top], 1)
    use = (torch.rand(n) < 0.45) & (mask.sum((1, 2)) > 8)
    return torch.where(use[:, None], near, boxes), use


def augment(images: Tensor) -> Tensor:
    """Mild brightness, contrast and noise, so that blurred or decoded pictures are not strange. Float [n, 3, h, w]."""
    n = len(images)
    scale, shift = 1 + 0.1 * torch.randn(n, 1, 1, 1), 0.05 * torch.randn(n, 1, 1, 1)
    soft = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    blur = torch.rand(n, 1, 1, 1) * (torch.rand(n, 1, 1, 1) < 0.3)
    return (images * (1 - blur) + soft * blur) * scale + shift + 0.02 * torch.randn_like(images)


class Heads(nn.Module):
    """The linear read-outs that the labels supervise; thrown away after training."""

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.patch_kind = nn.Linear(width, len(KINDS) + 1)
        self.patch_colour = nn.Linear(width, len(COLOURS))
        self.patch_fact = nn.Linear(width, len(FACTS))
        self.place = nn.Linear(embed_dim, len(PLACES))
        self.fact = nn.Linear(embed_dim, len(FACTS))


def _dense(
    tokens: Tensor, heads: Heads, cover: Tensor, labels: ThingTable, rows: Tensor
) -> dict[str, Tensor]:
    """Losses on the patch tokens [n, patches, width]; `cover` [n, patches, things + 1] sums to one."""
    kind = labels.kind[rows]
    one_hot = F.one_hot(kind.clamp(min=0), len(KINDS)).float() * (kind >= 0).float()[..., None]
    target = torch.cat([cover[..., :1], cover[..., 1:] @ one_hot], -1)
    kind_loss = -(target * heads.patch_kind(tokens).float().log_softmax(-1)).sum(-1).mean()
    colour = labels.colour[rows]
    tint = F.one_hot(colour.clamp(min=0), len(COLOURS)).float() * (colour >= 0).float()[..., None]
    tint_target = cover[..., 1:] @ tint
    colour_loss = -(tint_target * heads.patch_colour(tokens).float().log_softmax(-1)).sum(-1).mean()
    facts = cover[..., 1:] @ labels.facts[rows].float()
    fact_loss = F.binary_cross_entropy_with_logits(heads.patch_fact(tokens).float(), facts.clamp(0, 1))
    return {"kind": kind_loss, "colour": colour_loss, "fact": 4 * fact_loss}


def _whole(
    embedding: Tensor, heads: Heads, seen: Tensor, labels: ThingTable, rows: Tensor
) -> dict[str, Tensor]:
    """Losses on the joint embedding [n, d]; `seen` bool [n, things] says which things the crop shows."""
    unit = F.normalize(embedding.float(), dim=-1) * 12
    facts = (labels.facts[rows] & seen[..., None]).any(1).float()
    return {
        "place": 0.3 * F.cross_entropy(heads.place(unit), labels.place[rows]),
        "present": 8 * F.binary_cross_entropy_with_logits(heads.fact(unit), facts),
    }


class Aligned:
    """How far embeddings are from those that the scene tower gives, in units of the latter's spread.

    Whitened, so that what few pictures show (a hat) counts as much as what tells all of them apart (the place).
    """

    def __init__(self, teacher: SceneTower, labels: ThingTable) -> None:
        self.teacher, self.labels = teacher, labels
        rows = torch.arange(min(len(labels.place), 8192))
        with torch.no_grad():
            thing = torch.where(rows % 2 == 0, -1, 0)
            known = self._target(rows, labels.seen(rows, thing), thing >= 0)
        self.mean = known.mean(0)
        values, vectors = torch.linalg.eigh((known - self.mean).T.cov())
        self.whiten = vectors / (values.clamp(min=0) + 0.1 * values.mean()).sqrt()

    def _target(self, rows: Tensor, seen: Tensor, near: Tensor) -> Tensor:
        labels = self.labels
        return self.teacher(labels.facts[rows], seen, torch.where(near, NO_PLACE, labels.place[rows]))

    def __call__(self, embedding: Tensor, rows: Tensor, seen: Tensor, near: Tensor) -> Tensor:
        with torch.no_grad():
            target = self._target(rows, seen, near)
        return ((F.normalize(embedding.float(), dim=-1) - target) @ self.whiten).square().mean()


def build(
    visual: nn.Module, heads: Heads, data: Pictures, scenes: list[Scene], checkpoint: Path, *, steps: int,
    teacher: SceneTower | None = None, seed: int = 0, batch: int = 256, quiet: bool = False,
) -> None:  # fmt: skip
    """Train open_clip's VisionTransformer `visual` and its heads in place, or go on training them, for `steps`.

    With a `teacher` the joint embedding is drawn to the scene tower's as well.
    """
    torch.manual_seed(seed)
    labels = table(scenes)
    aligned = Aligned(teacher, labels) if teacher else None
    images, instances = torch.from_numpy(data.images), torch.from_numpy(data.instances)
    average = Average(visual, 0.998)
    trained = optimizers([*visual.named_parameters(), *heads.named_parameters()],
                         lambda name, p: p.ndim == 2 and "resblocks" in name, adam_rate=2e-3)  # fmt: skip
    visual.output_tokens = True  # type: ignore[assignment]

    def losses(step: int) -> dict[str, Tensor]:
        rows = torch.randint(len(images), (batch,))
        picture, instance = normalise(images[rows]), instances[rows]
        boxes, near = _random_boxes(instance, labels.kind[rows])
        ids = torch.arange(MOST_THINGS + 1)
        layers = (instance[:, None] == ids[:, None, None]).float()
        total = layers.sum((2, 3)).clamp(min=1)
        picture, layers = crops(picture, boxes), crops(layers, boxes)
        if torch.rand(()) < 0.5:
            picture, layers = picture.flip(3), layers.flip(3)
        area = boxes[:, 2] * boxes[:, 3]
        seen = (layers.sum((2, 3)) * area[:, None] / total)[:, 1:] > 0.5
        cover = F.avg_pool2d(layers, layers.shape[-1] // _GRID).flatten(2).transpose(1, 2)
        with mixed_precision():
            embedding, tokens = visual(augment(picture))
            found = {
                **_dense(tokens, heads, cover / cover.sum(-1, keepdim=True).clamp(min=1e-6), labels, rows),
                **_whole(embedding, heads, seen, labels, rows),
            }
        return found | ({"aligned": aligned(embedding, rows, seen, near)} if aligned else {})

    fit("image tower", {"visual": visual, "heads": heads}, trained, losses, steps=steps, seed=seed,
        average=average, checkpoint=checkpoint, quiet=quiet)  # fmt: skip
    average.copy_to(visual)
    visual.output_tokens = False  # type: ignore[assignment]
    visual.eval()
