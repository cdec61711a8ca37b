"""Two processes train the tower that one would have trained."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from negclip_core.clip import Clip, load_clip
from negclip_core.errors import RequestError
from negclip_core.training import loop, processes
from negclip_core.training.data import TrainingSet
from negclip_core.training.recipe import Recipe
from pipelines.train import run

BIN = Path(sys.executable).parent


def _train(
    launcher: list[str], corpus: Path, clip: Path, out: Path, *more: str
) -> subprocess.CompletedProcess[str]:
    verb = [
        str(BIN / "negclip"),
        "train",
        "--captions",
        str(corpus / "captions.json"),
        "--images",
        str(corpus),
    ]
    rest = [
        "--clip",
        str(clip),
        "--objective",
        str(corpus / "recipe.json"),
        "--out",
        str(out),
        "--quiet",
        "--json",
    ]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launcher, *verb, *rest, *more], capture_output=True, text=True, env=quiet, timeout=120
    )


@pytest.fixture(scope="module")
def recipe(corpus: Path) -> Path:
    settings = {
        "about": "for tests", "rows": "all", "learning_rate": 1e-3, "batch_size": 6, "epochs": 2, "warm_up": 2,
        "objectives": [{"name": "con_clip"}, {"name": "preserve", "batch": 4}, {"name": "token_targets", "batch": 4}],
    }  # fmt: skip
    (corpus / "recipe.json").write_text(json.dumps(settings), "utf-8")
    return corpus / "recipe.json"


def test_two_processes_give_the_losses_and_weights_of_one(
    recipe: Path, corpus: Path, clip_folder: Path, tmp_path: Path
) -> None:
    # accelerate reads what torchrun sets; its own launcher starts one process only where there is neither GPU nor MPI.
    two = [str(BIN / "torchrun"), "--standalone", "--nproc_per_node", "2", "--no-python"]
    alone = _train([], corpus, clip_folder, tmp_path / "one")
    shared = _train(two, corpus, clip_folder, tmp_path / "two")
    assert alone.returncode == 0 and shared.returncode == 0, shared.stderr[-2000:]
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    epochs = [[entry for entry in log if "epoch" in entry] for log in logs]
    assert len(epochs[0]) == len(epochs[1]) == 2 and len(logs[0]) == len(logs[1])
    for one, other in zip(*epochs, strict=True):
        assert other["validation_loss"] == pytest.approx(one["validation_loss"], rel=1e-5)
    # What two processes print is one document.
    assert json.loads(shared.stdout)["processes"] == 2 and json.loads(alone.stdout)["processes"] == 1
    weights = [load_clip(tmp_path / name).checkpoint.weights for name in ("one", "two")]
    start = load_clip(clip_folder).checkpoint.weights
    for name, tensor in weights[0].items():
        # A key's bias changes no attention: its gradient is rounding, which Adam makes steps of.
        if name.endswith("in_proj_bias"):
            continue
        moved = (tensor - start[name]).abs().max()
        assert (weights[1][name] - tensor).abs().max() <= 0.01 * moved, name


def test_a_batch_that_cannot_be_shared_is_refused(
    recipe: Path, corpus: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "count", lambda: 4)
    with pytest.raises(RequestError, match="a batch of 6 cannot be shared by 4 processes"):
        run(corpus / "captions.json", corpus, str(clip_folder), tmp_path / "out", str(recipe), quiet=True)
    assert torch.distributed.is_initialized() is False


@pytest.mark.parametrize("count", [3, 5, 7])
def test_each_process_has_its_share_of_every_batch(
    count: int, clip: Clip, data: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = []

    def share(rows: torch.Tensor) -> torch.Tensor:
        shared.append(len(rows))
        return rows

    monkeypatch.setattr(loop, "_PROBED", 8)
    monkeypatch.setattr(processes, "count", lambda: count)
    monkeypatch.setattr(processes, "my_share", share)
    rows = torch.arange(len(data.image))
    recipe = Recipe("test", ({"name": "infonce"},), 1e-3, count, 1, rows="all")
    loop.train(clip.model, data, (rows[:-10], rows[-10:]), recipe, checkpoint=tmp_path / "c", quiet=True)
    assert shared and not any(size % count for size in shared)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_processes_meet_where_they_compute(
    device: str, corpus: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Met(Exception): ...

    def meet(cpu: bool = False) -> None:
        raise Met(cpu)

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("accelerate.PartialState", meet)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(Met) as met:
        run(
            corpus / "captions.json",
            corpus,
            str(clip_folder),
            tmp_path / "out",
            tensorboard=True,
            device=device,
            quiet=True,
        )
    assert met.value.args == (device == "cpu",)
