"""What a training run is watched by: its log, the plot of it, and TensorBoard."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from negclip_core.errors import RequestError
from pipelines.line_chart import Line, line_chart
from pipelines.train import run
from pipelines.watch import Watch


def _lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_run_logs_its_losses_and_plots_them(clip_folder: Path, corpus: Path, tmp_path: Path) -> None:
    run(corpus / "captions.json", corpus, str(clip_folder), tmp_path, epochs=6, batch_size=8, quiet=True)
    entries = _lines(tmp_path / "log.jsonl")
    # Twelve steps in six epochs: the first and each tenth, and the end of each epoch.
    assert [entry["step"] for entry in entries if "training_loss" in entry] == [1, 10]
    assert [(entry["epoch"], entry["step"]) for entry in entries if "validation_loss" in entry] == [
        (epoch, 2 * epoch) for epoch in range(1, 7)
    ]
    with Image.open(tmp_path / "losses.png") as picture:
        assert picture.format == "PNG" and picture.size == (1000, 560)


def test_what_a_run_takes_again_is_logged_once(tmp_path: Path) -> None:
    watch = Watch(tmp_path, "a run", tensorboard=False)
    watch.begun(0)
    entries = [{"step": step, "training_loss": 1 / step} for step in (1, 10, 20)]
    for entry in entries:
        watch.report(entry)
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 30, "training_')  # killed while it wrote
    again = Watch(tmp_path, "a run", tensorboard=False)
    again.begun(15)
    again.report(entries[2])
    assert _lines(tmp_path / "log.jsonl") == entries


def test_a_line_goes_where_its_points_are() -> None:
    red = (197, 48, 48)
    picture = np.asarray(line_chart("", "", [Line("", "#c53030", [(0, 0), (100, 10)])]))
    rows, columns = (picture[62:498, 92:968] == red).all(2).nonzero()
    # From the lower left to the upper right, straight.
    assert columns.min() < 6 and columns.max() > 870 and np.corrcoef(rows, columns)[0, 1] < -0.999


@pytest.mark.parametrize(
    "points", [[], [(1, float("nan"))], [(5, 2.5)], [(1, 0.0), (2, 0.0)], [(1, 1e-12), (9, 1e9)]]
)
def test_any_points_make_a_chart(points: list[tuple[float, float]]) -> None:
    assert line_chart("a run", "step", [Line("loss", "#c53030", points, dots=True)]).size == (1000, 560)


def test_tensorboard_shows_each_step_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for start in (0, 15):
        watch = Watch(tmp_path, "a run", tensorboard=True)
        watch.begun(start)
        for step in (10, 20):
            if step > start:
                watch.report({"step": step, "training_loss": step + start})
        watch.report({"step": 20, "epoch": 1, "validation_loss": 0.5, "negation_accuracy": 0.75})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    seen = {
        name: [(each.step, each.value) for each in events.Scalars(name)] for name in events.Tags()["scalars"]
    }
    assert seen == {
        "training_loss": [(10, 10.0), (20, 35.0)], "validation_loss": [(20, 0.5)], "negation_accuracy": [(20, 0.75)],
    }  # fmt: skip


def test_without_tensorboard_a_run_that_asks_for_it_is_refused(
    clip_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(RequestError, match=r"pip install 'negclip\[tensorboard\]'"):
        run(
            corpus / "captions.json", corpus, str(clip_folder), tmp_path / "out", tensorboard=True, quiet=True
        )
    assert not (tmp_path / "out").exists()
