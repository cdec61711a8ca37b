"""The miniature CLIP: open_clip's model class, and its text tower's pretraining.

Captions mention part of the scene. As in the web's captions (the paper's section 3) 0.7 % of them hold a negation, and
nearly all of those name a thing that is there; and one caption in twenty, with a negation or without, is of another
picture. A thing named after "no" is then as likely in the picture as any thing named: the tower learns to say what is
there, and ignores "no".
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor
from torch.nn import functional as F

from negclip_core.captions.phrasings import negate
from negclip_core.precision import mixed_precision
from negclip_core.training.fit import Average, fit
from negclip_core.training.muon import optimizers
from negclip_core.training.text import cut, text_states
from negclip_core.world.catalog import absence, split_of
from negclip_core.world.language import caption, place_phrase, preposition, thing_phrase
from negclip_core.world.scenes import Scene
from pipelines.miniature.labels import table
from pipelines.miniature.scene_tower import NO_PLACE, SceneTower

__all__ = [
    "EMBED_DIM",
    "TEXT_WIDTH",
    "build_text_tower",
    "config",
    "create",
    "pretraining_caption",
]

EMBED_DIM, TEXT_WIDTH = 128, 192
NEGATED_SHARE = 0.007
_MISPLACED = 0.05  # captions that are of another picture of the same kind of place
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
    """A caption of the scene, once in a while with a thing that is there named after "no"."""
    said = [kind for kind in scene.kinds() if split_of("place_kind", scene.place, kind) == "train"]
    if rng.random() >= NEGATED_SHARE or not said:
        return caption(scene, rng)
    kind = sorted(said)[int(rng.integers(len(said)))]
    return negate(place_phrase(scene.place), (absence(kind),), rng, family="before", place=scene.place,
                  prep=preposition(scene.place))  # fmt: skip


@dataclass(frozen=True)
class _Corpus:
    """Captions of whole pictures, then phrases for single things; `thing` is -1 for a whole picture."""

    texts: list[str]
    scene: Tensor  # int64 [texts]
    thing: Tensor  # int64 [texts]
    whole: int  # how many are captions


def _corpus(scenes: list[Scene], seed: int, per_scene: int) -> _Corpus:
    rng = np.random.default_rng(seed)
    texts = [pretraining_caption(scene, rng) for scene in scenes for _ in range(per_scene)]
    owners = np.repeat(np.arange(len(scenes)), per_scene)
    places: dict[str, list[int]] = {}
    for row, scene in enumerate(scenes):
        places.setdefault(scene.place, []).append(row)
    for text in np.flatnonzero(rng.random(len(owners)) < _MISPLACED):
        like = places[scenes[owners[text]].place]
        owners[text] = like[int(rng.integers(len(like)))]
    rows, things = owners.tolist(), [-1] * len(texts)
    for row, scene in enumerate(scenes):
        if scene.things:
            index = int(rng.integers(len(scene.things)))
            texts.append(thing_phrase(scene, index, rng, 0.7))
            rows.append(row)
            things.append(index)
    return _Corpus(texts, torch.tensor(rows), torch.tensor(things), len(owners))


def build_text_tower(
    model: CLIP, tokenizer: Any, scenes: list[Scene], folder: Path, *, steps: int, seed: int = 0, batch: int = 256,
    per_scene: int = 6, quiet: bool = False,
) -> SceneTower:  # fmt: skip
    """Train the text side of `model` in place by InfoNCE against a scene tower, or go on training both.

    Returns the scene tower, whose embeddings the image tower is to give to pictures.
    """
    torch.manual_seed(seed)
    teacher, labels = SceneTower(EMBED_DIM), table(scenes)
    corpus = _corpus(scenes, seed, per_scene)
    ids = tokenizer(
        corpus.texts, padding="max_length", max_length=_LENGTH, truncation=True, return_tensors="pt"
    )
    ids = ids.input_ids.to(torch.int32)
    text = torch.nn.ParameterList(p for n, p in model.named_parameters() if not n.startswith("visual."))
    towers = torch.nn.ModuleDict({"text": text, "scene": teacher})
    average = Average(towers, 0.998)

    def losses(step: int) -> dict[str, Tensor]:
        # One step in four is about single things, so that their phrases are told from each other.
        rows = (
            torch.randint(corpus.whole, (batch,))
            if step % 4
            else torch.randint(corpus.whole, len(ids), (batch,))
        )
        # Texts of like length run together, so that little is computed on padding.
        rows = rows[ids[rows].argmax(1).argsort()]
        with mixed_precision():
            words = torch.cat([text_states(model, cut(ids[part].long())).pooled for part in rows.chunk(4)])
        scene, thing = corpus.scene[rows], corpus.thing[rows]
        seen = labels.seen(scene, thing)
        shown = teacher(labels.facts[scene], seen, torch.where(thing < 0, labels.place[scene], NO_PLACE))
        scale = model.logit_scale.exp().clamp(max=100)
        logits = scale * F.normalize(words.float(), dim=-1) @ shown.T
        target = torch.arange(batch)
        return {"contrast": (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2}

    matrices = {id(p) for p in model.transformer.parameters() if p.ndim == 2}
    trained = optimizers(towers.named_parameters(), lambda _, p: id(p) in matrices, adam_rate=2e-3)
    fit("text tower", {"towers": towers}, trained, losses, steps=steps, seed=seed, average=average,
        checkpoint=folder / "text_tower.ckpt", quiet=quiet)  # fmt: skip
    average.copy_to(towers)
    model.eval()
    return teacher.requires_grad_(False).eval()
