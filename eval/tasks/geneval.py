"""Does a swap cost what is asked for? GenEval's prompts, which deny nothing: is each thing there?

name: geneval
kind: generation
measures: correct, the share of pictures that show all that their prompt asks for, in all and by tag; things-there, the share
  of things asked for that are there; the share of pictures identical to the first arm's, and drift, the mean absolute
  difference of pixels / 255
source: Ghosh et al., GenEval, arXiv 2310.11513; prompts/evaluation_metadata.jsonl of djghosh13/geneval
licence: that of djghosh13/geneval; its file is not part of this project
needs: evaluation_metadata.jsonl below --data, a line of "tag", "include" (a list of "class", "count", and "color" or "position"
  where one is asked for) and "prompt" for each prompt; a judge of presence (--judge) is asked for a class, or a coloured one
  ("red car"), so prompts that say how many (counting) or where (position) are left out, and their number is told
  published: GenEval's own detector, Stable Diffusion 1.5: single object .97, two objects .38, colours .76, colour attribution
  .06; overall, the mean of all six tags, .43
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.data import MALFORMED, find_file, read_lines, sentence
from eval.generation import Item, moved, run, seeded, things
from eval.options import Options
from eval.registry import Record, Values
from negclip_core.errors import RequestError
from negclip_core.files import parse_json

__all__ = ["items", "left_out", "measure", "run"]

_FILE = "evaluation_metadata.jsonl"


@dataclass(frozen=True)
class _Prompt:
    """A line of the file. `id` counts lines from 0, as GenEval's folders of pictures do; without labels it is left out."""

    id: str
    prompt: str
    tag: str
    labels: tuple[str, ...]


def items(data: Path, options: Options) -> list[Item]:
    """The prompts that a judge of presence can decide, each with `options.pictures` seeds that no other prompt has.

    A limit counts prompts; one prompt's seeds do not depend on it.

    Raises:
        RequestError: the file has another form, or no such prompt.
    """
    prompts = _read(data)
    if not (decided := [prompt for prompt in prompts if prompt.labels]):
        raise RequestError(
            f"{find_file(data, _FILE)}: none of its {len(prompts)} prompts asks only that things be there"
        )
    return [
        Item(
            f"{row.id}/{which}", row.prompt, seed, row.tag, negated=(), asked=row.labels, place="", affirmative=row.prompt
        )
        for row, which, seed in seeded(decided, options)
    ]  # fmt: skip


def left_out(data: Path) -> dict[str, int]:
    """How many prompts of the file a judge of presence cannot decide, by tag."""
    return dict(Counter(prompt.tag for prompt in _read(data) if not prompt.labels))


def _read(data: Path) -> list[_Prompt]:
    path = find_file(data, _FILE)
    return [_prompt(path, number, line) for number, line in enumerate(read_lines(path)) if line.strip()]


def _prompt(path: Path, number: int, line: str) -> _Prompt:
    try:
        row = parse_json(line)
        return _Prompt(f"{number:05d}", sentence(row, "prompt"), sentence(row, "tag"), _labels(row))
    except (*MALFORMED, RecursionError) as error:
        raise RequestError(
            f"{path}: line {number + 1}: not GenEval's form, an object with tag, prompt and include, a list of things with "
            f"class and count ({error!r})"
        ) from error


def _labels(row: dict[str, Any]) -> tuple[str, ...]:
    """What a judge is asked about; nothing where the prompt says how many, where, or what must not be there."""
    wanted, unwanted = row["include"], row.get("exclude", [])
    if not (isinstance(wanted, list) and isinstance(unwanted, list) and wanted):
        raise ValueError("include or exclude is no list of things")
    labels = [_label(thing) for thing in wanted]
    more = any(thing.get("count", 1) != 1 or "position" in thing for thing in wanted)
    return () if more or unwanted else tuple(dict.fromkeys(labels))


def _label(thing: dict[str, Any]) -> str:
    count = thing.get("count", 1)
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"count is {count!r:.40}, not 1 or more")
    name = sentence(thing, "class")
    return f"{sentence(thing, 'color')} {name}" if "color" in thing else name


def measure(records: list[Record], reference: list[Record], out: Path) -> Values:
    """Units are pictures: "00012/0" is the first of the thirteenth line; of things-there they are things, "00012/0/dog".

    A picture is no unit of correct where the judge says neither yes nor no of one of its things.
    """
    correct = {r["id"]: float(all(r["asked"].values())) for r in records if None not in r["asked"].values()}
    values: Values = {"correct": correct}
    for tag in dict.fromkeys(r["family"] for r in records):
        own = [r["id"] for r in records if r["family"] == tag]
        values[f"correct:{tag}"] = {key: correct[key] for key in own if key in correct}
    return values | {"things-there": things(records, "asked")} | moved(records, reference, out)
