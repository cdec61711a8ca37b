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

from pathlib import Path

from eval.data import MALFORMED, as_text, find_file, read_json
from eval.generation import Item, moved, run, seeded, things
from eval.options import Options
from eval.registry import Record, Values
from negclip_core.errors import RequestError

__all__ = ["items", "measure", "run"]


def items(data: Path, options: Options) -> list[Item]:
    """The prompts of the split that `options` names, each with `options.pictures` seeds that no other prompt has.

    A limit counts prompts; one prompt's seeds do not depend on it.

    Raises:
        RequestError: the file has another form, or no prompt of that split.
    """
    path = find_file(data, "*prompts*.json")
    try:
        rows = [row for row in read_json(path) if row.get("split", options.split) == options.split]
        found = [_item(row, which, seed) for row, which, seed in seeded(rows, options)]
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


def measure(records: list[Record], reference: list[Record], out: Path) -> Values:
    """Units are things: "street-7/0/car" is the car of the first picture of prompt street-7.

    A thing that the judge says neither yes nor no of is no unit, nor is the picture where the whole picture is one.
    """
    negated = [r for r in records if r["negated"]]
    plain = [r for r in records if not r["negated"]]
    values: Values = {"negated-present": things(negated, "negated")}
    families = list(dict.fromkeys(r["family"] for r in negated))
    for family in families:
        values[f"negated-present:{family}"] = things([r for r in negated if r["family"] == family], "negated")
    values["affirmative-fidelity"] = things(negated, "asked")
    for family in families:
        values[f"affirmative-fidelity:{family}"] = things(
            [r for r in negated if r["family"] == family], "asked"
        )
    values["place-right"] = things(negated, "place")
    values["obeyed-and-kept"] = {
        r["id"]: float(not any(r["negated"].values()) and all(r["asked"].values()))
        for r in negated
        if None not in (*r["negated"].values(), *r["asked"].values())
    }
    values["neg-score"] = _neg_score(negated)
    values["affirmative-fidelity:no-negation"] = things(plain, "asked")
    values["place-right:no-negation"] = things(plain, "place")
    return values | moved(plain, reference, out)


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
