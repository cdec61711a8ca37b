"""What NegRefCOCOg and VALSE cost, against their public evaluators' way: one crop, one text at a time. Prints ratios of medians.

    python bench/evaluation.py [ITEMS] [RUNS]

A ViT-B/32 of random weights (speed hangs on shapes alone) on noise of COCO's size: two boxes a phrase as in NegRefCOCOg,
caption and foil as in VALSE. The public evaluators run once a checkpoint; of ours, two arms with one image tower share
what they see. All run in turn in one process; the shares of a machine that others use cancel out in the ratio.
"""

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import open_clip
import torch
from in_turn import in_turn
from PIL import Image

from eval.encoders import Encoder, ImageFeatures
from eval.options import Options
from eval.registry import load, task
from negclip_core.checkpoints import write_open_clip_folder
from negclip_core.clip import load_clip

_ARCHITECTURE = "ViT-B-32"
_SIZE = (640, 480)  # pixels
_BOXES = [[0.0, 0.0, 268.5, 254.3], [149.2, 0.0, 350.8, 288.2]]


def _write(folder: Path, items: int) -> None:
    rng = np.random.default_rng(0)
    regions, sentences = [], {}
    for number in range(items):
        coarse = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(_SIZE).save(folder / f"{number}.jpg")
        regions.append({"image": f"{number}.jpg", "phrase": f"the man in shirt {number} without a hat",
                        "ref_bbox": _BOXES[0], "bbox_list": _BOXES})  # fmt: skip
        sentences[str(number)] = {"image_file": f"{number}.jpg", "caption": f"There are no cars near house {number}.",
                                  "foil": f"There are cars near house {number}."}  # fmt: skip
    (folder / "negrefcocog.json").write_text(json.dumps(regions))
    (folder / "existence.json").write_text(json.dumps(sentences))


@torch.no_grad()
def _negrefcocog(model: Any, preprocess: Any, tokenize: Any, folder: Path) -> None:
    for row in json.loads((folder / "negrefcocog.json").read_text()):
        text = model.encode_text(tokenize([row["phrase"]]), normalize=True)
        for x, y, w, h in row["bbox_list"]:
            crop = Image.open(folder / row["image"]).crop((x, y, x + w, y + h))
            (model.encode_image(preprocess(crop)[None], normalize=True) @ text.T).item()


@torch.no_grad()
def _valse(model: Any, preprocess: Any, tokenize: Any, folder: Path) -> None:
    for row in json.loads((folder / "existence.json").read_text()).values():
        image = model.encode_image(preprocess(Image.open(folder / row["image_file"]))[None], normalize=True)
        for sentence in (row["caption"], row["foil"]):
            (image @ model.encode_text(tokenize([sentence]), normalize=True).T).item()


def main(items: int, runs: int) -> None:
    """Time both ways on both tasks, in turn, after one run of each that is not counted."""
    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms(_ARCHITECTURE)
    model.eval()
    tokenize = open_clip.get_tokenizer(_ARCHITECTURE)
    with TemporaryDirectory() as temporary:
        data, folder = Path(temporary) / "data", Path(temporary) / "clip"
        data.mkdir()
        _write(data, items)
        config = open_clip.get_model_config(_ARCHITECTURE)
        write_open_clip_folder(folder, model.state_dict(), config, preprocess={}, made_by={})
        clip = load_clip(folder)

        def ours(name: str, arms: int) -> None:
            module = load(task(name))
            found = module.items(data, Options())
            known: ImageFeatures = {}
            for arm in range(arms):
                list(module.run(found, set(), Encoder(str(arm), clip, known), Options()))

        theirs: dict[str, Callable[..., None]] = {"negrefcocog": _negrefcocog, "valse-existence": _valse}
        for name, one_by_one in theirs.items():
            ways: dict[str, Callable[[], object]] = {
                "one by one": lambda way=one_by_one: way(model, preprocess, tokenize, data),
                "ours": lambda name=name: ours(name, 1),
                "ours, two arms": lambda name=name: ours(name, 2),
            }  # fmt: skip
            times = in_turn(ways, runs)
            apart, one, two = (statistics.median(times[way]) for way in ways)
            print(f"{name}: one by one / ours {apart / one:.2f}, of two arms {2 * apart / two:.2f} "
                  f"({apart:.2f} s, {one:.2f} s, {two:.2f} s; {items} items, n = {runs}, "
                  f"{torch.get_num_threads()} threads)", flush=True)  # fmt: skip


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    main(*given, *(64, 3)[len(given) :])
