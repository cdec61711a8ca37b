"""Fine-tuning as `negclip train` does it against a plain loop that encodes each image and pads each caption, every epoch.

    python bench/training.py CAPTIONS IMAGES [ARCHITECTURE] [BATCH] [STEPS]

The plain loop is the public script's method (arXiv 2501.10913): each step opens its images, encodes them, encodes the
captions padded to the whole context, and takes the paper's loss. Both take the same batches, in turn, from the same
random weights; their losses are compared, and their times put together as 15 epochs cost them, the frozen image
features included once. The ceiling is what is left of the arithmetic of both (FLOPs of matrix products).
"""

import itertools
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F

from negclip_core.checkpoints import write_open_clip_folder
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


def _random_clip(architecture: str, folder: Path) -> Path:
    torch.manual_seed(0)
    model = open_clip.create_model(architecture)
    config = open_clip.get_model_config(architecture)
    write_open_clip_folder(folder, model.state_dict(), config, preprocess={}, made_by={})
    return folder


class _Plain:
    """The public script's step, in this repository's words."""

    def __init__(self, clip: Clip, records: list[NegatedCaption], images: Path) -> None:
        recipe = load_recipe("paper")
        self.clip, self.images = clip, images
        self.names = [record.file_name for record in records]
        self.ids = clip.tokenizer([record.negated for record in records])
        for name, parameter in clip.model.named_parameters():
            parameter.requires_grad_(not name.startswith(recipe.frozen))
        trained = [p for p in clip.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate)

    def take_step(self, rows: Tensor) -> float:
        model = self.clip.model
        pixels = torch.stack(
            [self.clip.preprocess(open_image(self.images / self.names[row])) for row in rows]
        )
        images = F.normalize(model.encode_image(pixels), dim=-1)
        texts = F.normalize(model.encode_text(self.ids[rows]), dim=-1)
        logits = model.logit_scale.exp() * images @ texts.T
        labels = torch.arange(len(rows))
        loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def _flops(clip: Clip) -> tuple[float, float]:
    """2 x MAC of one image, and of one token of a text (attention over the text left out: a few per cent)."""
    text, vision = clip.config["text_cfg"], clip.config["vision_cfg"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2 + 1
    width = vision["width"]
    image = patches * vision["layers"] * (24 * width**2 + 4 * patches * width)
    return image, text["layers"] * 24 * text["width"] ** 2


def main(captions: Path, images: Path, architecture: str, batch: int, steps: int) -> None:
    """Time both and print their losses side by side."""
    records = [record for record in read_captions(captions) if record.holds]
    order = itertools.cycle(torch.randperm(len(records), generator=torch.Generator().manual_seed(0)).tolist())
    batches = [torch.tensor(list(itertools.islice(order, batch))) for _ in range(steps)]
    with tempfile.TemporaryDirectory() as folder:
        path = _random_clip(architecture, Path(folder) / "clip")
        plain = _Plain(load_clip(path), records, images)
        ours = load_clip(path)
        started = time.perf_counter()
        names = [record.file_name for record in records]
        features = image_features(ours, images, names, Path(folder) / "features", quiet=True)
        looking = time.perf_counter() - started
        tables = caption_tables(records, ours.tokenizer, Path(folder) / "captions")
        data = TrainingSet.make(tables, features, ours.tokenizer)
        run = Run(ours.model, load_recipe("paper"), data, len(records) // batch)
        seconds: dict[str, list[float]] = {"plain": [], "ours": []}
        apart = 0.0
        for number, rows in enumerate(batches):
            losses = []
            for name, way in (("plain", plain), ("ours", run)):
                start = time.perf_counter()
                losses.append(way.take_step(rows))
                seconds[name].append(time.perf_counter() - start)
            apart = max(apart, abs(losses[1] / losses[0] - 1))
            if number < 5 or number % 10 == 9:
                print(f"step {number + 1}: loss {losses[0]:.6f} and {losses[1]:.6f}", flush=True)
    per_epoch = len(records) / batch
    padded, ragged = (statistics.median(times) * per_epoch for times in seconds.values())
    tokens = float((plain.ids.argmax(1) + 1).float().mean())
    image, token = _flops(ours)
    old = _EPOCHS * (image + _BACKWARD * plain.ids.shape[1] * token)
    new = image * len(features.row) / len(records) + _EPOCHS * _BACKWARD * tokens * token
    ratio = _EPOCHS * padded / (looking + _EPOCHS * ragged)
    print(f"{architecture}, {len(records)} captions of {len(features.row)} images, {tokens:.1f} tokens a caption, "
          f"batch {batch}, {steps} steps")  # fmt: skip
    print(f"losses apart by at most {apart:.1e} of themselves")
    print(f"captions a second: plain {batch / statistics.median(seconds['plain']):.2f}, "
          f"ours {batch / statistics.median(seconds['ours']):.2f}; images looked at in {looking:.1f} s")  # fmt: skip
    print(
        f"{_EPOCHS} epochs: {ratio:.1f} times as fast; arithmetic allows {old / new:.1f} ({ratio * new / old:.0%})"
    )
    print(
        f"peak memory of both together: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
    )


if __name__ == "__main__":
    given = sys.argv[3:]
    main(Path(sys.argv[1]), Path(sys.argv[2]), given[0] if given else "ViT-B-32-quickgelu",
         *(int(number) for number in (given[1:] + ["16", "50"][len(given[1:]):])))  # fmt: skip
