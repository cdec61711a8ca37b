"""Zero-shot classification of any image folder: what an encoder must not lose.

name: zero-shot
kind: understanding
measures: share of images whose class is the one most similar to them (top-1), or among the five most similar (top-5); share
  of ties
source: Radford et al., Learning transferable visual models from natural language supervision (CLIP), ICML 2021: a class is
  the mean of the unit embeddings of its name in several templates
licence: the images' own (ImageNet: for research that is not commercial)
needs: a folder of images for each class below --data (as torchvision's ImageFolder reads: ImageNet's val, CIFAR exported, ...);
  beside these folders, if folder names are no names, class_names.json (an object, folder: name) or class_names.txt (a name a
  line, for the folders in order), and templates.txt (lines with a {} for the name) instead of zero_shot_templates.txt, the
  seven that CLIP's authors recommend
  published: ImageNet, CLIP B/32 62.02, NegationCLIP B/32 60.97 % top-1 (Park et al., ICCV 2025)
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eval.choice import chunks, item_rng, places, refuse_nan, sampled
from eval.data import find_file, read_json, read_lines, sentence
from eval.encoders import Part, Scorer
from eval.options import Options
from eval.registry import Record, Values
from negclip_core.errors import RequestError
from negclip_core.images import SUFFIXES

_CHUNK = 256
_NAMES = ("class_names.json", "class_names.txt")
_TEMPLATES = Path(__file__).with_name("zero_shot_templates.txt")


@dataclass(frozen=True)
class Classes:
    """The names of k classes, and the templates that they are said in."""

    names: tuple[str, ...]
    templates: tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """An image and the index of its class; `among` is a sum of all classes and templates."""

    id: str
    image: Path
    answer: int
    among: int
    classes: Classes = field(repr=False)


def items(data: Path, options: Options) -> list[Item]:
    """The images of all class folders. Raises RequestError for no such folders, or names that do not fit them."""
    listed = _listed(data)
    root = listed.parent if listed else data
    folders = {folder.name: images for folder in sorted(root.iterdir()) if (images := _images(folder))}
    if len(folders) < 2:
        raise RequestError(
            f"{root}: expected two folders of images or more, one a class; found {len(folders)}"
        )
    classes = Classes(_names(listed, list(folders)), _templates(root))
    among = zlib.crc32(repr(classes).encode())
    found = [
        Item(f"{folder}/{image.relative_to(root / folder).as_posix()}", image, index, among, classes)
        for index, (folder, images) in enumerate(folders.items())
        for image in images
    ]
    return sampled(found, options.limit, options.seed)


def _listed(data: Path) -> Path | None:
    """The file of class names, whose folder holds the classes; None where there is none."""
    if not data.is_dir():
        raise RequestError(f"{data}: no such data folder")
    for pattern in _NAMES:
        if any(data.rglob(pattern)):
            return find_file(data, pattern)
    return None


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _names(listed: Path | None, folders: list[str]) -> tuple[str, ...]:
    """A name for each folder, each another."""
    if listed is None:
        names = [folder.replace("_", " ") for folder in folders]
    elif listed.suffix == ".json":
        names = _from_json(listed, folders)
    else:
        names = _lines(listed)
        if len(names) != len(folders):
            raise RequestError(f"{listed}: {len(names)} names for {len(folders)} folders of images")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RequestError(
            f"{listed or 'class folders'}: several classes are called {twice[0]!r}, which no text can tell apart"
        )
    return tuple(names)


def _from_json(listed: Path, folders: list[str]) -> list[str]:
    document = read_json(listed)
    try:
        return [sentence(document, folder) for folder in folders]
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"{listed}: expected an object with a name for every folder of images ({error!r})"
        ) from error


def _templates(root: Path) -> tuple[str, ...]:
    own = root / "templates.txt"
    path = own if own.is_file() else _TEMPLATES
    lines = _lines(path)
    for line in lines:
        if line.count("{}") != 1:
            raise RequestError(
                f"{path}: {line!r}: expected a {{}} where the class's name belongs, once a line"
            )
    if not lines:
        raise RequestError(f"{path}: no template; expected lines such as 'a photo of a {{}}.'")
    return tuple(lines)


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_lines(path) if line.strip()]


def run(items: list[Item], done: set[str], subject: Scorer, options: Options) -> Iterator[list[Record]]:
    """Rank the classes of each image; equal ones share their ranks at random."""
    if done.issuperset(item.id for item in items):
        return
    classes = items[0].classes
    rows = _class_rows(subject, classes)
    for chunk in chunks(items, _CHUNK, done):
        scores = subject.images([Part(item.image) for item in chunk]) @ rows.T
        refuse_nan(scores, subject.name, chunk[0].id)
        yield [_record(item, row, classes, options.seed) for item, row in zip(chunk, scores, strict=True)]


def _class_rows(subject: Scorer, classes: Classes) -> np.ndarray:
    """Unit rows float32 [k, d], a class each; not finite where the subject's are not."""
    said = [template.replace("{}", name) for name in classes.names for template in classes.templates]
    read = subject.texts(said).reshape(len(classes.names), len(classes.templates), -1)
    means = read.mean(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        unit: np.ndarray = means / np.linalg.norm(means, axis=1, keepdims=True)
    return unit


def _record(item: Item, scores: np.ndarray, classes: Classes, seed: int) -> Record:
    found = places(scores.tolist(), item_rng(seed, item.id))
    own = scores[item.answer]
    return {
        "id": item.id, "class": classes.names[item.answer], "picked": classes.names[found.index(0)],
        "rank": found[item.answer] + 1, "score": float(own), "best": float(scores.max()),
        "classes": len(classes.names), "tied": int((scores == own).sum()) > 1,
    }  # fmt: skip


def measure(records: list[Record], reference: list[Record], out: Path) -> Values:
    """Top-1 and top-5 accuracy; share of images of which another class scores as their own does."""
    return {
        "top-1": {r["id"]: float(r["rank"] <= 1) for r in records},
        "top-5": {r["id"]: float(r["rank"] <= 5) for r in records},
        "ties": {r["id"]: float(r["tied"]) for r in records},
    }


def chance(records: list[Record]) -> dict[str, float]:
    """What guessing gets among so many classes."""
    classes = records[0]["classes"]
    return {"top-1": 1 / classes, "top-5": min(1.0, 5 / classes)}
