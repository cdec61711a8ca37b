"""Draw pictures for an evaluation, and have them judged: the same noise for a prompt and seed under every arm, in batches of one shape."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from eval.choice import chunks, sampled
from eval.judges import Answers, Judge
from eval.options import Options
from eval.registry import Record, Values
from integrations.arms import Arm
from negclip_core.errors import RequestError
from negclip_core.files import atomic_path
from negclip_core.images import open_image

__all__ = ["Item", "Painter", "moved", "pixels", "run", "save", "seeded", "things"]

T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """One prompt and seed. `place` is empty where the prompt names none; `affirmative` is it without negations."""

    id: str
    prompt: str
    seed: int
    family: str
    negated: tuple[str, ...]
    asked: tuple[str, ...]
    place: str
    affirmative: str

    @property
    def labels(self) -> tuple[str, ...]:
        """What a judge is asked about."""
        return (*self.negated, *self.asked, *((self.place,) if self.place else ()))


@dataclass(frozen=True)
class Painter:
    """An arm on a host, with the judge of its pictures; they are kept in `folder` below `out`."""

    name: str
    arm: Arm
    pipe: Any  # a diffusers pipeline
    model: str
    judge: Judge
    out: Path
    folder: str
    rest: bool = False  # whether it draws from the affirmative rest instead of the prompt
    second: Judge | None = None  # asked the same, for how far the two agree

    def draw(
        self, texts: Sequence[str], seeds: Sequence[int], batch: int, steps: int, guidance_scale: float
    ) -> list[Image.Image]:
        """One picture for each text and seed, at most `batch` of them, denoised together.

        The batch is filled up to `batch` with copies of the first, because a row's rounding depends on the shape of
        what is computed with it: so a picture is the same bit for bit however many more were wanted.
        """
        spare = batch - len(texts)
        with self.arm.applied(self.pipe, num_inference_steps=steps, guidance_scale=guidance_scale) as draw:
            drawn = draw([*texts, *[texts[0]] * spare], [*seeds, *[seeds[0]] * spare])
        return drawn[: len(texts)]


def save(picture: Image.Image, path: Path, record: dict[str, Any]) -> None:
    """Write a PNG whose text holds prompt, seed, arm and model by themselves, and all of `record` as JSON."""
    text = PngInfo()
    for name in ("prompt", "seed", "arm", "model"):
        text.add_itxt(name, str(record[name]))
    text.add_itxt("negclip", json.dumps(record, ensure_ascii=False, sort_keys=True))
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=text)


def pixels(path: Path) -> np.ndarray:
    """uint8[h, w, 3] of a picture that `save` wrote. Raises RequestError where it cannot be read any more."""
    return np.asarray(open_image(path))


def seeded(prompts: list[T], options: Options) -> Iterator[tuple[T, int, int]]:
    """Prompts in an order drawn by `options.seed`, each with `options.pictures` seeds that no other has: (prompt, which of them, seed).

    A limit counts prompts; one prompt's seeds do not depend on it.
    """
    for position, prompt in enumerate(sampled(prompts, options.limit, options.seed)):
        for which in range(options.pictures):
            yield prompt, which, options.seed + position * options.pictures + which


def run(items: list[Item], done: set[str], subject: Painter, options: Options) -> Iterator[list[Record]]:
    """Draw and judge, in batches whose members never change, so that a resumed run draws the same pictures.

    Raises RequestError where a judge does not know what it is to be asked about.
    """
    _check_labels(items, subject)
    for chunk in chunks(items, options.batch, done):
        texts = [item.affirmative if subject.rest else item.prompt for item in chunk]
        seeds = [item.seed for item in chunk]
        pictures = subject.draw(texts, seeds, options.batch, options.steps, options.guidance_scale)
        shown = _answers(subject.judge, chunk, pictures)
        second = _answers(subject.second, chunk, pictures) if subject.second else [None] * len(chunk)
        records = []
        for item, text, picture, said, other in zip(chunk, texts, pictures, shown, second, strict=True):
            record = _record(item, text, f"{subject.folder}/{item.id.replace('/', '-')}.png", said, other)
            save(picture, subject.out / record["image"], _made(item, text, subject, options))
            records.append(record)
        yield records


def _answers(judge: Judge, chunk: list[Item], pictures: list[Image.Image]) -> list[Answers]:
    stacked = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    return judge.answers(stacked, [item.labels for item in chunk])


def _check_labels(items: list[Item], subject: Painter) -> None:
    named = {label for item in items for label in item.labels}
    for judge in (subject.judge, subject.second):
        if judge is not None and judge.labels and (unknown := named - set(judge.labels)):
            raise RequestError(
                f"the judge does not know {', '.join(sorted(unknown))}; it knows {', '.join(judge.labels)}"
            )


def _made(item: Item, text: str, subject: Painter, options: Options) -> Record:
    """What made a picture, for its PNG text."""
    return {
        "prompt": text, "seed": item.seed, "arm": subject.name, "model": subject.model,
        "steps": options.steps, "guidance_scale": options.guidance_scale,
    }  # fmt: skip


def _record(item: Item, text: str, image: str, shown: Answers, second: Answers | None) -> Record:
    """Answers that were neither yes nor no are null; those of a second judge stand by themselves."""
    record: Record = {
        "id": item.id, "prompt": item.prompt, "text": text, "seed": item.seed, "family": item.family,
        "image": image,
        "negated": {thing: shown[thing] for thing in item.negated},
        "asked": {thing: shown[thing] for thing in item.asked},
        "place": {item.place: shown[item.place]} if item.place else {},
    }  # fmt: skip
    return record if second is None else {**record, "second": second}


def things(records: list[Record], field: str) -> dict[str, float]:
    """Whether each thing that records name under "negated", "asked" or "place" is there, by "item/thing".

    One that the judge says neither yes nor no of is left out.
    """
    return {
        f"{r['id']}/{thing}": float(there)
        for r in records
        for thing, there in r[field].items()
        if there is not None
    }


def moved(records: list[Record], reference: list[Record], out: Path) -> Values:
    """How far pictures are from those of `reference`: "identical", 0 or 1, and "drift", the mean absolute difference of pixels / 255."""
    first: dict[str, Any] = {r["id"]: r["image"] for r in reference}
    drift = {
        r["id"]: float(
            np.abs(pixels(out / r["image"]).astype(int) - pixels(out / first[r["id"]])).mean() / 255
        )
        for r in records
    }
    return {"identical": {key: float(value == 0) for key, value in drift.items()}, "drift": drift}
