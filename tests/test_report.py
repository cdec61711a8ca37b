"""The report's parts: what is lost, the forest plot, the families of tests, the card, and a page that stays small."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image

from eval.card import CardOf, card_of
from eval.forest import changes, forest_plot
from eval.markup import interval, signed
from eval.registry import Record, task
from eval.regressions import losses
from eval.report import write_report
from eval.runner import TaskResult, correct
from eval.sheets import regressions
from eval.statistics import holm, paired_difference, summarise
from eval.tasks.negrefcocog import Item as Phrase
from eval.tasks.valse_existence import Item

OF = CardOf("negationclip", "miniature/negationclip", "mit", "open_clip", None)
N = 40


def _result(name: str, values: dict[str, dict[str, list[float]]], out: Path, **more: Any) -> TaskResult:
    """What a task showed, from arm -> metric -> a value an item; arms are paired with the first one."""
    arms = list(values)
    estimates = {
        arm: {metric: {**summarise(v).as_json(), "n": len(v), "groups": len(v)} for metric, v in own.items()}
        for arm, own in values.items()
    }
    paired: dict[str, dict[str, dict[str, float]]] = {}
    for arm in arms[1:]:
        paired[f"{arms[0]} -> {arm}"] = {}
        for metric, first in values[arms[0]].items():
            found = paired_difference(first, values[arm][metric])
            row = {
                "difference": found.value,
                "low": found.low,
                "high": found.high,
                "n": len(first),
                "groups": len(first),
                "p": 0.01,
            }
            paired[f"{arms[0]} -> {arm}"][metric] = row
    units = {
        arm: {m: {str(i): x for i, x in enumerate(v)} for m, v in own.items()} for arm, own in values.items()
    }
    records: dict[str, dict[str, Record]] = {
        arm: {str(i): {"id": str(i)} for i in range(len(next(iter(own.values()))))}
        for arm, own in values.items()
    }
    files = {arm: out / "records" / name / f"{arm}.jsonl" for arm in arms}
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
    Image.new("RGB", (32, 32), "teal").save(out / "teal.png")
    items = {
        key: Item(key, out / "teal.png", f"caption {key}", f"foil {key}", True) for key in records[arms[0]]
    }
    settings: dict[str, Any] = {"records": records, "values": units, "items": items, **more}
    return TaskResult(task(name), len(items), estimates, paired, files=files, **settings)


def _two(out: Path) -> list[TaskResult]:
    half, more, all_of_them = [1.0, 0.0] * (N // 2), [1.0, 1.0, 1.0, 0.0] * (N // 4), [1.0] * N
    valse = {
        "vanilla": {"accuracy": half, "ties": half},
        "negationclip": {"accuracy": all_of_them, "ties": half},
    }
    masks = {"vanilla": {"miou": more}, "negationclip": {"miou": half}, "other": {"miou": more}}
    return [_result("valse-existence", valse, out), _result("refcocog", masks, out)]


def test_main_metrics_are_corrected_by_themselves(tmp_path: Path) -> None:
    one, two = _two(tmp_path)
    one.paired["vanilla -> negationclip"]["accuracy"]["p"] = 0.01
    for pair, p in zip(two.paired.values(), (0.02, 0.04), strict=True):
        pair["miou"]["p"] = p
    one.paired["vanilla -> negationclip"]["ties"]["p"] = 0.03
    for number in range(50):
        one.paired["vanilla -> negationclip"][f"part:{number}"] = {"p": 0.5}
    correct([one, two])
    row = one.paired["vanilla -> negationclip"]
    main = [row["accuracy"]["p_holm"], *(pair["miou"]["p_holm"] for pair in two.paired.values())]
    assert main == pytest.approx(holm([0.01, 0.02, 0.04]))
    assert row["ties"]["p_holm"] == 1  # 51 * .03
    assert one.as_json()["main"] == "accuracy"
    assert (
        _result("t2i-negation", {"a": {"negated-present": [1.0], "neg-score": [0.0]}}, tmp_path).main
        == "neg-score"
    )


def test_what_is_lost_comes_worst_first(tmp_path: Path) -> None:
    ious = {"vanilla": {"miou": [0.9, 0.5, 0.8, 0.2]}, "negationclip": {"miou": [0.7, 0.9, 0.1, 0.2]}}
    found = losses(_result("refcocog", ious, tmp_path), "vanilla", "negationclip")
    assert [(loss.item, loss.before, loss.after) for loss in found] == [("2", 0.8, 0.1), ("0", 0.9, 0.7)]
    # A unit may be a part of an item: the captions of a picture.
    ranks = _result(
        "retrieval", {arm: {"text-to-image-r@1": [1.0]} for arm in ("vanilla", "other")}, tmp_path
    )
    ranks.values = {
        "vanilla": {"text-to-image-r@1": {"7/0": 1.0, "7/1": 1.0, "a/b/0": 1.0}},
        "other": {"text-to-image-r@1": {"7/0": 1.0, "7/1": 0.0, "a/b/0": 1.0}},
    }
    ranks.records = {arm: {"7": {}, "a/b": {}} for arm in ranks.values}
    (loss,) = losses(ranks, "vanilla", "other")
    assert (loss.item, loss.before, loss.after) == ("7", 1.0, 0.5)


def test_of_pictures_the_judges_verdicts_count(tmp_path: Path) -> None:
    said = {
        "vanilla": ({"car": False}, {"dog": True, "cat": True}),
        "other": ({"car": True}, {"dog": False, "cat": True}),
    }
    records = {
        arm: {
            "a": {"id": "a", "negated": denied, "asked": kept, "place": {"street": None}},
            "b": {"negated": {}},
        }
        for arm, (denied, kept) in said.items()
    }
    result = _result("t2i-negation", {arm: {"neg-score": [0.0]} for arm in said}, tmp_path, records=records)
    (loss,) = losses(result, "vanilla", "other")
    assert (loss.item, loss.before, loss.after) == ("a", 1.0, pytest.approx(1 / 3))
    assert losses(result, "other", "vanilla") == []


def test_losses_show_the_picture_and_what_was_asked_of_it(tmp_path: Path) -> None:
    values = {"vanilla": {"accuracy": [1.0, 1.0, 0.0]}, "negationclip": {"accuracy": [1.0, 0.0, 1.0]}}
    shown = regressions(_result("valse-existence", values, tmp_path), tmp_path, 10)
    assert "negationclip: worse than vanilla on 1 of 3 items" in shown
    assert (
        shown.count("<img") == 1 and "caption 1" in shown and "foil 1" in shown and "caption 2" not in shown
    )
    # Where boxes are to be chosen from: the one that each arm took.
    boxes = ((1.0, 2.0, 10.0, 10.0), (15.0, 15.0, 12.0, 12.0))
    items = {str(i): Phrase(str(i), tmp_path / "teal.png", "a dog without a hat", boxes, 0) for i in range(3)}
    records = {arm: {str(i): {"picked": which} for i in range(3)} for which, arm in enumerate(values)}
    pairs = regressions(_result("negrefcocog", values, tmp_path, items=items, records=records), tmp_path, 10)
    assert pairs.count("<img") == 2 and "vanilla picks this" in pairs and "negationclip picks this" in pairs
    first, second = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
        for content in re.findall(r"base64,([^\"]+)", pairs)
    )
    teal = np.array([0, 128, 128])
    assert (first[2, 1] != teal).any() and (first[15, 15] == teal).all()
    assert (second[2, 1] == teal).all() and (second[15, 15] != teal).any()
    even = {arm: {"accuracy": [1.0]} for arm in values}
    assert "worse than vanilla on none of 1 items" in regressions(
        _result("valse-existence", even, tmp_path), tmp_path, 10
    )


def test_the_forest_plot_has_a_row_for_each_task_and_arm(tmp_path: Path) -> None:
    rows = changes(_two(tmp_path))
    assert [(row.task, row.metric, row.arm) for row in rows] == [
        ("valse-existence", "accuracy", "negationclip"), ("refcocog", "miou", "negationclip"), ("refcocog", "miou", "other"),
    ]  # fmt: skip
    plot = forest_plot(rows)
    assert re.findall(r"<g class=(\w+)>", plot) == ["better", "worse", "unsure"]
    zero = float(re.search(r'class=zero x1="([\d.]+)%"', plot)[1])  # type: ignore[index]
    for row, low, high, at in zip(
        rows, *([float(x) for x in re.findall(rf'{name}="([\d.]+)%"', re.sub(r"<line class.*?/>", "", plot))]
                for name in ("x1", "x2", "cx")), strict=True,
    ):  # fmt: skip
        assert low <= at <= high and (at > zero) == (row.difference > 0)
        assert f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" in plot
    assert forest_plot([]) == ""


def test_every_figure_leads_to_its_records(tmp_path: Path) -> None:
    results = _two(tmp_path)
    results[0].command = "negclip eval valse-existence --data 'a & b'"
    correct(results)
    page = write_report(results, {"seed": 0}, tmp_path, card=OF).read_text("utf-8")
    links = [unquote(link) for link in re.findall(r'href="([^#"]+)"', page)]
    assert {(tmp_path / link).resolve() for link in links} == {p for r in results for p in r.files.values()}
    for result in results:
        for arm, metrics in result.arms.items():
            for row in metrics.values():
                assert re.search(
                    rf'href="records/{result.task.name}/{arm}\.jsonl">{re.escape(interval(row))}<', page
                )
    assert "negclip eval valse-existence --data &#x27;a &amp; b&#x27;" in page
    assert json.loads((tmp_path / "report.json").read_text())["tasks"]["valse-existence"][
        "command"
    ].startswith("negclip")


def test_the_card_has_the_reports_figures_and_a_head_that_the_hub_reads(tmp_path: Path) -> None:
    results = _two(tmp_path)
    correct(results)
    write_report(results, {"seed": 0, "made_by": {"python": "3"}}, tmp_path, card=OF)
    card = ModelCard.load(tmp_path / "card.md")
    head = card.data.to_dict()
    assert (head["license"], head["library_name"], head["pipeline_tag"]) == ("mit", "open_clip", "zero-shot-image-classification")  # fmt: skip
    assert "negation" in head["tags"] and "model-index" not in head and "base_model" not in head
    document = json.loads((tmp_path / "report.json").read_text("utf-8"))
    for found in document["tasks"].values():
        for metrics in found["arms"].values():
            assert all(interval(row) in card.text for row in metrics.values())
        for pair, metrics in found["paired"].items():
            assert (signed(metrics[found["main"]]) in card.text) == pair.endswith("negationclip")


def test_a_card_says_of_its_encoder_what_its_name_tells(tmp_path: Path) -> None:
    shipped = card_of("negationclip", "miniature/negationclip", "miniature/clip")
    assert (shipped.license, shipped.library, shipped.base) == ("mit", "open_clip", None)
    public = card_of("negationclip", "jerryray/negationclip", "openai/clip-vit-large-patch14")
    assert (public.license, public.library, public.base) == (
        "unknown",
        "negclip",
        "openai/clip-vit-large-patch14",
    )
    assert "/" in (card_of("x", "miniature/clip", "ViT-B-32:openai").base or "")


def test_a_page_of_photographs_stays_small(tmp_path: Path) -> None:
    # Noise is what compresses worst; every picture is the same file, for speed.
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    arms = ["vanilla", *(f"arm{i}" for i in range(5))]
    records = {
        arm: {
            str(i): {"id": str(i), "image": "noise.png", "prompt": "p", "text": "p", "seed": i, "negated": {"car": arm != "vanilla"},
                     "asked": {}, "place": {}}
            for i in range(N)
        }
        for arm in arms
    }  # fmt: skip
    values = {arm: {"neg-score": [0.0] * N} for arm in arms}
    results = [_result("t2i-negation", values, tmp_path, records=records) for _ in range(2)]
    correct(results)
    page = write_report(results, {}, tmp_path)
    assert page.stat().st_size < 5_000_000
    assert page.read_text("utf-8").count("<img") > 100
