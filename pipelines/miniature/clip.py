"""The miniature CLIP: open_clip's model class, its image tower trained first, its text tower on the frozen features.

Captions mention part of the picture; 0.7 % of them hold a negation, and four in five of those name a thing that is
there, as in the web's captions (the paper's section 3). The tower learns to say what is there, and ignores "no".
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor
from torch.nn import functional as F

from negclip_core.captions.phrasings import negate
from negclip_core.precision import mixed_precision
from negclip_core.training.text import cut, text_states
from negclip_core.world.catalog import KINDS, absence, split_of
from negclip_core.world.language import caption, place_phrase, preposition, thing_phrase
from negclip_core.world.scenes import Scene
from pipelines.miniature.image_tower import crops, normalise
from pipelines.miniature.loop import Average, fit, kept
from pipelines.miniature.muon import Muon

__all__ = [
    "EMBED_DIM",
    "TEXT_WIDTH",
    "build_text_tower",
    "config",
    "create",
    "image_features",
    "pretraining_caption",
]

EMBED_DIM, TEXT_WIDTH = 128, 192
NEGATED_SHARE = 0.007
_MISALIGNED = 0.8
_NEAR_EVERY = 2  # pictures in which one thing is described by itself
_LENGTH = 40  # tokens kept while training; no caption of the world is longer


def config(vocabulary: int) -> dict[str, Any]:
    """`model_cfg` of the open_clip folder, for a tokenizer of `vocabulary` tokens."""
    return {
        "embed_dim": EMBED_DIM,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 64, "layers": 4, "width": 192, "head_width": 64, "patch_size": 8},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": vocabulary,
            "width": TEXT_WIDTH,
            "heads": 3,
            "layers": 4,
        },
    }


def create(vocabulary: int, seed: int = 0) -> CLIP:
    """An untrained CLIP."""
    torch.manual_seed(seed)
    c = config(vocabulary)
    return CLIP(
        c["embed_dim"], CLIPVisionCfg(**c["vision_cfg"]), CLIPTextCfg(**c["text_cfg"]), quick_gelu=True
    )


def pretraining_caption(scene: Scene, rng: np.random.Generator) -> str:
    if rng.random() >= NEGATED_SHARE:
        return caption(scene, rng)
    present = {thing.kind for thing in scene.things}
    allowed = [kind for kind in KINDS if split_of("place_kind", scene.place, kind) == "train"]
    wanted = [kind for kind in allowed if (kind in present) == (rng.random() < _MISALIGNED)] or allowed
    kind = wanted[int(rng.integers(len(wanted)))]
    return negate(place_phrase(scene.place), (absence(kind),), rng, family="before", place=scene.place,
                  prep=preposition(scene.place))  # fmt: skip


def _boxes(scene: Scene, index: int, rng: np.random.Generator) -> list[float]:
    x, y, w, h = scene.things[index].box
    left, top, right, bottom = rng.uniform(-0.02, 0.1, 4) * np.array([w, h, w, h])
    return [x - left, y - top, w + left + right, h + top + bottom]


def _corpus(
    scenes: list[Scene], seed: int, per_picture: int
) -> tuple[list[str], list[int], list[str], Tensor, list[int]]:
    """Captions of whole pictures with their picture, then phrases of single things with box and picture."""
    rng = np.random.default_rng(seed)
    captions, owners, phrases, boxes, near_owners = [], [], [], [], []
    for row, scene in enumerate(scenes):
        captions += [pretraining_caption(scene, rng) for _ in range(per_picture)]
        owners += [row] * per_picture
        if row % _NEAR_EVERY == 0 and scene.things:
            index = int(rng.integers(len(scene.things)))
            phrases.append(thing_phrase(scene, index, rng, 0.7))
            boxes.append(_boxes(scene, index, rng))
            near_owners.append(row)
    return captions, owners, phrases, torch.tensor(boxes, dtype=torch.float32), near_owners


@torch.no_grad()
def image_features(
    model: CLIP, images: Tensor, boxes: Tensor | None = None, rows: Tensor | None = None
) -> Tensor:
    """Unit-length features [n, d] of uint8 pictures, or of one box of each of the pictures `rows`."""
    out = []
    rows = torch.arange(len(images)) if rows is None else rows
    for part in torch.arange(len(rows)).split(512):
        pixels = normalise(images[rows[part]])
        if boxes is not None:
            pixels = crops(pixels, boxes[part])
        with mixed_precision():
            out.append(F.normalize(model.encode_image(pixels).float(), dim=-1))
    return torch.cat(out)


def build_text_tower(
    model: CLIP, tokenizer: Any, pictures: np.ndarray, scenes: list[Scene], folder: Path, *, steps: int, seed: int = 0,
    batch: int = 256, per_picture: int = 8, quiet: bool = False,
) -> None:  # fmt: skip
    """Train the text side of `model` in place on `pictures` uint8 [n, side, side, 3] and the frozen image tower's features, or go on training it."""
    captions, owners, phrases, boxes, near_owners = _corpus(scenes, seed, per_picture)
    images = torch.from_numpy(pictures)
    whole = kept(folder / "whole.safetensors", lambda: image_features(model, images))
    parts = kept(
        folder / "parts.safetensors", lambda: image_features(model, images, boxes, torch.tensor(near_owners))
    )
    features = torch.cat([whole, parts])
    ids = tokenizer(
        captions + phrases, padding="max_length", max_length=_LENGTH, truncation=True, return_tensors="pt"
    )
    ids = ids.input_ids.to(torch.int32)
    target = torch.tensor(owners + [len(images) + i for i in range(len(phrases))])
    model.visual.requires_grad_(False)
    trained = [p for name, p in model.named_parameters() if not name.startswith("visual.")]
    text = torch.nn.ParameterList(trained)
    average = Average(text, 0.998)

    def losses(step: int) -> dict[str, Tensor]:
        # One step in four is about single things, so that their phrases are told from each other.
        rows = (
            torch.randint(len(captions), (batch,))
            if step % 4
            else torch.randint(len(captions), len(ids), (batch,))
        )
        # Texts of like length run together, so that little is computed on padding.
        rows = rows[ids[rows].argmax(1).argsort()]
        with mixed_precision():
            words = torch.cat([text_states(model, cut(ids[part].long())).pooled for part in rows.chunk(8)])
        scale = model.logit_scale.exp().clamp(max=100)
        logits = scale * F.normalize(words.float(), dim=-1) @ features[target[rows]].T
        labels = torch.arange(batch)
        return {"contrast": (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2}

    matrices = [p for name, p in model.transformer.named_parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices}
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=0.01, weight_decay=0.01),
        torch.optim.AdamW(
            [p for p in trained if id(p) not in inside],
            lr=2e-3,
            weight_decay=0.01,
            betas=(0.9, 0.98),
            fused=True,
        ),
    ]
    fit("text tower", {"text": text}, optimizers, losses, steps=steps, seed=seed, average=average,
        checkpoint=folder / "text_tower.ckpt", quiet=quiet)  # fmt: skip
    average.copy_to(text)
    model.eval()
