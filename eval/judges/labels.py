"""What people said of pictures, as a judge, and the file that holds it.

The file is a JSON list of {"image": path relative to the file's folder, "present": [labels], "absent": [labels], "open":
[labels]}; "open", those that a person looked at and could not tell, may be missing. A picture is known by its pixels,
so a file holds for every run that draws the same pictures.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.judges import Answers
from negclip_core.errors import RequestError
from negclip_core.files import atomic_write_json, parse_json, sha256_file
from negclip_core.images import open_image

__all__ = ["LabelFile", "LabelJudge", "picture_key"]

_FIELDS = {"present": True, "absent": False, "open": None}


def picture_key(pixels: np.ndarray) -> str:
    """What a picture uint8[h, w, 3] is known by: its size and the SHA-256 of its pixels."""
    digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
    return f"{pixels.shape[0]}x{pixels.shape[1]} {digest}"


class LabelFile:
    """The answers in a file, by picture; what is given is on the disk when `give` returns."""

    def __init__(self, path: Path, images: dict[str, str], answers: dict[str, Answers]) -> None:
        self.path, self.images, self.answers = path, images, answers

    @classmethod
    def read(cls, path: Path) -> "LabelFile":
        """Raises RequestError where the file is not there, is of another form, or names a picture that is not there."""
        try:
            entries = parse_json(path.read_text("utf-8"))
            if not isinstance(entries, list):
                raise TypeError(f"got {type(entries).__name__}")
            said = [(str(entry["image"]), _answers(entry)) for entry in entries]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RequestError(
                f"{path}: expected a list of image, present, absent ({type(error).__name__}: {error})"
            ) from error
        images: dict[str, str] = {}
        answers: dict[str, Answers] = {}
        for image, labels in said:
            try:
                key = picture_key(np.asarray(open_image(path.parent / image)))
            except RequestError as error:
                raise RequestError(f"{path}: names a picture that cannot be read ({error})") from error
            images.setdefault(key, image)
            answers.setdefault(key, {}).update(labels)
        return cls(path, images, answers)

    def give(self, key: str, image: Path, label: str, answer: bool | None) -> None:
        """Write down an answer about the picture at `image` whose `picture_key` is `key`."""
        name = Path(os.path.relpath(image, self.path.parent)).as_posix()
        self.images.setdefault(key, name)
        self.answers.setdefault(key, {})[label] = answer
        atomic_write_json(self.path, [_entry(self.images[key], said) for key, said in self.answers.items()])


def _answers(entry: dict[str, Any]) -> Answers:
    found: Answers = {}
    for field, answer in _FIELDS.items():
        labels = entry[field] if field != "open" else entry.get(field, [])
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ValueError(f"{field} of {entry['image']} is no list of labels")
        if twice := found.keys() & set(labels):
            raise ValueError(f"{entry['image']} has two answers to {min(twice)}")
        found |= dict.fromkeys(labels, answer)
    return found


def _entry(image: str, said: Answers) -> dict[str, Any]:
    return {"image": image} | {
        field: [label for label, answer in said.items() if answer is value]
        for field, value in _FIELDS.items()
    }


class LabelJudge:
    """See `eval.judges.Judge`. What nobody answered, or could tell, gets no answer."""

    labels: tuple[str, ...] = ()

    def __init__(self, file: LabelFile, version: str) -> None:
        self.file, self.version = file, version

    @classmethod
    def load(cls, name: str) -> "LabelJudge":
        """Raises RequestError as `LabelFile.read`."""
        path = Path(name).expanduser()
        return cls(LabelFile.read(path), sha256_file(path))

    def answers(self, pictures: np.ndarray, asked: Sequence[Sequence[str]]) -> list[Answers]:
        """See `Judge`."""
        said = [self.file.answers.get(picture_key(picture), {}) for picture in pictures]
        return [{label: own.get(label) for label in labels} for own, labels in zip(said, asked, strict=True)]
