"""`negclip miniature export`: the drawn world as files in the public data sets' own forms."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from negclip_core.errors import RequestError
from negclip_core.files import atomic_write_text, make_output_folder
from negclip_core.world.catalog import Split
from negclip_core.world.exports.choices import negbench_mcq, negbench_retrieval
from negclip_core.world.exports.coco import captions, instances
from negclip_core.world.exports.denials import cc_neg, simpleneg
from negclip_core.world.exports.existence import celeba_list, valse_existence
from negclip_core.world.exports.geneval import geneval
from negclip_core.world.exports.pictures import Drawn, draw_contrasts, draw_scenes
from negclip_core.world.exports.prompts import prompts
from negclip_core.world.exports.questions import vqa
from negclip_core.world.exports.referring import grefcoco, negrefcocog, refcocog
from negclip_core.world.exports.singles import TEMPLATES, draw_singles
from negclip_core.world.exports.swaps import draw_swaps
from pipelines.console import progress

__all__ = ["LAST", "run"]

T = TypeVar("T")

LAST = "evaluation_metadata.jsonl"  # the file that is written last: a folder that holds it is whole

_SHORT = {"train": "train", "validation": "val", "test": "test"}  # as COCO's and VQA's file names say it


def run(out: Path, images: int, seed: int, split: str = "train", quiet: bool = True) -> dict[str, Any]:
    """Draw `images` pictures of a split and write all files about them.

    Half as many are drawn for NegRefCOCOg, half as many of single things, and a fifth as many pairs of pictures whose
    captions differ by a swap.

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
    half, fifth = -(-images // 2), -(-images // 5)
    with progress(images + 2 * half + fifth, "drawing", quiet) as bar:
        pictures = _all(draw_scenes(folder / "images", chosen, seed, images), bar)
        contrasts = _all(draw_contrasts(folder / "images", chosen, seed, half, images + 1), bar)
        singles = _all(draw_singles(folder / "single_things", chosen, seed, half), bar)
        swaps = _all(draw_swaps(folder / "images", chosen, seed, fifth), bar)
    asked = geneval(chosen, seed, images)
    documents = _documents(pictures, contrasts, chosen, seed, images) | _things_and_swaps(singles, swaps)
    documents["geneval"] = (LAST, _json_lines(asked), len(asked))
    counts, files = {"images": images, "contrast_images": len(contrasts), "swapped_images": 2 * fifth}, {}
    for name, (file, document, count) in documents.items():
        # One line: run lengths would fill a line a number.
        text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
        atomic_write_text(folder / file, text)
        counts[name], files[name] = count, str(folder / file)
    return {"split": split, "seed": seed, "images": str(folder / "images"), "counts": counts, "files": files}


def _all(drawn: Iterator[T], bar: Any) -> list[T]:
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
    denied, triples = cc_neg(pictures, split, seed), simpleneg(pictures, split, seed)
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
        "prompts": ("t2i_prompts.json", texts, len(texts)),
        "cc_neg": ("ccneg_preprocessed.json", denied, len(denied["image_paths"])),
        "simpleneg": ("simpleneg_triples.json", triples, len(triples)),
    }  # fmt: skip


def _things_and_swaps(singles: list[str], swaps: list[dict[str, Any]]) -> dict[str, tuple[str, Any, int]]:
    """The files that go with pictures of their own; `singles` are the kinds of single things, one a picture."""
    return {
        "class_names": ("single_things/class_names.json", {kind: kind for kind in singles}, len(singles)),
        "templates": ("single_things/templates.txt", "\n".join(TEMPLATES) + "\n", len(TEMPLATES)),
        "swaps": ("examples.jsonl", _json_lines(swaps), len(swaps)),
    }


def _json_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
