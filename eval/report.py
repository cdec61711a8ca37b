"""The report of an evaluation: one HTML page that needs no network, and the same figures as JSON."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from eval.registry import Record
from eval.runner import TaskResult
from negclip_core.files import atomic_write_json, atomic_write_text

__all__ = ["text_table", "write_report"]

_PAIRS_SHOWN = 32
_MARKS = {
    True: "<span class=good>✓ {}</span>",
    False: "<span class=bad>✗ {}</span>",
    None: "<span class=note>? {}</span>",
}
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#1c1c1e;background:#fcfbf8}
h1,h2{font-weight:600}h2{margin-top:2.5rem;border-top:1px solid #ddd;padding-top:1.5rem}
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .8rem;text-align:right;border-bottom:1px solid #e6e3dc}th:first-child,td:first-child{text-align:left}
small,.note{color:#7a7874}.scroll{overflow-x:auto}
.pairs{display:grid;gap:1.2rem}.pair{display:flex;flex-wrap:wrap;gap:.8rem;align-items:flex-start}
.pair h3{flex-basis:100%;font-size:1rem;font-weight:500;margin:0}
figure{margin:0;width:9rem}figure img{width:9rem;image-rendering:pixelated;border-radius:4px}
figcaption{font-size:.8rem;line-height:1.35}.good{color:#1a7f37}.bad{color:#b3261e}
"""


def write_report(results: list[TaskResult], settings: dict[str, Any], out: Path) -> Path:
    """Write report.html and report.json to `out`; they hold no times, so the same run writes the same bytes.

    Args:
        settings: what made the figures: versions, models with their sums, seeds.
    """
    document = {"settings": settings, "tasks": {result.task.name: result.as_json() for result in results}}
    atomic_write_json(out / "report.json", document)
    body = "".join(_section(result, out) for result in results)
    rows = "".join(f"<tr><td>{_e(key)}</td><td>{_e(value)}</td></tr>" for key, value in _flat(settings))
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>negclip eval</title><style>{_STYLE}</style>'
        "<h1>Does negation hold, and was anything lost?</h1>"
        "<p class=note>Shares with Wilson's 95 % interval, differences of shares in pairs with Agresti and Min's, other "
        "means and differences with a bootstrap interval (BCa); p from the exact McNemar test on the pairs that disagree, or from swapping pairs at random where the "
        "units are more than right or wrong; corrected for the number of tests by Holm. What so many pairs would show four "
        "times in five stands as detectable.</p>"
        f"{body}<h2>Settings</h2><table>{rows}</table></html>\n"
    )
    path = out / "report.html"
    atomic_write_text(path, page)
    return path


def text_table(result: TaskResult) -> list[str]:
    """The task's figures in lines for a terminal: a row a metric, a column an arm."""
    arms = list(result.arms)
    wide = max(len(metric) for metrics in result.arms.values() for metric in metrics) + 2
    lines = [f"{result.task.name} (n = {result.n})", " " * wide + "".join(f"{arm:>26}" for arm in arms)]
    for metric in result.arms[arms[0]]:
        cells = (_interval(result.arms[arm].get(metric)) for arm in arms)
        lines.append(f"{metric:<{wide}}" + "".join(f"{cell:>26}" for cell in cells))
    return (
        lines
        + _blind_wins(result)
        + _unanswered(result)
        + [
            f"judges on {name}: same answer {same}, kappa {kappa}, n = {n}"
            for name, n, same, kappa in _agreement(result)
        ]
    )


def _blind_wins(result: TaskResult) -> list[str]:
    """A line where arms that see no picture do better than chance: then the task measures something else as well."""
    found = [
        f"{won['arm']} {won['metric']} {_interval(result.arms[won['arm']][won['metric']])}, chance {result.chance[won['metric']]:.4f}"
        for won in result.blind_wins
    ]
    return [f"⚠ {result.task.name} can be won without looking: {'; '.join(found)}"] if found else []


def _unanswered(result: TaskResult) -> list[str]:
    """A line for each judge that left questions open."""
    counts = {"the judge": "unanswered", "the second judge": "second_unanswered"}
    return [
        f"{who} answered neither yes nor no to {result.judges[key]} of {result.judges['questions']} questions"
        for who, key in counts.items()
        if result.judges.get(key)
    ]


