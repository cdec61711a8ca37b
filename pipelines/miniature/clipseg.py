"""The miniature's CLIPSeg: the small CLIP's own two towers, and a decoder trained to find what their embeddings mean.

Conditions are vanilla's text embeddings of phrases without negation, and, as CLIPSeg's authors do (Lüddecke & Ecker
2022, section 3.2), points between such a phrase and the embedding of the thing itself, cut out: so the decoder reads the
joint space and not a list of phrases. Where a phrase fits several things, what tells one of them from another is shown as
well: the phrase, moved along the difference of the two cut out, means the first of them; where the picture is drawn anew
without it, nothing. One condition in six is of something that is not in the picture; its mask is empty.
"""

from pathlib import Path
from typing import Any

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

from negclip_core.clip import Clip
from negclip_core.files import atomic_write_json
from negclip_core.layouts.transformers import text_config, text_weights, vision_config, vision_weights
from negclip_core.precision import mixed_precision
from negclip_core.training.fit import Average, fit, kept
from negclip_core.world.scenes import Scene
from pipelines.miniature.data import SIZE, Pictures
from pipelines.miniature.half import load_in_float32
from pipelines.miniature.image_tower import MEAN, STD, crops, normalise, span
from pipelines.miniature.referred import masks, one_of, pairs_first, phrases_of, shown

__all__ = ["assemble", "build", "calibrate", "save"]

_LAYERS = [1, 2, 3]  # whose activations the decoder reads
_REDUCED = 64
_PROMPTED = 0.5  # share of conditions that lie between a phrase and a thing cut out
_APART = 0.2  # share of conditions that are moved along the difference of two things cut out
_AHEAD = (0.5, 2.0)  # how many times that difference
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
    chosen = pairs_first(scenes, pictures)
    ours = [scenes[int(i)] for i in chosen]
    phrases = phrases_of(ours, seed)
    subjects = shown(data, chosen, ours, seed, quiet)
    images, instances = subjects.images, subjects.instances
    words = _words(model, tokenizer, phrases.texts)
    length = words.norm(dim=-1).mean()
    seen = kept(folder / f"activations-{len(images)}.safetensors", lambda: _activations(model, images, quiet))
    present, absent = torch.where(phrases.there)[0], torch.where(~phrases.there)[0]
    several = torch.where(phrases.meant & (phrases.meant - 1) > 0)[0]
    average = Average(model.decoder, 0.998)

    @torch.no_grad()
    def look(rows: Tensor, mask: Tensor) -> Tensor:
        """Embeddings of what a mask shows of pictures, as long as texts' are: the decoder is to read directions alike."""
        looked = model.clip.get_image_features(_cut_out(images[rows], mask)).pooler_output
        return F.normalize(looked, dim=-1) * length

    def losses(step: int) -> dict[str, Tensor]:
        share = torch.rand(batch)
        missing, apart = share < _ABSENT, (share >= _ABSENT) & (share < _ABSENT + _APART)
        among = torch.rand(batch)
        which = torch.empty(batch, dtype=torch.long)
        for mine, of in ((missing, absent), (apart, several), (~missing & ~apart, present)):
            which[mine] = of[(among[mine] * len(of)).long()]
        rows, meant, condition = phrases.row[which], phrases.meant[which], words[which]
        prompted = (torch.rand(batch) < _PROMPTED) & ~missing & ~apart
        # A cut-out shows one thing; with a phrase that fits several it says which of them is meant.
        both = meant[apart]
        meant[prompted | apart] = one_of(meant[prompted | apart])
        target = masks(instances[rows], meant)
        other = masks(instances[rows[apart]], one_of(both & ~meant[apart]))
        between = torch.rand(int(prompted.sum()), 1)
        condition[prompted] = condition[prompted].lerp(look(rows[prompted], target[prompted]), between)
        ahead = look(rows[apart], target[apart]) - look(rows[apart], other)
        condition[apart] += ahead * torch.empty(len(ahead), 1).uniform_(*_AHEAD)
        fewer = subjects.fewer[rows]
        emptier = apart & (torch.rand(batch) < 0.5) & (fewer >= 0)
        rows[emptier] = fewer[emptier]
        target[emptier] = masks(instances[rows[emptier]], meant[emptier])
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
    phrases = phrases_of(data.scenes(), seed=1)
    words = _words(model, tokenizer, phrases.texts)
    seen = _activations(model, torch.from_numpy(data.images), quiet=True)
    instances = torch.from_numpy(data.instances)
    overlaps, hottest = [], []
    for part in torch.arange(len(phrases.texts)).split(256):
        rows = phrases.row[part]
        states = tuple(seen[rows, layer].float() for layer in range(len(_LAYERS)))
        heat = model.decoder(states, words[part]).logits.sigmoid()
        target = masks(instances[rows], phrases.meant[part])
        tried = torch.stack([heat >= value for value in _GRID])
        overlaps.append(((tried & target).sum((2, 3)) / (tried | target).sum((2, 3)).clamp(min=1)).T)
        hottest.append(heat.amax((1, 2)))
    there = phrases.there
    threshold = _GRID[int(torch.cat(overlaps)[there].mean(0).argmax())]
    score, order = torch.cat(hottest).sort(descending=True)
    hits = there[order].float().cumsum(0) / there.sum() - (~there[order]).float().cumsum(0) / (~there).sum()
    about = {"threshold": threshold, "presence": round(float(score[hits.argmax()]), 4)}
    atomic_write_json(folder / "negclip.json", about)
    return about
