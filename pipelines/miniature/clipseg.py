"""The miniature's CLIPSeg: the small CLIP's own two towers, and a decoder trained to find what their embeddings mean.

Conditions are vanilla's text embeddings of phrases without negation, and, as CLIPSeg's authors do (Lüddecke & Ecker
2022, section 3.2), points between such a phrase and the embedding of the thing itself, cut out: so the decoder reads the
joint space and not a list of phrases. One condition in six is of something that is not in the picture; its mask is empty.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm
from transformers import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPSegProcessor,
    CLIPTokenizer,
    ViTImageProcessor,
)

from negclip_core.captions.phrasings import article
from negclip_core.clip import Clip
from negclip_core.files import atomic_write_json
from negclip_core.layouts.transformers import text_config, text_weights, vision_config, vision_weights
from negclip_core.precision import mixed_precision
from negclip_core.training.fit import Average, fit, kept
from negclip_core.world.referring import by_noun, referring, unmatched
from negclip_core.world.scenes import Scene
from pipelines.miniature.data import SIZE, Pictures
from pipelines.miniature.half import load_in_float32
from pipelines.miniature.image_tower import MEAN, STD, crops, normalise, span

__all__ = ["assemble", "build", "calibrate", "save"]

_LAYERS = [1, 2, 3]  # whose activations the decoder reads
_REDUCED = 64
_PROMPTED = 0.5  # share of conditions that lie between a phrase and a thing cut out
_ABSENT = 1 / 6
_MARGIN = 0.06  # around a thing that is cut out, in units of its box
_GRID = [round(0.05 * i, 2) for i in range(3, 19)]  # thresholds that are tried


def assemble(clip: Clip) -> CLIPSegForImageSegmentation:
    """A CLIPSeg with a CLIP's towers and an untrained decoder, float32."""
    config = CLIPSegConfig(
        text_config=text_config(clip.config),
        vision_config=vision_config(clip.config),
        projection_dim=clip.config["embed_dim"],
        reduce_dim=_REDUCED,
        extract_layers=_LAYERS,
        decoder_intermediate_size=4 * _REDUCED,
    )
    model = CLIPSegForImageSegmentation(config)
    weights = clip.checkpoint.weights
    towers = text_weights(weights, "text_model.") | vision_weights(weights)
    model.clip.load_state_dict(towers | {"logit_scale": weights["logit_scale"]})
    # transformers draws the decoder's first weights with a deviation of one, from which training does not recover.
    for module in model.decoder.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.ConvTranspose2d):
            module.reset_parameters()
    return model.eval()