def _agreement(result: TaskResult) -> list[tuple[str, str, str, str]]:
    """For each question that two judges were asked: it, n, the share of like answers, kappa with its interval."""
    rows = []
    for name, row in result.judges.get("agreement", {}).items():
        kappa = "-" if row["kappa"] is None else f"{row['kappa']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"
        rows.append((name, f"{row['n']:.0f}", f"{row['same']:.4f}", kappa))
    return rows


def _interval(row: dict[str, float] | None) -> str:
    return f"{row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}]" if row else "-"


def _e(value: object) -> str:
    return html.escape(str(value))


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in settings.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return rows


def _section(result: TaskResult, out: Path) -> str:
    task = result.task
    head = f"<h2>{_e(task.name)} <small>n = {result.n}</small></h2><p>{_e(task.measures)}.<br><small>{_e(task.source)}</small></p>"
    warning = "".join(f"<p class=bad><strong>{_e(line)}</strong></p>" for line in _blind_wins(result))
    return (
        head
        + warning
        + _figures(result)
        + _differences(result)
        + _judges(result)
        + _contact_sheet(result, out)
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{_e(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{_e(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=scroll><table><tr>{cells}</tr>{lines}</table></div>"


def _figures(result: TaskResult) -> str:
    arms = list(result.arms)
    rows = [
        [metric, f"{first['n']:.0f}", *(_interval(result.arms[arm].get(metric)) for arm in arms)]
        for metric, first in result.arms[arms[0]].items()
    ]
    return _table(["metric", "n", *arms], rows)


def _differences(result: TaskResult) -> str:
    rows = [
        [
            pair, metric, f"{row['n']:.0f}", f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]",
            f"{row['only_first']:.0f} / {row['only_second']:.0f}" if "only_first" in row else "",
            f"{row['p']:.2g}", f"{row['p_holm']:.2g}", f"{row['detectable']:.4f}" if "detectable" in row else "",
        ]
        for pair, metrics in result.paired.items()
        for metric, row in metrics.items()
    ]  # fmt: skip
    if not rows:
        return ""
    head = [
        "pair",
        "metric",
        "n",
        "second − first",
        "only first / only second",
        "p",
        "p (Holm)",
        "detectable",
    ]
    return f"<details><summary>Paired differences</summary>{_table(head, rows)}</details>"


def _judges(result: TaskResult) -> str:
    notes = "".join(f"<p class=note>{_e(line)}.</p>" for line in _unanswered(result))
    rows = _agreement(result)
    if not rows:
        return notes
    table = _table(["question", "n", "same answer", "Cohen's kappa"], rows)
    return f"{notes}<details open><summary>How far the two judges agree</summary>{table}</details>"


def _contact_sheet(result: TaskResult, out: Path) -> str:
    """The first pairs in the order they were drawn in, which nobody picked, with the judge's verdicts."""
    arms = list(result.records)
    items = [key for key, record in result.records[arms[0]].items() if "image" in record][:_PAIRS_SHOWN]
    if not items:
        return ""
    blocks = []
    for item in items:
        records = {arm: result.records[arm][item] for arm in arms}
        first = records[arms[0]]
        shown = "".join(_figure(arm, record, out) for arm, record in records.items())
        blocks.append(
            f"<div class=pair><h3>{_e(first['prompt'])} <small>seed {first['seed']}</small></h3>{shown}</div>"
        )
    return f"<h3>The first {len(items)} pairs, and what the judge says of them</h3><div class=pairs>{''.join(blocks)}</div>"


def _figure(arm: str, record: Record, out: Path) -> str:
    verdicts = [
        (f"no {thing}", None if there is None else not there) for thing, there in record["negated"].items()
    ]
    verdicts += [(thing, there) for field in ("asked", "place") for thing, there in record[field].items()]
    lines = "".join("<br>" + _MARKS[right].format(_e(words)) for words, right in verdicts)
    return f'<figure><img alt="{_e(record["text"])}" src="{_inline(out / record["image"])}"><figcaption>{_e(arm)}{lines}</figcaption></figure>'


def _inline(path: Path) -> str:
    # Saved anew, without the text of how it was made.
    buffer = io.BytesIO()
    with Image.open(path, formats=["PNG"]) as image:
        image.convert("RGB").save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
