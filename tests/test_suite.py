"""Suites: what a source says held against what is found, and a run that is killed and goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run as negclip  # type: ignore[import-not-found]
from PIL import Image

from eval.registry import task
from eval.runner import TaskResult
from eval.suite import Claim, held_against, load_suite, suites, verdict
from negclip_core.errors import RequestError

PROMPTS, PICTURES = 40, 24
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts, and VALSE's form with pictures of noise."""
    folder = tmp_path_factory.mktemp("data")
    prompts = [
        {"id": str(i), "prompt": "a street with no cars" if i % 2 else "a park with a tree", "family": "before",
         "negated": ["car"] if i % 2 else [], "asked": [] if i % 2 else ["tree"], "place": "street" if i % 2 else "park",
         "affirmative": "a street", "split": "test"}
        for i in range(PROMPTS)
    ]  # fmt: skip
    (folder / "prompts.json").write_text(json.dumps(prompts))
    rng = np.random.default_rng(0)
    for i in range(PICTURES):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    rows = {str(i): {"image_file": f"{i}.png", "caption": "there are no cars", "foil": "there are cars"} for i in range(PICTURES)}  # fmt: skip
    (folder / "existence.json").write_text(json.dumps(rows))
    return folder


def _row(metric: str, name: str, expect: str = "higher") -> dict[str, Any]:
    return {
        "task": name,
        "metric": metric,
        "says": ".1 → .2",
        "first": "vanilla",
        "second": "mine",
        "expect": expect,
    }


def _asking(option: str, value: Any) -> dict[str, Any]:
    return {"options": {"valse-existence": {option: value}, "t2i-negation": {}}}


def _saying(row: dict[str, Any]) -> dict[str, Any]:
    return {"tables": [{"title": "", "source": "", "rows": [row]}]}


@pytest.fixture
def small(tmp_path: Path, other_clip_folder: Path) -> Path:
    """A suite of two tasks."""
    rows = [_row("accuracy", "valse-existence"), _row("neg-score", "t2i-negation"),
            {**_row("neg-score", "t2i-negation", "kept"), "margin": 1.0}]  # fmt: skip
    document = {
        "title": "A small suite", "source": "nobody", "note": "", "arms": f"vanilla,mine={other_clip_folder}",
        "options": {"valse-existence": {"limit": 20}, "t2i-negation": {"steps": 2}},
        "tables": [{"title": "All", "source": "none", "rows": rows}],
    }  # fmt: skip
    path = tmp_path / "small.json"
    path.write_text(json.dumps(document))
    return path


def test_every_shipped_suite_is_whole() -> None:
    assert "paper" in suites()
    for name in suites():
        suite = load_suite(name)
        assert all(task(claim.task) for table in suite.tables for claim in table.rows)


@pytest.mark.parametrize(
    ("expect", "low", "high", "found"),
    [
        ("higher", 0.01, 0.2, "holds"), ("higher", -0.2, -0.01, "does not hold"), ("higher", -0.1, 0.1, "cannot be told"),
        ("lower", 0.01, 0.2, "does not hold"), ("lower", -0.2, -0.01, "holds"), ("lower", -0.1, 0.1, "cannot be told"),
        ("kept", -0.01, 0.0, "holds"), ("kept", -0.3, -0.03, "does not hold"), ("kept", -0.03, 0.1, "cannot be told"),
    ],
)  # fmt: skip
def test_an_ordering_holds_where_its_whole_interval_says_so(
    expect: str, low: float, high: float, found: str
) -> None:
    claim = Claim("t", "m", "", "a", "b", expect, 0.02)
    assert verdict(claim, {"difference": (low + high) / 2, "low": low, "high": high}) == found
    assert verdict(replace(claim, expect="higher"), {"low": 0.0, "high": 0.0}) == "cannot be told"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tables": 3}, "not a suite"),
        ({"options": {"nonsense": {}}}, "no task called 'nonsense'"),
        ({"options": {"valse-existence": {"split": "test"}}}, "split is none of"),
        (_asking("limit", -5), "valse-existence: limit -5: expected 1 or more"),
        (_asking("limit", "20"), "limit '20': expected a whole number"),
        (_asking("limit", None), "limit None: expected a whole number"),
        (_asking("steps", 2.5), "steps 2.5: expected a whole number"),
        (_asking("steps", 10**6), "expected 1000 or fewer"),
        (_asking("guidance_scale", "3"), "expected a number"),
        (_asking("guidance_scale", float("nan")), "expected 0 or more"),
        (_saying({**_row("drift", "t2i-negation", "kept"), "margin": "0.02"}), "margin '0.02': expected a number"),
        (_saying({**_row("accuracy", "valse-existence"), "second": "mine-no-gate"}) | {"arms": "vanilla,mine-no-gate=x"}, "its task or arms are not"),
        (_saying({**_row("accuracy", "valse-existence"), "second": "vanilla"}), "its task or arms are not the suite's"),
        ({"arms": "vanilla"}, "its task or arms are not the suite's"),
        ({"more": 1}, "not a suite"),
        (_saying(_row("accuracy", "valse-existence", "best")), "expected one of higher"),
    ],
)  # fmt: skip
def test_suites_of_another_form_are_refused(change: dict[str, Any], message: str, small: Path) -> None:
    small.write_text(json.dumps(json.loads(small.read_text()) | change))
    with pytest.raises(RequestError, match=message) as error:
        load_suite(str(small))
    assert "\n" not in str(error.value)
    with pytest.raises(RequestError, match="no such suite; there are paper"):
        load_suite("nonesuch")


