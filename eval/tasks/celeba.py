"""CelebA attribute pairs: "a man with glasses" or "a man without glasses"?

name: celeba
kind: understanding
measures: balanced accuracy of choosing the prompt that says, or the one that denies, an attribute
source: Liu et al., CelebA, ICCV 2015; prompts in celeba_pairs.json, "man" or "woman" by the attribute Male
licence: CelebA is for research that is not commercial
needs: list_attr_celeba.txt and its images below --data; the test partition if list_eval_partition.txt is there;
  as many images with an attribute as without it, at most 250 of each
  published: CLIP L/14 60.8 over the 40 attributes
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from eval.choice import chunks, item_rng, pick, refuse_nan, sampled
from eval.data import find_file, find_image, has_file, read_lines
from eval.encoders import Scorer
from eval.options import Options
from eval.registry import Record, Values
from negclip_core.errors import RequestError

_EACH = 250
_CHUNK = 256
_PARTITION, _TEST = "list_eval_partition.txt", "2"
_PAIRS = Path(__file__).with_name("celeba_pairs.json")


@dataclass(frozen=True)
class Item:
    """An image, an attribute, the two prompts, and whether the attribute is there."""

    id: str
    image: Path
    attribute: str
    prompts: tuple[str, str]
    present: bool


def items(data: Path, options: Options) -> list[Item]:
    """Balanced items; a limit cuts all attributes alike. Raises RequestError for another form."""
    path = find_file(data, "list_attr_celeba.txt", "list_attr*.txt")
    names, flags = _table(path)
    kept = _test_rows(data, list(flags))
    pairs = json.loads(_PAIRS.read_text("utf-8"))
    columns = []
    for column, attribute in enumerate(names):
        if attribute not in pairs:
            raise RequestError(f"{path}: no prompts for the attribute {attribute!r} in {_PAIRS.name}")
        with_it, without = ([f for f in kept if flags[f][column] == present] for present in (True, False))
        each = min(len(with_it), len(without), _EACH)
        for files, present in ((with_it, True), (without, False)):
            columns.append([
                _item(data, file, attribute, pairs[attribute], present, _noun(names, flags[file], attribute))
                for file in sampled(files, each, options.seed)
            ])  # fmt: skip
    rounds = [item for item in chain.from_iterable(zip_longest(*columns)) if item is not None]
    return rounds[: options.limit]


def _table(path: Path) -> tuple[list[str], dict[str, list[bool]]]:
    """CelebA's own form: a count, the attributes' names, then a file name and 1 or -1 for each attribute."""
    lines = read_lines(path)
    try:
        names = lines[1].split()
        flags = {
            words[0]: [int(word) > 0 for word in words[1:]] for line in lines[2:] if (words := line.split())
        }
        if int(lines[0]) != len(flags) or any(len(row) != len(names) for row in flags.values()):
            raise ValueError("counts do not agree")
    except (ValueError, IndexError) as error:
        raise RequestError(
            f"{path}: not CelebA's form, a count, a line of attribute names, then a name and 1 or -1s a line ({error})"
        ) from error
    return names, flags


def _test_rows(data: Path, files: list[str]) -> list[str]:
    """Those of the test partition, wherever below `data` its list lies; all of them without one."""
    if not has_file(data, _PARTITION):
        return files
    rows = [line.split() for line in read_lines(find_file(data, _PARTITION))]
    test = {row[0] for row in rows if row[1:] == [_TEST]}
    return [file for file in files if file in test]


def _noun(names: list[str], flags: list[bool], attribute: str) -> str:
    if "Male" not in names or attribute == "Male":
        return "person"
    return "man" if flags[names.index("Male")] else "woman"


def _item(data: Path, file: str, attribute: str, pair: list[str], present: bool, noun: str) -> Item:
    says, denies = (prompt.format(noun=noun) for prompt in pair)
    return Item(f"{attribute}/{file}", find_image(data, file), attribute, (says, denies), present)


def run(items: list[Item], done: set[str], subject: Scorer, options: Options) -> Iterator[list[Record]]:
    """Choose the prompt that is more similar to the image."""
    for chunk in chunks(items, _CHUNK, done):
        scores = subject.fits([item.image for item in chunk], [item.prompts for item in chunk])
        refuse_nan(scores, subject.name, chunk[0].id)
        yield [_record(item, row, options.seed) for item, row in zip(chunk, scores, strict=True)]


def _record(item: Item, scores: np.ndarray, seed: int) -> Record:
    picked, tied = pick(scores.tolist(), item_rng(seed, item.id))
    return {
        "id": item.id, "attribute": item.attribute, "present": item.present, "scores": scores.tolist(),
        "correct": (picked == 0) == item.present, "tied": tied,
    }  # fmt: skip


def measure(records: list[Record], reference: list[Record], out: Path) -> Values:
    """Accuracy over balanced items, which is balanced accuracy, in all and by attribute; share of ties."""
    values: Values = {"balanced-accuracy": {r["id"]: float(r["correct"]) for r in records}}
    for attribute in dict.fromkeys(r["attribute"] for r in records):
        own = {r["id"]: float(r["correct"]) for r in records if r["attribute"] == attribute}
        values[f"balanced-accuracy:{attribute}"] = own
    return values | {"ties": {r["id"]: float(r["tied"]) for r in records}}


def chance(records: list[Record]) -> dict[str, float]:
    """What guessing gets."""
    return {"balanced-accuracy": 1 / 2}
