"""Fine-tuning as `negclip train` does it against a plain loop that encodes each image and pads each caption, every epoch.

    python bench/training.py CAPTIONS IMAGES [ARCHITECTURE] [BATCH] [STEPS] [--device cuda] [--bf16]

The plain loop is the public script's method (arXiv 2501.10913): each step opens its images, encodes them, encodes the
captions padded to the whole context, and takes the paper's loss, in float32. Both take the same batches, in turn, from the
same random weights; their losses are compared, and their times put together as 15 epochs cost them, the frozen image
features included once. The ceiling is what is left of the arithmetic of both (FLOPs of matrix products). On CUDA the plain
loop opens its images on all cores, and the ratio is also given without the time of that; `--bf16` is ours.
"""

import argparse
import itertools
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from random_clip import random_clip
from torch import Tensor
from torch.nn import functional as F

from negclip_core.clip import Clip, load_clip
from negclip_core.images import open_image
from negclip_core.training.captions_file import NegatedCaption, read_captions
from negclip_core.training.data import TrainingSet
from negclip_core.training.features import image_features
from negclip_core.training.recipe import load_recipe
from negclip_core.training.run import Run
from negclip_core.training.tables import caption_tables

_EPOCHS = 15
_BACKWARD = 2.6  # forward and backward of the text tower, in forwards


class _Plain:
    """The public script's step, in this repository's words."""

    def __init__(self, clip: Clip, records: list[NegatedCaption], images: Path) -> None:
        recipe = load_recipe("paper")
        self.clip, self.images = clip, images
        # On a processor the cores have their hands full with the towers.
        self.pool = ThreadPoolExecutor(1 if clip.device.type == "cpu" else os.cpu_count())
        self.opening: list[float] = []  # seconds of each step
        self.names = [record.file_name for record in records]
        self.ids = clip.tokenizer([record.negated for record in records])
        for name, parameter in clip.model.named_parameters():
            parameter.requires_grad_(not name.startswith(recipe.frozen))
        trained = [p for p in clip.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate)

    def take_step(self, rows: Tensor) -> float:
        model, device = self.clip.model, self.clip.device
        start = time.perf_counter()
        pixels = torch.stack(list(self.pool.map(self._opened, rows.tolist()))).to(device)
        self.opening.append(time.perf_counter() - start)
        images = F.normalize(model.encode_image(pixels), dim=-1)
        texts = F.normalize(model.encode_text(self.ids[rows].to(device)), dim=-1)
        logits = model.logit_scale.exp() * images @ texts.T
        labels = torch.arange(len(rows), device=device)
        loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def _opened(self, row: int) -> Tensor:
        return self.clip.preprocess(open_image(self.images / self.names[row]))


