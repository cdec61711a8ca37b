"""`negclip miniature export`: the drawn world as files in the public data sets' own forms."""

import json
from pathlib import Path
from typing import Any

from negclip_core.errors import RequestError
from negclip_core.files import atomic_write_text, make_output_folder
from negclip_core.world.catalog import Split
from negclip_core.world.exports.choices import negbench_mcq, negbench_retrieval
from negclip_core.world.exports.coco import captions, instances
from negclip_core.world.exports.existence import celeba_list, valse_existence
from negclip_core.world.exports.pictures import Drawn, draw_contrasts, draw_scenes
from negclip_core.world.exports.prompts import prompts
from negclip_core.world.exports.questions import vqa
from negclip_core.world.exports.referring import grefcoco, negrefcocog, refcocog
from pipelines.console import progress

__all__ = ["LAST", "run"]

LAST = "t2i_prompts.json"  # the file that is written last: a folder that holds it is whole

_SHORT = {"train": "train", "validation": "val", "test": "test"}  # as COCO's and VQA's file names say it


def run(out: Path, images: int, seed: int, split: str = "train", quiet: bool = True) -> dict[str, Any]:
    """Draw `images` pictures of a split, and half as many for NegRefCOCOg, and write all files about them.

    Returns {"split", "seed", "images": folder, "counts": {name: items}, "files": {name: path}}.

    Raises:
        RequestError: a number or the split is wrong, or the folder cannot be written to.
    """
    if split not in _SHORT:
        raise RequestError(f"--split {split}: expected one of {', '.join(_SHORT)}")
    if images < 1 or seed < 0:
        raise RequestError(
            f"--images {images} --seed {seed}: expected 1 image or more, and a seed of 0 or more"
        )
    folder = make_output_folder(out)
    chosen: Split = split  # type: ignore[assignment]
    make_output_folder(folder / "images")
    with progress(images + -(-images // 2), "drawing", quiet) as bar:
        pictures = _all(draw_scenes(folder / "images", chosen, seed, images), bar)
        contrasts = _all(draw_contrasts(folder / "images", chosen, seed, -(-images // 2), images + 1), bar)
    documents = _documents(pictures, contrasts, chosen, seed, images)
    counts, files = {"images": images, "contrast_images": len(contrasts)}, {}
    for name, (file, document, count) in documents.items():
        # One line: run lengths would fill a line a number.
        text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
        atomic_write_text(folder / file, text)
        counts[name], files[name] = count, str(folder / file)
    return {"split": split, "seed": seed, "images": str(folder / "images"), "counts": counts, "files": files}


def _all(drawn: Any, bar: Any) -> list[Drawn]:
    pictures = []
    for picture in drawn:
        pictures.append(picture)
        bar.update(1)
    return pictures


def _documents(
    pictures: list[Drawn], contrasts: list[Drawn], split: Split, seed: int, count: int
) -> dict[str, tuple[str, Any, int]]:
    """Each file's name, content and number of items."""
    short = _SHORT[split]
    everything = pictures + contrasts
    said, things = captions(pictures, split, seed), instances(everything, split, seed)
    asked, answered = vqa(pictures, split, seed)
    plain, negated = (refcocog(everything, split, seed, negated=flag) for flag in (False, True))
    meant = grefcoco(everything, split, seed)
    lacking, having = negrefcocog(contrasts)
    existence, choices, queries, texts, people = (
        valse_existence(pictures, split, seed),
        negbench_mcq(pictures, split, seed),
        negbench_retrieval(pictures, split, seed),
        prompts(split, seed, count),
        celeba_list(pictures),
    )
    return {
        "captions": (f"captions_{short}.json", said, len(said["annotations"])),
        "instances": (f"instances_{short}.json", things, len(things["annotations"])),
        "refcocog": ("refcocog.json", plain, len(plain)),
        "refcocog_negated": ("refcocog_negated.json", negated, len(negated)),
        "grefcoco": ("grefs.json", meant, len(meant)),
        "vqa_questions": (f"v2_OpenEnded_mscoco_{short}_questions.json", asked, len(asked["questions"])),
        "vqa_annotations": (f"v2_mscoco_{short}_annotations.json", answered, len(answered["annotations"])),
        "existence": ("existence.json", existence, len(existence)),
        "choices": ("mcq.csv", choices, choices.count("\n") - 1),
        "negated_retrieval": ("negated_retrieval.csv", queries, queries.count("\n") - 1),
        "negrefcocog": ("negrefcocog.json", lacking, len(lacking)),
        # Not "negrefcocog_...", which a search for NegRefCOCOg's file would find as well.
        "negrefcocog_affirmative": ("affirmative_negrefcocog.json", having, len(having)),
        "celeba": ("list_attr_celeba.txt", people, int(people.split("\n", 1)[0])),
        "prompts": (LAST, texts, len(texts)),
    }  # fmt: skip
