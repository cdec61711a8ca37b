"""runs/ablation.py: the paper's ablation by one command, that goes on where it stopped."""

import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from negclip_core.errors import RequestError
from negclip_core.models import resolve
from negclip_core.training.recipe import load_recipe

SCRIPT = Path(__file__).parents[1] / "runs" / "ablation.py"
SEEDS = [0, 1]


@pytest.fixture(scope="module")
def ablation() -> Any:
    spec = importlib.util.spec_from_file_location("ablation", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ablation"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def plan(ablation: Any) -> Any:
    return ablation.Plan(pictures=60, captions=55, batch=8, epochs=1, tested=20, items=10)


@pytest.fixture(scope="module")
def done(ablation: Any, plan: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which everything is done, and the tables."""
    out = tmp_path_factory.mktemp("ablation")
    towers = [resolve("miniature/negationclip")] * 2
    return out, ablation.main(out, ["vanilla", "p1+p2", "con-clip", "host-ways"], SEEDS, towers, plan)


def rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table's rows, without its head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def tables(text: str) -> tuple[list[list[str]], list[list[str]]]:
    first, second = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return rows(first), rows(second)


def test_both_tables_hold_every_arm_with_intervals(done: tuple[Path, str]) -> None:
    out, text = done
    assert (out / "ablation.md").read_text("utf-8") == text
    means, each = tables(text)
    assert [row[:2] for row in means] == [
        ["vanilla", "-"],
        ["p1+p2", "2"],
        ["con-clip", "2"],
        ["host-ways", "2"],
    ]
    assert [row[:2] for row in each] == [["vanilla", "-"], *([arm, seed] for arm in ("p1+p2", "con-clip", "host-ways") for seed in "01")]  # fmt: skip
    interval = r"1?\.\d{3} \[1?\.\d{3}, 1?\.\d{3}\]"
    assert all(re.fullmatch(interval, cell) for row in each for cell in row[5:])
    assert all(re.fullmatch(interval, cell) for row in means[1:] for cell in row[2:])


def test_a_mean_is_that_of_its_seeds(done: tuple[Path, str]) -> None:
    means, each = tables(done[1])
    for arm, _, *cells in means:
        own = [row[5:] for row in each if row[0] == arm]
        for column, cell in enumerate(cells):
            values = [float(row[column].split()[0]) for row in own]
            assert float(cell.split()[0]) == pytest.approx(sum(values) / len(values), abs=1.1e-3)


def test_contrastive_arms_take_as_many_steps_of_the_same_captions(done: tuple[Path, str]) -> None:
    out, text = done
    assert {tuple(row[2:4]) for row in tables(text)[1] if row[0] in ("p1+p2", "con-clip")} == {("5", "8")}
    files = [(out / "captions" / f"{arm}.json").read_text("utf-8") for arm in ("p1+p2", "con-clip")]
    assert files[0] == files[1]
    # 55 captions in the shares of the paper's 147K of P1 and 82K of P2.
    assert Counter(entry["pipeline"] for entry in json.loads(files[0])["annotations"]) == {"p1": 35, "p2": 20}


def test_what_is_done_is_left_alone_and_the_rest_is_done(
    ablation: Any, plan: Any, done: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = done
    weights = sorted(out.rglob("open_clip_model.safetensors"))
    before = [path.stat().st_mtime_ns for path in weights]
    assert len(weights) == 4
    (out / "p1+p2" / "seed1" / "figures.json").unlink()  # as if it had been killed while it was asked
    with FileLock(out / "rand-p1" / "seed0" / "lock"):  # as another process holds it
        means, each = tables(ablation.main(out, ["p1+p2", "rand-p1"], SEEDS, None, plan))
    assert "rand-p1, seed 0: another process is at it" in capsys.readouterr().out
    assert [row[:2] for row in means] == [["p1+p2", "2"], ["rand-p1", "1"]]
    assert [row[:5] for row in each if row[0] == "p1+p2"] == [["p1+p2", seed, "5", "8", "1"] for seed in "01"]
    unchanged = [path for path, then in zip(weights, before, strict=True) if path.stat().st_mtime_ns == then]
    assert [path for path in weights if path not in unchanged] == [out / "p1+p2" / "seed1" / "clip" / weights[0].name]  # fmt: skip


@pytest.mark.parametrize(
    ("arms", "shipped", "said"),
    [
        (["p3"], None, r"--arms: 'p3' is not known; there are: vanilla, rand-p1"),
        (["host-ways"], ["."], r"--shipped: 1 folders for 2 seeds; give one for each"),
        (["host-ways"], [".", "nowhere"], r"--shipped: nowhere is no folder of a trained tower"),
    ],
)
def test_a_wrong_request_is_one_line(
    ablation: Any, arms: list[str], shipped: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=said):
        ablation.main(tmp_path / "out", arms, SEEDS, [Path(each) for each in shipped or []])
    assert not (tmp_path / "out").exists()


def test_the_arm_paper_keeps_the_papers_settings(ablation: Any) -> None:
    def settings(arm: str) -> tuple[Any, ...]:
        chosen = ablation.ARMS[arm]
        recipe = load_recipe(chosen.recipe, **ablation.Plan().changes(chosen))
        return recipe.learning_rate, recipe.batch_size, recipe.epochs, recipe.split, recipe.rows

    assert settings("paper") == (1e-6, 512, 15, "caption", "absent")
    others = {settings(arm) for arm in ("rand-p1", "p1", "p2", "p1+p2", "con-clip")}
    assert others == {(3e-4, 256, 15, "caption", "absent")}
    assert ablation.Plan().changes(ablation.ARMS["host-ways"]) == {}


def test_another_plan_is_refused(ablation: Any, done: tuple[Path, str]) -> None:
    with pytest.raises(RequestError, match="holds an ablation with another plan; give another folder"):
        ablation.main(done[0], ["vanilla"], [0])


def test_it_is_a_command() -> None:
    found = subprocess.run([sys.executable, SCRIPT, "out", "--arms", "p3"], capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stderr.startswith("ablation: --arms: 'p3' is not known")
