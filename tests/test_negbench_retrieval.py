"""NegBench's retrieval form: read as published, ranked as retrieval is, refused in one line when it is another."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from eval.blind import blind_scorer
from eval.options import Options
from eval.registry import load, task
from eval.runner import Subject, run_task
from negclip_core.clip import load_clip
from negclip_core.errors import RequestError

N = 60


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "val2017").mkdir(parents=True)
    with (folder / "a_negated_retrieval.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filepath", "captions"])
        for n in range(N):
            Image.new("RGB", (32, 32), (n * 4, 90, 40)).save(folder / "val2017" / f"{n}.png")
            writer.writerow([f"data/coco/val2017/{n}.png", str([f"a {n}, it's no car", f"no dog by {n}"])])
    return folder


def test_rows_are_read_as_published(data: Path) -> None:
    found = {item.id: item for item in load(task("negbench-retrieval")).items(data, Options())}
    assert len(found) == N
    assert found["7"].captions == ("a 7, it's no car", "no dog by 7")
    assert found["7"].image.name == "7.png"
    assert len(load(task("negbench-retrieval")).items(data, Options(limit=9))) == 9


def test_a_constant_scorer_gets_chance(data: Path, tmp_path: Path, clip_folder: Path) -> None:
    subject = Subject(
        "blind-constant", {}, lambda _: blind_scorer("blind-constant", load_clip(clip_folder), 0)
    )
    result = run_task(task("negbench-retrieval"), [subject], data, tmp_path / "out", Options(), quiet=True)
    assert result.chance["text-to-image-r@5"] == 5 / N
    assert result.arms["blind-constant"]["ties"]["value"] == 1.0
    assert all(record["tied"] for record in result.records["blind-constant"].values())
    for metric, guessed in result.chance.items():
        found = result.arms["blind-constant"][metric]
        assert found["low"] - 0.03 <= guessed <= found["high"] + 0.03, metric


@pytest.mark.parametrize(
    "text", ["caption\nx\n", "filepath,captions\n", "filepath,captions\na.png,a dog\n", "filepath,captions\na.png,[]\n", "filepath,captions\na.png,[1]\n"]
)  # fmt: skip
def test_another_form_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "x_negated_retrieval.csv").write_text(text)
    with pytest.raises(RequestError, match="not NegBench's form") as error:
        load(task("negbench-retrieval")).items(tmp_path, Options())
    assert "\n" not in str(error.value)
