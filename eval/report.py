"""The report of an evaluation: one HTML page that needs no network, the same figures as JSON, and as a model card."""

from pathlib import Path
from typing import Any

from eval.card import CardOf, model_card
from eval.forest import changes, forest_plot
from eval.markup import count, e, interval, link, p_value, signed, table
from eval.runner import TaskResult
from eval.sheets import contact_sheet, regressions
from negclip_core.files import atomic_write_json, atomic_write_text

__all__ = ["suite_table", "text_table", "write_report"]

_PAIRED, _LOST = 144, 96  # pictures of pairs and of losses in a page at most, which keeps it below 5 MB
_STYLE = Path(__file__).with_name("report.css")
_SIGNS = {"holds": "<span class='verdict good'>✓ holds</span>",
          "does not hold": "<span class='verdict bad'>✗ does not hold</span>",
          "cannot be told": "<span class='verdict note'>? cannot be told</span>"}  # fmt: skip
_HOW = (
    "Shares with Wilson's 95 % interval, differences of shares in pairs with Agresti and Min's, other means and differences "
    "with a bootstrap interval (BCa); p from the exact McNemar test on the pairs that disagree, or from swapping pairs at "
    "random where the units are more than right or wrong; corrected by Holm for the number of tests, the tasks' main "
    "metrics as one family and all other metrics as another. What so many pairs would show four times in five stands as "
    'detectable. Where n units are of fewer photographs or items, "495 in 414", the spread is that of those: what is said of '
    "one picture hangs together. A figure leads to its records."
)


def write_report(
    results: list[TaskResult],
    settings: dict[str, Any],
    out: Path,
    suite: dict[str, Any] | None = None,
    card: CardOf | None = None,
) -> Path:
    """Write report.html, report.json and card.md to `out`; they hold no times, so the same run writes the same bytes.

    Args:
        settings: what made the figures: versions, models with their sums, seeds.
        suite: what `eval.suite.held_against` found.
        card: what the model card is of; without it none is written.
    """
    tasks = {result.task.name: result.as_json() for result in results}
    document = {"settings": settings, "tasks": tasks, **({"suite": suite} if suite else {})}
    atomic_write_json(out / "report.json", document)
    if card:
        atomic_write_text(out / "card.md", model_card(results, settings, card, suite))
    else:
        (out / "card.md").unlink(missing_ok=True)  # an earlier run's, with other figures
    drawn = sum(result.task.kind == "generation" for result in results)
    room = (_PAIRED // max(1, drawn), _LOST // len(results))
    body = "".join(_section(result, out, *room) for result in results)
    rows = [[e(key), e(value)] for key, value in _flat(settings)]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>negclip eval</title><style>{_STYLE.read_text('utf-8')}</style>"
        f"<h1>Does negation hold, and was anything lost?</h1>{_suite(suite, results, out) if suite else ''}{_overview(results)}"
        f"<details><summary>How the figures are made</summary><p class=note>{_HOW}</p></details>{body}"
        f"<h2>Settings</h2><div class=settings>{table(['', ''], rows)}</div></html>\n"
    )
    path = out / "report.html"
    atomic_write_text(path, page)
    return path


def text_table(result: TaskResult) -> list[str]:
    """The task's figures in lines for a terminal: a row a metric, a column an arm."""
    arms = list(result.arms)
    wide = max(len(metric) for metrics in result.arms.values() for metric in metrics) + 2
    lines = [f"{result.task.name} (n = {result.n})", " " * wide + "".join(f"{arm:>26}" for arm in arms)]
    for metric in result.metrics:
        cells = (interval(result.arms[arm].get(metric)) for arm in arms)
        lines.append(f"{metric:<{wide}}" + "".join(f"{cell:>26}" for cell in cells))
    return (
        lines
        + _left_out(result)
        + _blind_wins(result)
        + _unanswered(result)
        + [
            f"judges on {name}: same answer {same}, kappa {kappa}, n = {n}"
            for name, n, same, kappa in _agreement(result)
        ]
    )


def suite_table(found: dict[str, Any]) -> list[str]:
    """What `eval.suite.held_against` found, in lines for a terminal."""
    lines = [f"{found['title']} ({found['source']})"]
    for part in found["tables"]:
        lines.append(f"{part['title']}: {part['verdict']}")
        lines += [
            f"  {row['verdict']:<15} {row['task']} {row['metric']}, {row['first']} -> {row['second']}: "
            f"{signed(row['paired'])}, n = {count(row['paired'])}; the source: {row['says']}"
            for row in part["rows"]
        ]
    return lines


