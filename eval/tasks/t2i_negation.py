"""Pictures for prompts with "no": is the negated thing gone, is the rest there, and are other prompts' pictures the same?

name: t2i-negation
kind: generation
measures: presence of negated things, affirmative fidelity of things asked for, by phrasing family; neg-score, the share of
  pictures that show what is to be kept and nothing that is denied; on prompts without negation the share of pictures
  identical to the first arm's, and drift, the mean absolute difference of pixels / 255
main: neg-score
source: this project; pairs of one prompt and seed under each arm, decided by a judge (--judge)
licence: MIT
needs: *prompts*.json below --data, a list of {"id", "prompt", "family", "negated", "asked", "place", "affirmative",
  "split"}; "negated" and "asked" hold labels that the judge knows, "negated" is empty for prompts without negation
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eval.choice import chunks, sampled
from eval.data import MALFORMED, as_text, find_file, read_json
from eval.generation import Painter, pixels, save
from eval.judges import Answers, Judge
from eval.options import Options
from eval.registry import Record, Values
from negclip_core.errors import RequestError


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


def items(data: Path, options: Options) -> list[Item]:
    """The prompts of the split that `options` names, each with `options.pictures` seeds that no other prompt has.

    A limit counts prompts; one prompt's seeds do not depend on it.

    Raises:
        RequestError: the file has another form, or no prompt of that split.
    """
    path = find_file(data, "*prompts*.json")
    try:
        rows = [row for row in read_json(path) if row.get("split", options.split) == options.split]
        chosen = sampled(rows, options.limit, options.seed)
        found = [
            _item(row, which, options.seed + position * options.pictures + which)
            for position, row in enumerate(chosen)
            for which in range(options.pictures)
        ]
    except MALFORMED as error:
        raise RequestError(
            f"{path}: not a list of prompts with id, prompt, family, negated, asked ({error!r})"
        ) from error
    if not found:
        raise RequestError(f"{path}: no prompt of the split {options.split!r}")
    return found


def _item(row: Record, which: int, seed: int) -> Item:
    place, prompt = as_text(row.get("place") or ""), as_text(row["prompt"])
    negated, asked = (tuple(map(as_text, row[name])) for name in ("negated", "asked"))
    return Item(
        f"{row['id']}/{which}", prompt, seed, as_text(row["family"]), negated, asked, place if place in prompt else "",
        as_text(row.get("affirmative") or prompt),
    )  # fmt: skip


def run(items: list[Item], done: set[str], subject: Painter, options: Options) -> Iterator[list[Record]]:
    """Draw and judge, in batches whose members never change, so that a resumed run draws the same pictures."""
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


def measure(records: list[Record], reference: list[Record], out: Path) -> Values:
    """Units are things: "street-7/0/car" is the car of the first picture of prompt street-7.

    A thing that the judge says neither yes nor no of is no unit, nor is the picture where the whole picture is one.
    """
    negated = [r for r in records if r["negated"]]
    plain = [r for r in records if not r["negated"]]
    values: Values = {"negated-present": _things(negated, "negated")}
    families = list(dict.fromkeys(r["family"] for r in negated))
    for family in families:
        values[f"negated-present:{family}"] = _things(
            [r for r in negated if r["family"] == family], "negated"
        )
    values["affirmative-fidelity"] = _things(negated, "asked")
    for family in families:
        values[f"affirmative-fidelity:{family}"] = _things(
            [r for r in negated if r["family"] == family], "asked"
        )
    values["place-right"] = _things(negated, "place")
    values["obeyed-and-kept"] = {
        r["id"]: float(not any(r["negated"].values()) and all(r["asked"].values()))
        for r in negated
        if None not in (*r["negated"].values(), *r["asked"].values())
    }
    values["neg-score"] = _neg_score(negated)
    values["affirmative-fidelity:no-negation"] = _things(plain, "asked")
    values["place-right:no-negation"] = _things(plain, "place")
    return values | _drift(plain, reference, out)


def _neg_score(records: list[Record]) -> dict[str, float]:
    """In the manner of the paper's Neg Score (arXiv 2501.10913), two questions a prompt.

    What is to be kept is there, and what is denied is not: what is asked for, or of a prompt that asks for nothing else the
    place.
    """
    both = {r["id"]: (r["asked"] or r["place"], r["negated"]) for r in records}
    return {
        key: float(all(kept.values()) and not any(denied.values()))
        for key, (kept, denied) in both.items()
        if kept and None not in (*kept.values(), *denied.values())
    }


def _things(records: list[Record], field: str) -> dict[str, float]:
    return {
        f"{r['id']}/{thing}": float(there)
        for r in records
        for thing, there in r[field].items()
        if there is not None
    }


def _drift(records: list[Record], reference: list[Record], out: Path) -> Values:
    first: dict[str, Any] = {r["id"]: r["image"] for r in reference}
    moved = {
        r["id"]: float(
            np.abs(pixels(out / r["image"]).astype(int) - pixels(out / first[r["id"]])).mean() / 255
        )
        for r in records
    }
    return {"identical": {key: float(value == 0) for key, value in moved.items()}, "drift": moved}
