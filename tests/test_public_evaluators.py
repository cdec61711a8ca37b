"""NegRefCOCOg and VALSE, item by item, against what their public evaluators do: one crop, one text at a time.

The methods are written out as in github.com/parkquasar/NegationCLIP (NegRefCOCOg/negrefcocog_eval.py) and as VALSE
scores CLIP, on a ViT-B/32 of random weights and photographs of several sizes.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from eval.encoders import Encoder
from eval.options import Options
from eval.registry import Record, task
from eval.runner import Subject, run_task
from negclip_core.checkpoints import write_open_clip_folder
from negclip_core.clip import load_clip

SIZES = ((640, 480), (333, 500), (480, 640))
PHRASES = (
    "a man without a hat eating food",
    "a bicycle not in use",
    "the parts not shown behind the wine glass",
)


class Public(NamedTuple):
    """A model with its preprocessing and tokenizer, as the public evaluators hold them."""

    model: Any
    preprocess: Any
    tokenize: Any


@pytest.fixture(scope="module")
def public() -> Public:
    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32")
    return Public(model.eval(), preprocess, open_clip.get_tokenizer("ViT-B-32"))


@pytest.fixture(scope="module")
def ours(public: Public) -> Subject:
    config = open_clip.get_model_config("ViT-B-32")
    # Not in pytest's own folder, which it keeps: this is 600 MB.
    with TemporaryDirectory() as folder:
        write_open_clip_folder(Path(folder), public.model.state_dict(), config, preprocess={}, made_by={})
        clip = load_clip(folder)
        return Subject("ours", {}, lambda _: Encoder("ours", clip))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, boxes with parts of pixels, and sentences, in the public forms."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    regions: list[Record] = []
    sentences: dict[str, Record] = {}
    for number in range(6):
        size, name = SIZES[number % len(SIZES)], f"COCO_train2014_{number:012d}.jpg"
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / name, quality=90)
        width, height = size
        boxes = [[0, 0, width * 0.4192, height], [width * 0.31, 93.38, width * 0.52, height - 150.97],
                 [width - 90.5, height - 60.25, 90.5, 60.25]][: 2 + number % 2]  # fmt: skip
        regions.append({"image": name, "phrase": PHRASES[number % 3], "ref_bbox": boxes[number % 2], "bbox_list": boxes})  # fmt: skip
        pair = [f"There are no dogs near bench {number % 2}.", f"There are dogs near bench {number % 2}."]
        caption, foil = pair if number % 2 else pair[::-1]
        sentences[f"row{number}"] = {"image_file": name, "caption": caption, "foil": foil, "mturk": {"caption": 3}}  # fmt: skip
    (folder / "NegRefCOCOg.json").write_text(json.dumps(regions))
    (folder / "existence.json").write_text(json.dumps(sentences))
    return folder


def _records(name: str, ours: Subject, data: Path, out: Path) -> dict[str, Record]:
    return run_task(task(name), [ours], data, out, Options(), quiet=True).records["ours"]


@torch.no_grad()
def test_negrefcocog_is_the_public_evaluator_s(
    public: Public, ours: Subject, data: Path, tmp_path: Path
) -> None:
    records = _records("negrefcocog", ours, data, tmp_path)
    rows = json.loads((data / "NegRefCOCOg.json").read_text())
    assert len(records) == len(rows)
    for number, row in enumerate(rows):
        text = public.model.encode_text(public.tokenize([row["phrase"]]))
        text = text / text.norm(dim=-1, keepdim=True)
        similarities = []
        for x, y, w, h in row["bbox_list"]:
            crop = Image.open(data / row["image"]).crop((x, y, x + w, y + h))
            image = public.model.encode_image(public.preprocess(crop).unsqueeze(0))
            image = image / image.norm(dim=-1, keepdim=True)
            similarities.append((image @ text.T).item())
        record = records[str(number)]
        assert record["scores"] == pytest.approx(similarities, abs=2e-6)
        picked = row["bbox_list"][int(np.argmax(similarities))]
        assert record["correct"] == (picked == row["ref_bbox"])


@torch.no_grad()
def test_valse_is_the_public_evaluator_s(public: Public, ours: Subject, data: Path, tmp_path: Path) -> None:
    records = _records("valse-existence", ours, data, tmp_path)
    rows = json.loads((data / "existence.json").read_text())
    assert list(records) and set(records) == set(rows)
    scale = public.model.logit_scale.exp()
    for key, row in rows.items():
        image = public.model.encode_image(
            public.preprocess(Image.open(data / row["image_file"])).unsqueeze(0)
        )
        text = public.model.encode_text(public.tokenize([row["caption"], row["foil"]]))
        image, text = (rows / rows.norm(dim=-1, keepdim=True) for rows in (image, text))
        logits = scale * image @ text.T
        right, wrong = logits.softmax(dim=-1)[0].tolist()
        scores = torch.tensor(records[key]["scores"])
        assert (scale * scores).tolist() == pytest.approx(logits[0].tolist(), abs=5e-5)
        assert (scale * scores).softmax(-1).tolist() == pytest.approx([right, wrong], abs=1e-5)
        assert records[key]["correct"] == (right > wrong)
