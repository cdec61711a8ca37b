"""A run that stops, however it stops, goes on from the last state that is whole, to the weights of one that did not."""

import errno
import io
import json
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from negclip_core.clip import load_clip
from negclip_core.errors import RequestError, UnfinishedWork
from negclip_core.training.data import TrainingSet
from negclip_core.training.loop import Outcome, train
from negclip_core.training.recipe import Recipe
from negclip_core.training.states import States
from pipelines.train import run

STEPS = 12  # of the runs below, four an epoch
Train = Callable[..., Outcome]


def _recipe(**changes: Any) -> Recipe:
    objectives = ({"name": "infonce"}, {"name": "preserve", "batch": 4})
    settings = {"objectives": objectives, "learning_rate": 1e-3, "batch_size": 4, "epochs": 3, "rows": "all"}
    return Recipe("test", **{**settings, **changes})


@pytest.fixture
def begin(clip_folder: Path, data: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Begin a run, or go on with it, that saves its state after every step."""
    monkeypatch.setattr("negclip_core.training.loop._CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("negclip_core.training.loop._TOLD_STEPS", 1)
    rows = torch.arange(len(data.image))

    def go(
        name: str = "run.ckpt", stop: int = 0, report: Callable[..., None] = lambda entry: None, quiet: bool = True,
        **changes: Any,
    ) -> Outcome:  # fmt: skip
        def tell(entry: dict[str, Any]) -> None:
            report(entry)
            if entry["step"] == stop:
                raise KeyboardInterrupt

        return train(load_clip(clip_folder).model, data, (rows[:16], rows[16:]), _recipe(**changes),
                     checkpoint=tmp_path / name, report=tell, quiet=quiet)  # fmt: skip

    return go


def _same(one: Outcome, other: Outcome) -> bool:
    return one.validation_loss == other.validation_loss and all(
        torch.equal(other.weights[name], tensor) for name, tensor in one.weights.items()
    )


def _step(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["step"])


@pytest.mark.parametrize("muon_rate", [0.0, 0.01])
def test_a_run_stopped_at_any_step_equals_one_that_was_not(begin: Train, muon_rate: float) -> None:
    whole = begin("whole.ckpt", muon_rate=muon_rate)
    for stop in range(1, STEPS + 1):
        with pytest.raises(KeyboardInterrupt):
            begin(f"{stop}.ckpt", stop=stop, muon_rate=muon_rate)
        assert _same(begin(f"{stop}.ckpt", muon_rate=muon_rate), whole), stop


def test_a_stopped_run_reports_no_step_that_it_had_kept_again(begin: Train) -> None:
    told: list[list[dict[str, Any]]] = [[], [], []]
    begin("whole.ckpt", report=told[0].append)
    with pytest.raises(KeyboardInterrupt):
        begin(stop=6, report=told[1].append)
    begin(report=told[2].append)
    # The sixth step was told and not yet kept.
    assert [entry for entry in told[1] if entry["step"] < 6] + told[2] == told[0]
    assert [entry["step"] for entry in told[0] if "epoch" in entry] == [4, 8, 12]


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _rename_tensors(path: Path) -> None:
    """The archive is whole, but its tensors go by numbers where torch looks for names."""
    with zipfile.ZipFile(path) as archive:
        content = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in content.items():
            archive.writestr(name, b"\x80\x02K\x01Q." if name.endswith("/data.pkl") else value)


@pytest.mark.parametrize("damage", [_cut, _flip, _empty, _rename_tensors])
def test_where_the_newer_state_is_damaged_the_older_is_used(
    begin: Train, tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = begin("whole.ckpt")
    with pytest.raises(KeyboardInterrupt):
        begin(stop=7)
    newer, older = tmp_path / "run.ckpt", tmp_path / "run.older.ckpt"
    assert (_step(newer), _step(older)) == (6, 5)
    damage(newer)
    # Stopped again before it saves, the run has still one state that is whole.
    with pytest.raises(KeyboardInterrupt):
        begin(stop=6, quiet=False)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("negclip:")]
    assert len(said) == 1 and f"{newer} is damaged" in said[0] and f"going on from {older}" in said[0]
    with pytest.raises(KeyboardInterrupt):
        begin(stop=7)
    assert (_step(newer), _step(older)) == (6, 5)
    assert _same(begin(), whole)


def test_where_both_states_are_damaged_the_run_is_refused(begin: Train, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        begin(stop=7)
    for path in tmp_path.glob("run*.ckpt"):
        _flip(path)
    with pytest.raises(RequestError, match=r"run\.ckpt is damaged .*run\.older\.ckpt is damaged .*delete"):
        begin()


def test_a_full_disk_leaves_the_last_state(
    begin: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = begin("whole.ckpt")

    def fill(entry: dict[str, Any]) -> None:
        if entry["step"] == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(
            UnfinishedWork, match=r"cannot be written .*the last one is kept.*repeat the command"
        ):
            begin(report=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [_step(tmp_path / name) for name in ("run.ckpt", "run.older.ckpt")] == [5, 4]
    assert not list(tmp_path.glob(".run*"))  # nothing half-written takes up the room
    # The disk is found full at the very last, when what was written is put in its place.
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "fsync", full)
        with pytest.raises(UnfinishedWork, match="No space left on device"):
            begin()
    assert _same(begin(), whole)


@pytest.mark.parametrize("room", [200, 100_000], ids=["for no captions", "for no state"])
def test_a_full_disk_is_said_in_one_line(
    corpus: Path, clip_folder: Path, tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from pipelines.cli import main

    arguments = ["train", "--captions", corpus / "captions.json", "--images", corpus, "--clip", clip_folder,
                 "--out", tmp_path / "out", "--batch-size", 8, "--epochs", 1, "--quiet"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["negclip", *map(str, arguments)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr()
    assert ended.value.code == 1 and said.out == ""
    assert len(said.err.splitlines()) == 1 and "make room, and repeat the command" in said.err
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0 and load_clip(tmp_path / "out")


def test_a_disk_that_is_full_at_the_end_keeps_the_training(
    corpus: Path, clip_folder: Path, tmp_path: Path
) -> None:
    request = (corpus / "captions.json", corpus, str(clip_folder), tmp_path / "out")
    run(*request, epochs=1, batch_size=8, quiet=True)
    weights = tmp_path / "out" / "open_clip_model.safetensors"
    whole = weights.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(
            UnfinishedWork, match=r"cannot be written .*its training is kept.*repeat the command"
        ):
            run(*request, epochs=1, batch_size=8, quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert weights.read_bytes() == whole


@pytest.mark.parametrize("at", [2, 4, 8])
def test_an_interrupt_while_a_state_is_written_leaves_the_last(
    tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = States(tmp_path / "run.ckpt")
    states.save({"step": 1, "parameters": torch.zeros(3000)})

    class File(io.FileIO):
        """Ctrl-C comes at one of the pieces that torch writes."""

        left = at

        def write(self, content: Any) -> int:
            File.left -= 1
            if not File.left:
                raise KeyboardInterrupt
            return super().write(content)

    monkeypatch.setattr(Path, "open", lambda path, mode="r": File(str(path), mode))
    with pytest.raises(KeyboardInterrupt):
        states.save({"step": 2, "parameters": torch.zeros(3000)})
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["run.ckpt"] and _step(tmp_path / "run.ckpt") == 1


def test_what_a_killed_save_left_is_removed(begin: Train, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        begin(stop=3)
    half = tmp_path / ".run.0123456789ab.ckpt"
    half.write_bytes((tmp_path / "run.ckpt").read_bytes()[:1000])
    begin()
    assert not half.exists()


def test_a_state_of_other_settings_is_refused(begin: Train) -> None:
    begin(epochs=1)
    with pytest.raises(RequestError, match=r"other settings \(seed: 0 there, 1 now\)"):
        begin(epochs=1, seed=1)


def test_a_state_of_other_captions_or_another_clip_is_refused(
    corpus: Path, clip_folder: Path, other_clip_folder: Path, tmp_path: Path
) -> None:
    captions, others = corpus / "captions.json", tmp_path / "others.json"
    others.write_text(
        captions.read_text("utf-8").replace("a street with no cars", "a street without cars"), "utf-8"
    )

    def go(**changes: Any) -> None:
        given = {"captions": captions, "clip": str(clip_folder), **changes}
        run(images=corpus, out=tmp_path / "out", epochs=1, batch_size=8, quiet=True, **given)

    go()
    files = [tmp_path / "out" / name for name in ("open_clip_model.safetensors", "README.md")]
    written = [file.read_bytes() for file in files]
    for what, changes in (
        (r"captions \(SHA-256\)", {"captions": others}),
        (r"clip \(SHA-256\)", {"clip": str(other_clip_folder)}),
        ("limit", {"limit": 20}),
    ):
        with pytest.raises(RequestError, match=rf"other settings \({what}: .* there, .* now\)"):
            go(**changes)
    go()
    assert [file.read_bytes() for file in files] == written


def test_a_run_begun_before_a_setting_was_known_goes_on(begin: Train, tmp_path: Path) -> None:
    whole = begin("whole.ckpt")
    with pytest.raises(KeyboardInterrupt):
        begin(stop=6)
    state = torch.load(tmp_path / "run.ckpt", weights_only=True)
    recipe = json.loads(state["recipe"])
    assert recipe.pop("patience") == 0 and recipe.keys() == asdict(_recipe()).keys() - {"patience"}
    del state["made_of"]
    torch.save({**state, "recipe": json.dumps(recipe)}, tmp_path / "run.ckpt")
    assert _same(begin(), whole)


def test_patience_ends_a_run_that_gets_no_better_and_is_remembered(
    begin: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = [3.0, 2.0, 1.0, 1.5, 1.2, 0.5, 0.4]
    monkeypatch.setattr("negclip_core.training.loop._validate", lambda run, rows: curve[len(run.losses)])
    assert begin("whole.ckpt", epochs=7).best_epoch == 7
    ended = begin(patience=2, epochs=7)
    assert (ended.validation_loss, ended.best_epoch) == (curve[:5], 3)
    told: list[dict[str, Any]] = []
    again = begin(patience=2, epochs=7, report=told.append)
    assert not told and _same(again, ended)
    with pytest.raises(RequestError, match="other settings"):
        begin(patience=3, epochs=7)


def test_killed_and_resumed_through_the_command_line_the_weights_are_the_same() -> None:
    script = Path(__file__).parents[1] / "bench" / "kills.py"
    found = subprocess.run(
        [sys.executable, str(script), "2", "60", "12"], capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("killed ") == 2