def _peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of this device's matrix products: the best of ten of 8192 x 8192 by 8192 x 8192, random."""
    one, other = (torch.randn(8192, 8192, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(10):
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        one @ other
        torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return 2 * 8192**3 / min(times)


def _seconds(call: Callable[[], float], device: torch.device) -> tuple[float, float]:
    """What a step returns, and how long it took."""
    start = time.perf_counter()
    loss = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return loss, time.perf_counter() - start


def _flops(clip: Clip) -> tuple[float, float]:
    """2 x MAC of one image, and of one token of a text (attention over the text left out: a few per cent)."""
    text, vision = clip.config["text_cfg"], clip.config["vision_cfg"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2 + 1
    width = vision["width"]
    image = patches * vision["layers"] * (24 * width**2 + 4 * patches * width)
    return image, text["layers"] * 24 * text["width"] ** 2


def main(
    captions: Path, images: Path, architecture: str, batch: int, steps: int, device: torch.device, bf16: bool
) -> None:
    """Time both and print their losses side by side."""
    records = [record for record in read_captions(captions) if record.holds]
    order = itertools.cycle(torch.randperm(len(records), generator=torch.Generator().manual_seed(0)).tolist())
    batches = [torch.tensor(list(itertools.islice(order, batch))) for _ in range(steps)]
    with tempfile.TemporaryDirectory() as folder:
        path = random_clip(architecture, Path(folder) / "clip")
        plain = _Plain(load_clip(path, device=device), records, images)
        ours = load_clip(path, device=device)
        if device.type == "cuda":
            # Kernels are loaded at their first use; medians leave the first step out as well.
            ours.encode_pixels(torch.zeros(64, 3, *[ours.config["vision_cfg"]["image_size"]] * 2))
        started = time.perf_counter()
        names = [record.file_name for record in records]
        features = image_features(ours, images, names, Path(folder) / "features", quiet=True)
        looking = time.perf_counter() - started
        tables = caption_tables(records, ours.tokenizer, Path(folder) / "captions")
        data = TrainingSet.make(tables, features, ours.tokenizer, device=device)
        run = Run(ours.model, load_recipe("paper", bf16=bf16), data, len(records) // batch)
        seconds: dict[str, list[float]] = {"plain": [], "ours": []}
        apart = 0.0
        for number, rows in enumerate(batches):
            losses = []
            for name, way in (("plain", plain), ("ours", run)):
                loss, taken = _seconds(partial(way.take_step, rows), device)
                losses.append(loss)
                seconds[name].append(taken)
            apart = max(apart, abs(losses[1] / losses[0] - 1))
            if number < 5 or number % 10 == 9:
                print(f"step {number + 1}: loss {losses[0]:.6f} and {losses[1]:.6f}", flush=True)
    per_epoch = len(records) / batch
    padded, ragged = (statistics.median(times) * per_epoch for times in seconds.values())
    tokens = float((plain.ids.argmax(1) + 1).float().mean())
    image, token = _flops(ours)
    old = _EPOCHS * (image + _BACKWARD * plain.ids.shape[1] * token)
    new = image * len(features.row) / len(records) + _EPOCHS * _BACKWARD * tokens * token
    cost = looking + _EPOCHS * ragged
    ratio = _EPOCHS * padded / cost
    print(f"{architecture}, {len(records)} captions of {len(features.row)} images, {tokens:.1f} tokens a caption, "
          f"batch {batch}, {steps} steps")  # fmt: skip
    print(f"losses apart by at most {apart:.1e} of themselves")
    print(f"captions a second: plain {batch / statistics.median(seconds['plain']):.2f}, "
          f"ours {batch / statistics.median(seconds['ours']):.2f}; images looked at in {looking:.1f} s")  # fmt: skip
    # Between two precisions the arithmetic says nothing.
    allowed = "" if bf16 else f"; arithmetic allows {old / new:.1f} ({ratio * new / old:.0%})"
    print(f"{_EPOCHS} epochs: {ratio:.1f} times as fast{allowed}")
    if device.type == "cuda":
        opening = statistics.median(plain.opening) * per_epoch
        rate = batch / statistics.median(seconds["ours"]) * tokens * _BACKWARD * token
        peak = _peak(device, torch.bfloat16 if bf16 else torch.float32)
        print(
            f"{_EPOCHS} epochs without the plain loop's opening of images: {_EPOCHS * (padded - opening) / cost:.1f} times"
        )
        print(
            f"text tower: {rate / 1e12:.0f} TFLOP/s, {rate / peak:.0%} of this chip's {peak / 1e12:.0f} in large matrix products"
        )
        print(f"{torch.cuda.get_device_name(device)}, peak memory of both together: "
              f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB")  # fmt: skip
    else:
        print(
            f"peak memory of both together: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("captions", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("architecture", nargs="?", default="ViT-B-32-quickgelu")
    parser.add_argument("batch", type=int, nargs="?", default=16)
    parser.add_argument("steps", type=int, nargs="?", default=50)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--bf16", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main(**vars(_arguments()))