def save(model: CLIPSegForImageSegmentation, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the folder that transformers loads: the model in half precision, and its processor."""
    model.half().save_pretrained(folder)
    load_in_float32(folder / "config.json")
    size = {"height": SIZE, "width": SIZE}
    pictures = ViTImageProcessor(size=size, image_mean=[MEAN] * 3, image_std=[STD] * 3)
    CLIPSegProcessor(pictures, tokenizer).save_pretrained(folder)


@dataclass(frozen=True)
class _Phrases:
    """Phrases, the picture each is about, and the things in it that are meant."""

    texts: list[str]
    row: Tensor  # int64 [n]
    meant: Tensor  # int64 [n], bit i: things[i] is; 0: nothing is

    @property
    def there(self) -> Tensor:
        """Whether anything is meant, bool [n]."""
        return self.meant > 0


def _masks(instances: Tensor, meant: Tensor) -> Tensor:
    """Which pixels show what is meant, bool [n, side, side], of pictures' instances uint8 [n, side, side]."""
    shown = instances.long()
    return ((meant[:, None, None] >> (shown - 1).clamp(min=0)) & 1).bool() & (shown > 0)


def _one_of(meant: Tensor) -> Tensor:
    """One bit of each row of int64 [n], drawn at random."""
    if not len(meant):
        return meant
    bits = (meant[:, None] >> torch.arange(int(meant.max()).bit_length())) & 1
    return 1 << torch.multinomial(bits.float(), 1)[:, 0]


def _phrases(scenes: list[Scene], seed: int) -> _Phrases:
    """One phrase for each thing that can be told from its like, one for all of a kind, one for what is not there.

    A phrase that fits several things means all of them, as PhraseCut's do: what "without a hat" is taken from is both.
    """
    rng = np.random.default_rng([seed, 61])
    found: list[tuple[str, int, int]] = []
    for row, scene in enumerate(scenes):
        for index in range(len(scene.things)):
            phrase = referring(scene, index, rng, "train", negated=False)
            if phrase is not None:
                found.append((phrase.text, row, 1 << index))
        for noun, alike in _several(scene).items():
            start = "the" if rng.random() < 0.7 else article(noun)
            found.append((f"{start} {noun}", row, sum(1 << index for index in alike)))
        missing = unmatched(scene, rng, "train", negated=False)
        if missing is not None:
            found.append((missing.text, row, 0))
    texts, rows, meant = zip(*found, strict=True)
    return _Phrases(list(texts), torch.tensor(rows), torch.tensor(meant))


def _several(scene: Scene) -> dict[str, list[int]]:
    """The nouns that more than one thing of a scene has, and those things."""
    return {noun: alike for noun, alike in by_noun(scene).items() if len(alike) > 1}


def _pairs_first(scenes: list[Scene], count: int) -> Tensor:
    """Up to `count` pictures, those with two of a kind first: only there does a phrase have to be read to its end."""
    several = [max(Counter(t.kind for t in s.things).values(), default=0) > 1 for s in scenes]
    return torch.from_numpy(np.argsort(~np.array(several), kind="stable")[:count].copy())


@torch.no_grad()
def _activations(model: CLIPSegForImageSegmentation, images: Tensor, quiet: bool) -> Tensor:
    """What the decoder reads of pictures: float16 [n, layers, patches + 1, width]."""
    out = []
    for part in tqdm(images.split(64), desc="looking at pictures", disable=quiet, mininterval=5):
        with mixed_precision():
            seen = model.clip.vision_model(normalise(part), output_hidden_states=True).hidden_states
        out.append(torch.stack([seen[layer + 1] for layer in _LAYERS], 1).half())
    return torch.cat(out)


@torch.no_grad()
def _words(model: CLIPSegForImageSegmentation, tokenizer: Any, texts: list[str]) -> Tensor:
    """Projected embeddings float32 [n, d], not normalised, equal texts once."""
    distinct = list(dict.fromkeys(texts))
    ids = tokenizer(distinct, padding="longest", return_tensors="pt").input_ids
    rows = torch.cat([model.clip.get_text_features(part).pooler_output for part in ids.split(256)])
    place = {text: row for row, text in enumerate(distinct)}
    return rows[torch.tensor([place[text] for text in texts])]


def _cut_out(images: Tensor, mask: Tensor) -> Tensor:
    """What a mask bool [n, side, side] shows of each picture, with a small margin, stretched: float [n, 3, side, side]."""
    sides = []
    for hits in (mask.any(1), mask.any(2)):
        low, high = span(hits)
        spare = _MARGIN * (high - low)
        sides.append((low - spare, high - low + 2 * spare))
    (left, width), (top, height) = sides
    return crops(normalise(images), torch.stack([left, top, width, height], 1))


def build(
    model: CLIPSegForImageSegmentation, tokenizer: CLIPTokenizer, data: Pictures, scenes: list[Scene], folder: Path, *,
    steps: int, pictures: int, seed: int = 0, batch: int = 128, quiet: bool = False,
) -> None:  # fmt: skip
    """Train the decoder of `model` in place, or go on training it, for `steps`; the towers stay as they are."""
    torch.manual_seed(seed)
    chosen = _pairs_first(scenes, pictures)
    images, instances = (torch.from_numpy(each)[chosen] for each in (data.images, data.instances))
    phrases = _phrases([scenes[int(i)] for i in chosen], seed)
    words = _words(model, tokenizer, phrases.texts)
    length = words.norm(dim=-1).mean()
    seen = kept(folder / "activations.safetensors", lambda: _activations(model, images, quiet))
    present, absent = torch.where(phrases.there)[0], torch.where(~phrases.there)[0]
    average = Average(model.decoder, 0.998)

    def losses(step: int) -> dict[str, Tensor]:
        missing = torch.rand(batch) < _ABSENT
        which = torch.where(missing, absent[torch.randint(len(absent), (batch,))],
                            present[torch.randint(len(present), (batch,))])  # fmt: skip
        rows, meant, condition = phrases.row[which], phrases.meant[which], words[which]
        prompted = (torch.rand(batch) < _PROMPTED) & ~missing
        # A cut-out shows one thing; with a phrase that fits several it says which of them is meant.
        meant[prompted] = _one_of(meant[prompted])
        target = _masks(instances[rows], meant)
        with torch.no_grad():
            shown = _cut_out(images[rows[prompted]], target[prompted])
            looked = model.clip.get_image_features(shown).pooler_output
            # Image embeddings have another length than texts'; the decoder is to read directions alike.
            looked = F.normalize(looked, dim=-1) * length
            condition[prompted] = condition[prompted].lerp(looked, torch.rand(len(looked), 1))
        states = [seen[rows, layer].float() for layer in range(len(_LAYERS))]
        logits = model.decoder(tuple(states), condition).logits
        goal = target.float()
        heat = logits.sigmoid()
        overlap = 1 - (2 * (heat * goal).sum((1, 2)) + 1) / (heat.sum((1, 2)) + goal.sum((1, 2)) + 1)
        return {"pixels": 4 * F.binary_cross_entropy_with_logits(logits, goal), "overlap": overlap.mean()}

    trained = torch.optim.AdamW(model.decoder.parameters(), lr=2e-3, weight_decay=0.01, fused=True)
    fit("clipseg", {"decoder": model.decoder}, [trained], losses, steps=steps, seed=seed, average=average,
        checkpoint=folder / "clipseg.ckpt", quiet=quiet)  # fmt: skip
    average.copy_to(model.decoder)
    model.eval()


@torch.no_grad()
def calibrate(
    model: CLIPSegForImageSegmentation, tokenizer: CLIPTokenizer, data: Pictures, folder: Path
) -> dict[str, float]:
    """Choose on validation drawings from which heat a pixel belongs to a mask, and from which the thing is there.

    `threshold` gives the highest mean IoU; `presence` tells phrases of something that is there from the others best
    (Youden's J). Both are written to `folder`/negclip.json.
    """
    phrases = _phrases(data.scenes(), seed=1)
    words = _words(model, tokenizer, phrases.texts)
    seen = _activations(model, torch.from_numpy(data.images), quiet=True)
    instances = torch.from_numpy(data.instances)
    overlaps, hottest = [], []
    for part in torch.arange(len(phrases.texts)).split(256):
        rows = phrases.row[part]
        states = tuple(seen[rows, layer].float() for layer in range(len(_LAYERS)))
        heat = model.decoder(states, words[part]).logits.sigmoid()
        target = _masks(instances[rows], phrases.meant[part])
        masks = torch.stack([heat >= value for value in _GRID])
        overlaps.append(((masks & target).sum((2, 3)) / (masks | target).sum((2, 3)).clamp(min=1)).T)
        hottest.append(heat.amax((1, 2)))
    there = phrases.there
    threshold = _GRID[int(torch.cat(overlaps)[there].mean(0).argmax())]
    score, order = torch.cat(hottest).sort(descending=True)
    hits = there[order].float().cumsum(0) / there.sum() - (~there[order]).float().cumsum(0) / (~there).sum()
    about = {"threshold": threshold, "presence": round(float(score[hits.argmax()]), 4)}
    atomic_write_json(folder / "negclip.json", about)
    return about
