"""Generated pictures for people to label: which questions, in which order, and what was said.

Blind: pictures come in an order that a seed fixes and no arm shapes, a picture that several arms share comes once, and
neither its prompt nor what a judge said of it goes along.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from eval.judges import Answers
from eval.judges.labels import LabelFile, picture_key
from eval.judges.questions import question
from eval.registry import Record
from negclip_core.errors import RequestError
from negclip_core.images import open_image

__all__ = ["FILE", "Question", "Sheet"]

FILE = "labels.json"
_KINDS = ("negated", "asked", "place")


@dataclass(frozen=True)
class Question:
    """One picture, known by its `picture_key`, and what is asked about."""

    image: Path
    key: str
    label: str

    @property
    def text(self) -> str:
        """ "Is there a car in the picture?" """
        return question(self.label)


class Sheet:
    """Questions in order, and the label file of their answers; what `give` is told is on the disk when it returns."""

    def __init__(self, questions: list[Question], file: LabelFile) -> None:
        self.questions, self.file, self._lock = questions, file, Lock()

    @classmethod
    def of_run(cls, folder: Path, limit: int | None, seed: int) -> "Sheet":
        """The questions that the records of a run (its --out folder) ask of its pictures, of `limit` of them at most.

        Answers go to `folder`/labels.json; those that are there already are kept.

        Raises:
            RequestError: there are no pictures with records, a record or the label file is of another form.
        """
        asked: dict[str, tuple[Path, dict[str, None]]] = {}
        for record in _drawn(folder):
            image = _inside(folder, str(record["image"]))
            key = picture_key(np.asarray(open_image(image)))
            labels = asked.setdefault(key, (image, {}))[1]
            labels.update(dict.fromkeys(label for kind in _KINDS for label in record[kind]))
        if not asked:
            raise RequestError(
                f"{folder}: no pictures with records; name the --out folder of negclip eval t2i-negation"
            )
        rng, questions = np.random.default_rng(seed), []
        for key in rng.permutation(sorted(asked))[:limit]:
            image, labels = asked[str(key)]
            questions += [Question(image, str(key), str(label)) for label in rng.permutation(sorted(labels))]
        path = folder / FILE
        return cls(questions, LabelFile.read(path) if path.exists() else LabelFile(path, {}, {}))

    def said(self, number: int) -> Answers:
        """The answer to a question by its label; empty where there is none."""
        asked = self.questions[number]
        own = self.file.answers.get(asked.key, {})
        return {asked.label: own[asked.label]} if asked.label in own else {}

    def give(self, number: int, answer: bool | None) -> None:
        """Write down an answer: there, not there, or not to be told."""
        asked = self.questions[number]
        with self._lock:
            self.file.give(asked.key, asked.image, asked.label, answer)

    def next_open(self, after: int = -1) -> int | None:
        """The first question without an answer behind this one, or else before it; None where all have one."""
        numbers = range(len(self.questions))
        return next((n for n in (*numbers[after + 1 :], *numbers[: after + 1]) if not self.said(n)), None)

    @property
    def answered(self) -> int:
        """How many questions have an answer."""
        return sum(bool(self.said(number)) for number in range(len(self.questions)))


def _drawn(folder: Path) -> Iterator[Record]:
    """The records below a run's folder that name a picture. A last line that a kill cut is no record."""
    for path in sorted((folder / "records").glob("*/*.jsonl")):
        lines = path.read_bytes().rpartition(b"\n")[0].splitlines()[1:]
        try:
            records = [json.loads(line) for line in lines]
            yield from (
                record for record in records if "image" in record and all(kind in record for kind in _KINDS)
            )
        except (ValueError, TypeError) as error:
            raise RequestError(f"{path}: not the records of negclip eval ({error})") from error


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RequestError(f"{folder}: a record names {name}, which lies outside of it")
    return path
