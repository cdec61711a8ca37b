"""What k expressions on one image cost, against k calls of transformers. Prints ratios of medians.

    python bench/segmentation.py [RUNS]

CLIPSeg of CIDAS/clipseg-rd64-refined's configuration (ViT-B/16 at 352 pixels, random weights: speed hangs on shapes
alone). Both ways run in turn in one process; the shares of a machine that others use cancel out in the ratio.
"""

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from in_turn import in_turn
from PIL import Image
from transformers import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPSegProcessor,
    CLIPTokenizer,
    ViTImageProcessor,
)

from integrations.clipseg import heat_maps
from negclip_core.world.tokenizer import write_tokenizer

_COUNTS = (1, 4, 16)
_SIDE = 352  # pixels


def _model(folder: Path) -> tuple[CLIPSegForImageSegmentation, CLIPSegProcessor]:
    write_tokenizer(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    # CLIPSegConfig's defaults are those of ViT-B/32, and its decoder is CIDAS's.
    config = CLIPSegConfig(
        vision_config={"patch_size": 16, "image_size": 224}, extract_layers=[3, 6, 9], reduce_dim=64
    )
    pictures = ViTImageProcessor(size={"height": _SIDE, "width": _SIDE})
    return CLIPSegForImageSegmentation(config).eval(), CLIPSegProcessor(pictures, tokenizer)


@torch.no_grad()
def _one_by_one(model: Any, processor: Any, image: Image.Image, expressions: list[str]) -> None:
    for text in expressions:
        inputs = processor(text=[text], images=[image], padding="max_length", return_tensors="pt")
        model(**inputs, interpolate_pos_encoding=True).logits.sigmoid()


def main(runs: int) -> None:
    """Time both for each number of expressions, in turn, after one run of each that is not counted."""
    with TemporaryDirectory() as folder:
        model, processor = _model(Path(folder))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8))
    for count in _COUNTS:
        expressions = [f"the man without a hat {number}" for number in range(count)]
        ways: dict[str, Callable[[], object]] = {
            "one by one": lambda texts=expressions: _one_by_one(model, processor, image, texts),
            "together": lambda texts=expressions: heat_maps(model, processor, image, texts),
        }  # fmt: skip
        times = in_turn(ways, runs)
        together, apart = (statistics.median(times[name]) for name in ("together", "one by one"))
        print(f"{count} expressions: together / one by one {together / apart:.2f} "
              f"({together:.2f} s, {apart:.2f} s, n = {runs})", flush=True)  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
