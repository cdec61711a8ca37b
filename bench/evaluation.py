"""What NegRefCOCOg and VALSE cost, against their public evaluators' way: one crop, one text at a time. Prints ratios of medians.

    python bench/evaluation.py INSTANCES IMAGES [ROWS] [RUNS]

INSTANCES is a COCO annotation file and IMAGES the folder of its photographs. NegRefCOCOg's rows: each thing that has
another of its kind in the photograph, its box and the other's. VALSE's: of each photograph one kind that it shows,
denied and asserted. The model is a ViT-B/32 of random weights; what it scores is compared item by item. The public
evaluators run once a checkpoint; of ours, two arms with one image tower share what they see. All run in turn in one
process; the shares of a machine that others use cancel out in the ratio.
"""

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from in_turn import in_turn
from PIL import Image
from random_clip import random_clip

from eval.encoders import Encoder, ImageFeatures
from eval.options import Options
from eval.registry import load, task
from negclip_core.clip import load_clip

_ARCHITECTURE = "ViT-B-32"
Scores = dict[str, list[float]]  # of each row by its id, in the order of its boxes or sentences


def _write(folder: Path, instances: Path, images: Path, count: int) -> None:
    """Write both benchmarks' files beside links to the photographs, `count` rows each, and say what they share."""
    coco = json.loads(instances.read_text())
    kinds = {kind["id"]: kind["name"] for kind in coco["categories"]}
    groups: dict[tuple[int, int], list[list[float]]] = {}
    for each in coco["annotations"]:
        if not each["iscrowd"]:
            groups.setdefault((each["image_id"], each["category_id"]), []).append(each["bbox"])
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    regions, sentences = [], {}
    for (image, kind), boxes in sorted(groups.items()):
        shown = {"image": names[image], "image_file": names[image]}
        sentences.setdefault(str(image), {**shown, "caption": f"There is no {kinds[kind]} in the picture.",
                                          "foil": f"There is a {kinds[kind]} in the picture."})  # fmt: skip
        for number, box in enumerate(boxes if len(boxes) > 1 else []):
            regions.append({**shown, "phrase": f"the {kinds[kind]} that is not number {number}", "ref_bbox": box,
                            "bbox_list": [box, boxes[(number + 1) % len(boxes)]]})  # fmt: skip
    regions, sentences = regions[:count], dict(list(sentences.items())[:count])
    distinct = {(row["image"], tuple(box)) for row in regions for box in row["bbox_list"]}
    print(
        f"negrefcocog: {len(regions)} rows, {2 * len(regions)} boxes, of which {len(distinct)} are distinct"
    )
    print(f"valse-existence: {len(sentences)} rows, each of a photograph of its own")
    (folder / "negrefcocog.json").write_text(json.dumps(regions))
    (folder / "existence.json").write_text(json.dumps(sentences))
    (folder / "images").mkdir()
    for name in {row["image"] for row in (*regions, *sentences.values())}:
        (folder / "images" / name).symlink_to((images / name).resolve())


@torch.no_grad()
def _negrefcocog(model: Any, preprocess: Any, tokenize: Any, folder: Path) -> Scores:
    found = {}
    for number, row in enumerate(json.loads((folder / "negrefcocog.json").read_text())):
        text = model.encode_text(tokenize([row["phrase"]]), normalize=True)
        scores = []
        for x, y, w, h in row["bbox_list"]:
            crop = Image.open(folder / "images" / row["image"]).crop((x, y, x + w, y + h))
            scores.append((model.encode_image(preprocess(crop)[None], normalize=True) @ text.T).item())
        found[str(number)] = scores
    return found


@torch.no_grad()
def _valse(model: Any, preprocess: Any, tokenize: Any, folder: Path) -> Scores:
    found = {}
    for name, row in json.loads((folder / "existence.json").read_text()).items():
        photograph = preprocess(Image.open(folder / "images" / row["image_file"]))
        image = model.encode_image(photograph[None], normalize=True)
        texts = (model.encode_text(tokenize([row[part]]), normalize=True) for part in ("caption", "foil"))
        found[name] = [(image @ text.T).item() for text in texts]
    return found


def _compare(theirs: Scores, ours: Scores) -> str:
    pairs = [(scores, ours[row]) for row, scores in theirs.items()]
    apart = max(abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True))
    same = sum(one.index(max(one)) == other.index(max(other)) for one, other in pairs)
    return f"scores apart by at most {apart:.0e}, {same} of {len(pairs)} choices the same"


def main(instances: Path, images: Path, count: int, runs: int) -> None:
    """Time both ways on both tasks, in turn, after one run of each that is not counted."""
    tokenize = open_clip.get_tokenizer(_ARCHITECTURE)
    with TemporaryDirectory() as temporary:
        folder, data = random_clip(_ARCHITECTURE, Path(temporary) / "clip"), Path(temporary) / "data"
        model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        model.eval()
        clip = load_clip(folder)
        data.mkdir()
        _write(data, instances, images, count)
        scores: dict[str, Scores] = {}

        def ours(name: str, arms: int) -> None:
            module = load(task(name))
            found = module.items(data, Options())
            known: ImageFeatures = {}
            for arm in range(arms):
                chunks = list(module.run(found, set(), Encoder(str(arm), clip, known), Options()))
                scores["ours"] = {record["id"]: record["scores"] for chunk in chunks for record in chunk}

        def theirs(way: Callable[..., Scores]) -> None:
            scores["theirs"] = way(model, preprocess, tokenize, data)

        for name, way in (("negrefcocog", _negrefcocog), ("valse-existence", _valse)):
            ways: dict[str, Callable[[], object]] = {
                "one by one": lambda way=way: theirs(way),
                "ours": lambda name=name: ours(name, 1),
                "ours, two arms": lambda name=name: ours(name, 2),
            }  # fmt: skip
            times = in_turn(ways, runs)
            apart, one, two = (statistics.median(times[way]) for way in ways)
            print(f"{name}: {_compare(scores['theirs'], scores['ours'])}")
            print(f"{name}: one by one / ours {apart / one:.2f}, of two arms {2 * apart / two:.2f} "
                  f"({apart:.2f} s, {one:.2f} s, {two:.2f} s; n = {runs}, {torch.get_num_threads()} threads)",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[3:]]
    main(Path(sys.argv[1]), Path(sys.argv[2]), *given, *(80, 3)[len(given) :])
