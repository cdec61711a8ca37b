"""A model card in Markdown for the hub, with the figures of the report.

Its head has no "model-index": that names data sets of the hub, and says nothing of pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.arms import BLIND
from eval.markup import count, interval, p_value, signed
from eval.runner import TaskResult
from negclip_core.models import resolve, shipped

__all__ = ["CardOf", "card_of", "model_card"]

_TAGS = ("clip", "negation", "negationclip", "text-encoder")


@dataclass(frozen=True)
class CardOf:
    """What a card is of: an arm, and its encoder's source. What is not known is None, and stays out of the head."""

    arm: str
    source: str
    license: str
    library: str
    base: str | None  # the hub's name of the model that it was tuned from


def card_of(arm: str, source: str, base: str | None) -> CardOf:
    """What can be said of an arm's encoder and of the CLIP that it was tuned from, by their names as `load_clip` takes them."""
    folder = Path(resolve(source))
    library = "negclip"
    for file, name in (("open_clip_config.json", "open_clip"), ("config.json", "transformers")):
        if (folder / file).is_file():
            library = name
            break
    licence = "mit" if source in shipped() else "unknown"
    return CardOf(arm, source, licence, library, _on_the_hub(base) if base else None)


def _on_the_hub(name: str) -> str | None:
    """The hub's name of a CLIP; None for one that is not there."""
    architecture, colon, tag = name.partition(":")
    if colon:
        from negclip_core.hub import pretrained_repository

        return pretrained_repository(architecture, tag)
    found = resolve(name)
    return found if isinstance(found, str) else None


def model_card(
    results: list[TaskResult], settings: dict[str, Any], of: CardOf, suite: dict[str, Any] | None = None
) -> str:
    """The card's text. `settings` and `suite` are the report's."""
    parts = [
        f"---\n{_head(of)}\n---",
        f"# {of.arm}",
        f"The text encoder `{of.source}`, measured by `negclip eval`: does a negation hold, and was anything lost?",
        f'```python\nfrom negclip_core import load_clip\n\nencoder = load_clip("{of.source}")\n```',
        "## In short",
        "Each task's main metric, in pairs against the first arm; 95 % intervals, p corrected by Holm over this table's family.",
        _short(results, of.arm),
    ]
    parts += _orderings(suite) if suite else []
    for result in results:
        parts += [f"## {result.task.name}", f"{result.task.measures}. n = {result.n}.", _figures(result)]
        parts += [f"    {result.command}"] if result.command else []
    made = [[f"`{key}`", str(value)] for key, value in settings.items() if key != "made_by"]
    made += [[f"`{key}`", str(value)] for key, value in settings.get("made_by", {}).items()]
    return "\n\n".join([*parts, "## Made with", _table(["", ""], made)]) + "\n"


def _head(of: CardOf) -> str:
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        license=of.license, base_model=of.base, library_name=of.library,
        pipeline_tag="zero-shot-image-classification", tags=list(_TAGS), language="en",
    )  # fmt: skip
    return str(data.to_yaml())


def _short(results: list[TaskResult], arm: str) -> str:
    rows = []
    for result in results:
        first = next((name for name in result.arms if name not in BLIND), "")
        row = result.paired.get(f"{first} -> {arm}", {}).get(result.main)
        if row:
            values = [interval(result.arms[name][result.main]) for name in (first, arm)]
            rows.append(
                [
                    result.task.name,
                    result.main,
                    count(row),
                    *values,
                    signed(row),
                    p_value(row["p_holm"]),
                ]
            )
    return _table(["task", "metric", "n", "first arm", arm, "difference in pairs", "p (Holm)"], rows)


def _orderings(suite: dict[str, Any]) -> list[str]:
    rows = [
        [part["title"], row["metric"], row["says"], f"{row['first']} → {row['second']}", signed(row["paired"]), row["verdict"]]
        for part in suite["tables"]
        for row in part["rows"]
    ]  # fmt: skip
    head = ["table", "metric", "the source", "arms", "difference in pairs", "ordering"]
    return [f"## {suite['title']}", f"{suite['source']}. {suite['note']}", _table(head, rows)]


def _figures(result: TaskResult) -> str:
    arms = list(result.arms)
    rows = []
    for metric in result.metrics:
        found = [result.arms[arm].get(metric) for arm in arms]
        rows.append([metric, count(next(row for row in found if row)), *map(interval, found)])
    return _table(["metric", "n", *arms], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