def test_it_does_not_matter_which_arm_was_named_first(small: Path) -> None:
    row = {"difference": 0.1, "low": 0.05, "high": 0.2, "n": 8, "only_first": 1, "only_second": 3, "p": 0.6}
    back = {
        "difference": -0.1,
        "low": -0.2,
        "high": -0.05,
        "n": 8,
        "only_first": 3,
        "only_second": 1,
        "p": 0.6,
    }
    suite = load_suite(str(small))
    suite = replace(suite, tables=(replace(suite.tables[0], rows=suite.tables[0].rows[:1]),))

    def found(paired: dict[str, Any]) -> dict[str, Any]:
        arms = {arm: {"accuracy": {"value": 0.5}} for arm in ("mine", "vanilla")}
        result = TaskResult(task("valse-existence"), 8, arms, paired, {}, {})
        ((row,),) = [table["rows"] for table in held_against(suite, [result])["tables"]]
        return dict(row)

    right, turned = (
        found({"vanilla -> mine": {"accuracy": row}}),
        found({"mine -> vanilla": {"accuracy": back}}),
    )
    assert turned == right
    assert right["paired"] == row and right["verdict"] == "holds"


@pytest.fixture
def words(small: Path, data: Path, clip_folder: Path, pipeline_folder: Path) -> list[str]:
    """`negclip eval --suite` with the small suite on tiny models."""
    return ["eval", "--suite", str(small), "--data", str(data), "--clip", str(clip_folder), "--model", str(pipeline_folder),
            "--batch", "1", "--device", "cpu", "--quiet", "--out", "out", "--json"]  # fmt: skip


def _killed(words: list[str], folder: Path) -> None:
    """Run in a process of its own, and kill it as soon as some pictures are drawn."""
    code = "from pipelines.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=folder, env=environment, stderr=subprocess.PIPE
    )
    drawn: list[Path] = []
    while not drawn or drawn[0].read_bytes().count(b"\n") < 5:
        assert process.poll() is None, process.communicate()[1]
        drawn = list(folder.glob("out/records/t2i-negation/vanilla-*.jsonl"))
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert drawn[0].read_bytes().count(b"\n") < PROMPTS
    assert not (folder / "out" / "report.html").exists()


def test_killed_and_resumed_the_report_is_the_same(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = []
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        if name == "cut":
            _killed(words, tmp_path / name)
        monkeypatch.chdir(tmp_path / name)
        code, out, err = negclip(words, monkeypatch, capsys)
        assert (code, err) == (0, "")
        documents.append(json.loads(out))
    assert documents[0] == documents[1]
    for name in ("report.html", "report.json", "card.md"):
        whole, cut = ((tmp_path / folder / "out" / name).read_bytes() for folder in ("whole", "cut"))
        assert whole == cut, name
    _check(documents[0], tmp_path / "whole" / "out")


def _check(document: dict[str, Any], out: Path) -> None:
    """The suite's part of a run's document is that of its tasks, and stands in the report."""
    (part,) = document["suite"]["tables"]
    found = document["tasks"]
    for row in part["rows"]:
        pair = found[row["task"]]["paired"]["vanilla -> mine"][row["metric"]]
        assert row["paired"] == pair
        assert row["values"] == {
            arm: found[row["task"]]["arms"][arm][row["metric"]] for arm in ("vanilla", "mine")
        }
    assert part["rows"][2]["verdict"] == "holds"
    assert found["valse-existence"]["n"] == 20 and found["t2i-negation"]["n"] == PROMPTS
    command = found["t2i-negation"]["command"].split()
    assert command[:3] == ["negclip", "eval", "t2i-negation"] and command[command.index("--steps") + 1] == "2"
    page = (out / "report.html").read_text("utf-8")
    assert "A small suite" in page and "<svg class=forest" in page and "http" not in page
    assert json.loads((out / "report.json").read_text("utf-8"))["suite"] == document["suite"]


def test_a_suite_names_its_tasks_and_needs_its_arms(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for more, message in (
        (["valse-existence"], "names its tasks itself"),
        (["--arms", "vanilla"], "the suite compares mine as well"),
        (["--limit", "0"], "--limit 0: expected 1 or more"),
        (["--guidance-scale", "nan"], "--guidance-scale nan: expected 0 or more"),
    ):
        code, _, err = negclip([*words, *more], monkeypatch, capsys)
        assert code == 2 and message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()