def _suite(found: dict[str, Any], results: list[TaskResult], out: Path) -> str:
    files = {result.task.name: result.files for result in results}
    head = ["task and metric", "ordering", "the source", "first arm", "second arm", "difference in pairs"]
    lines = "<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"
    for part in found["tables"]:
        title = f"{e(part['title'])} {_SIGNS[part['verdict']]}<br><small>{e(part['source'])}</small>"
        lines += f"<tr class=group><th colspan={len(head)}><span class=title>{title}</span></th></tr>"
        for row in part["rows"]:
            lines += (
                "<tr>"
                + "".join(f"<td>{cell}</td>" for cell in _ordering(row, files[row["task"]], out))
                + "</tr>"
            )
    return (
        f"<h2>{e(found['title'])}</h2><p><small>{e(found['source'])}</small><br>An ordering holds, or does not, where the "
        "whole 95 % interval of the difference in pairs says so. A table holds where all its orderings do.</p>"
        f"<div class=scroll><table>{lines}</table></div><p class=note>{e(found['note'])}</p>"
    )


def _ordering(row: dict[str, Any], files: dict[str, Path], out: Path) -> list[str]:
    """The cells of a claim of a suite: what is asked, the verdict, the source's figures, ours."""
    wanted = f"loses less than {row['margin']:g}" if row["expect"] == "kept" else f"is {row['expect']}"
    arms = (row["first"], row["second"])
    return [
        f'<a href="#{e(row["task"])}">{e(row["task"])}</a><br><small>{e(row["metric"])}</small>',
        _SIGNS[row["verdict"]],
        f"{e(row['says'])}<br><small>the second {wanted}</small>",
        *(
            f"{link(interval(row['values'][arm], 3), files[arm], out)}<br><small>{e(arm)}</small>"
            for arm in arms
        ),
        f"{signed(row['paired'], 3)}<br><small>n = {count(row['paired'])}</small>",
    ]


def _overview(results: list[TaskResult]) -> str:
    plot = forest_plot(changes(results))
    if not plot:
        return ""
    return (
        "<h2>What each arm changes</h2><p class=note>The main metric of each task, in pairs against the first arm, with "
        f"95 % intervals; right of the line is better.</p>{plot}"
    )


def _blind_wins(result: TaskResult) -> list[str]:
    """A line where arms that see no picture do better than chance: then the task measures something else as well."""
    found = [
        f"{won['arm']} {won['metric']} {interval(result.arms[won['arm']][won['metric']])}, chance {result.chance[won['metric']]:.4f}"
        for won in result.blind_wins
    ]
    return [f"⚠ {result.task.name} can be won without looking: {'; '.join(found)}"] if found else []


def _left_out(result: TaskResult) -> list[str]:
    """A line where the task has no way to judge some of its file's items."""
    if not result.left_out:
        return []
    kinds = ", ".join(f"{number} {kind}" for kind, number in result.left_out.items())
    return [f"left out of the whole file, as no judge is asked about such: {kinds}"]


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


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in settings.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return rows


def _section(result: TaskResult, out: Path, paired: int, lost: int) -> str:
    task = result.task
    head = f'<h2 id="{e(task.name)}">{e(task.name)} <small>n = {result.n}</small></h2>'
    what = f"<p>{e(task.measures)}.<br><small>{e(task.source)}</small></p>"
    command = f"<p><code>{e(result.command)}</code></p>" if result.command else ""
    warning = "".join(f"<p class=bad><strong>{e(line)}</strong></p>" for line in _blind_wins(result))
    return (
        head + what + command + warning + _figures(result, out) + _differences(result, out) + _judges(result)
        + regressions(result, out, lost) + contact_sheet(result, out, paired)
    )  # fmt: skip


def _figures(result: TaskResult, out: Path) -> str:
    arms = list(result.arms)
    rows = [
        [
            f"<strong>{e(metric)}</strong>" if metric == result.main else e(metric), _numbers(result, metric),
            *(link(interval(result.arms[arm].get(metric)), result.files[arm], out) for arm in arms),
        ]
        for metric in result.metrics
    ]  # fmt: skip
    return table(["metric", "n", *map(e, arms)], rows)


def _numbers(result: TaskResult, metric: str) -> str:
    return count(next(row[metric] for row in result.arms.values() if metric in row))


def _differences(result: TaskResult, out: Path) -> str:
    rows = [
        [
            " → ".join(link(arm, result.files[arm], out) for arm in pair.split(" -> ")), e(metric), count(row),
            signed(row), f"{row['only_first']:.0f} / {row['only_second']:.0f}" if "only_first" in row else "",
            e(p_value(row["p"])), e(p_value(row["p_holm"])), f"{row['detectable']:.4f}" if "detectable" in row else "",
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
    return f"<details><summary>Paired differences</summary>{table(head, rows)}</details>"


def _judges(result: TaskResult) -> str:
    notes = "".join(f"<p class=note>{e(line)}.</p>" for line in (*_left_out(result), *_unanswered(result)))
    rows = [[e(cell) for cell in row] for row in _agreement(result)]
    if not rows:
        return notes
    agreed = table(["question", "n", "same answer", "Cohen's kappa"], rows)
    return f"{notes}<details open><summary>How far the two judges agree</summary>{agreed}</details>"
