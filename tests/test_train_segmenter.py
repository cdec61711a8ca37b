"""`negclip train --host clipseg`: only the decoder learns, beside the chosen text tower; a killed run goes on."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPSegForImageSegmentation
from typer.testing import CliRunner

from negclip_core.clip import load_clip
from negclip_core.errors import RequestError
from negclip_core.files import alone_in, make_output_folder
from negclip_core.training import fit
from pipelines import train as tower
from pipelines.cli import app
from pipelines.segmenter import load_segmenter
from pipelines.train_segmenter import Request, run

SIDE = 24


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that are bright where "the dog" is, in RefCOCOg's form."""
    folder = tmp_path_factory.mktemp("refcocog")
    images, things, refs = [], [], []
    for number in range(8):
        left = 2 + number
        pixels = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
        pixels[4:16, left : left + 12] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": SIDE, "width": SIDE})
        box = [left, 4, left + 12, 4, left + 12, 16, left, 16]
        things.append({"id": number, "image_id": number, "segmentation": [box]})
        refs.append({"ref_id": number, "ann_id": number, "image_id": number, "split": "train",
                     "sentences": [{"sent_id": number, "sent": "the dog"}]})  # fmt: skip
    (folder / "refcocog.json").write_text(json.dumps(refs))
    (folder / "instances_train.json").write_text(json.dumps({"images": images, "annotations": things}))
    return folder


@pytest.fixture
def settings(data: Path, clipseg_folder: Path, other_clip_folder: Path) -> dict[str, Any]:
    return {"task": "refcocog", "data": data, "model": str(clipseg_folder), "text_encoder": str(other_clip_folder),
            "batch_size": 4, "quiet": True, "device": "cpu"}  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return CLIPSegForImageSegmentation.from_pretrained(folder).state_dict()


def loss(folder: Path, data: Path) -> float:
    """Mean cross-entropy of the first picture's mask."""
    found = load_segmenter(str(folder), "cpu")
    heat = found.heat(Image.open(data / "0.png").convert("RGB"), ["the dog"])[0]
    true = np.zeros((SIDE, SIDE), dtype=bool)
    true[4:16, 2:14] = True
    return float(-np.log(np.clip(np.where(true, heat, 1 - heat), 1e-6, 1)).mean())


def test_the_decoder_learns_and_all_else_stays(
    settings: dict[str, Any], data: Path, clipseg_folder: Path, other_clip_folder: Path, tmp_path: Path
) -> None:
    result = run(Request(**settings, steps=60, learning_rate=1e-2, out=tmp_path / "out"))
    assert result == {"checkpoint": str(tmp_path / "out"), "expressions": 8, "steps": 60}
    before, after = weights(clipseg_folder), weights(tmp_path / "out")
    moved = {name for name in before if not torch.equal(before[name].float(), after[name].float())}
    assert {name.split(".")[0] for name in moved} == {"clip", "decoder"}
    assert {name.split(".")[1] for name in moved if name.startswith("clip.")} == {
        "text_model",
        "text_projection",
    }
    tower = load_clip(other_clip_folder).text_encoder(projection=True).state_dict()
    for name, tensor in tower.items():
        torch.testing.assert_close(after[f"clip.{name}"].float(), tensor.float(), rtol=1e-3, atol=1e-3)
    assert loss(tmp_path / "out", data) < 0.7 * loss(clipseg_folder, data)


def test_a_run_that_was_killed_goes_on_to_the_same_weights(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(Request(**settings, steps=6, out=tmp_path / "whole"))
    monkeypatch.setattr(fit, "_CHECKPOINT_SECONDS", 0.0)
    taken = torch.optim.AdamW.step
    counts = {"steps": 0}

    def killed(self: torch.optim.AdamW, *given: Any) -> Any:
        counts["steps"] += 1
        if counts["steps"] == 4:
            raise KeyboardInterrupt
        return taken(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            run(Request(**settings, steps=6, out=tmp_path / "cut"))
    run(Request(**settings, steps=6, out=tmp_path / "cut"))
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_state_of_another_run_is_refused_and_the_line_says_what_differs(
    settings: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    given = settings | {"steps": 2, "out": tmp_path / "out"}
    run(Request(**given))
    files = [tmp_path / "out" / name for name in ("model.safetensors", "negclip.json")]
    written = [file.read_bytes() for file in files]
    for what, changes in (
        ("steps: 2 there, 1 now", {"steps": 1}),
        ("seed: 0 there, 1 now", {"seed": 1}),
        ("learning rate: 0.001 there, 0.01 now", {"learning_rate": 0.01}),
        ("batch size: 4 there, 2 now", {"batch_size": 2}),
        ("limit: None there, 4 now", {"limit": 4}),
        (r"text encoder \(SHA-256\): .* there, None now", {"text_encoder": None}),
    ):
        with pytest.raises(RequestError, match=rf"other settings \({what}\)"):
            run(Request(**given | changes))
    other = tmp_path / "other"
    shutil.copytree(data, other)
    refs = other / "refcocog.json"
    refs.write_text(refs.read_text().replace("the dog", "the cat"))
    with pytest.raises(RequestError, match=r"other settings \(expressions \(SHA-256\): .* there, .* now\)"):
        run(Request(**given | {"data": other}))
    run(Request(**given))
    assert [file.read_bytes() for file in files] == written


def test_a_state_from_before_that_goes_on_unless_it_has_taken_more_steps(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    given = settings | {"steps": 3, "out": tmp_path / "out"}
    run(Request(**given))
    kept = weights(tmp_path / "out")
    path = tmp_path / "out" / "run.ckpt"
    state = torch.load(path, weights_only=True)
    del state["made_of"]
    torch.save(state, path)
    run(Request(**given))
    assert all(torch.equal(tensor, kept[name]) for name, tensor in weights(tmp_path / "out").items())
    with pytest.raises(
        RequestError, match=r"is not a state of this run \(ValueError: it has taken 3 of 2 steps\)"
    ):
        run(Request(**given | {"steps": 2}))
    torch.save({"step": 3, "recipe": "{}"}, path)  # of a text tower
    with pytest.raises(RequestError, match="is not a state of this run"):
        run(Request(**given))


def test_the_command_trains_a_decoder(
    data: Path, clipseg_folder: Path, other_clip_folder: Path, tmp_path: Path
) -> None:
    words = ["train", "--host", "clipseg", "--data", data, "--model", clipseg_folder, "--text-encoder", other_clip_folder,
             "--steps", 1, "--batch-size", 2, "--limit", 4, "--out", tmp_path / "out", "--device", "cpu", "--json", "--quiet"]  # fmt: skip
    result = CliRunner().invoke(app, [*map(str, words)])
    assert json.loads(result.stdout) == {"checkpoint": str(tmp_path / "out"), "expressions": 4, "steps": 1}


def test_what_cannot_be_trained_on_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    for changes, message in (
        ({"task": "retrieval"}, "is one of understanding"),
        ({"steps": 0}, "--steps 0"),
        ({"learning_rate": -1.0}, "--learning-rate -1.0: expected a number from 0 to 1000"),
        ({"learning_rate": float("nan")}, "--learning-rate nan"),
        ({"data": tmp_path / "nowhere"}, "no such data folder"),
    ):
        with pytest.raises(RequestError, match=message):
            run(Request(**(settings | {"steps": 1} | changes), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    for arguments in (["--host", "clipseg"], ["--clip", "miniature"]):
        result = CliRunner().invoke(app, ["train", *arguments, "--out", str(tmp_path / "out")])
        assert isinstance(result.exception, RequestError)


@pytest.mark.parametrize(
    "option",
    ["--captions x", "--images x", "--clip x", "--objective paper", "--epochs 1", "--patience 1", "--lora-rank 0", "--no-bf16",
     "--split image", "--max-bad-images 0.01", "--tensorboard"],
)  # fmt: skip
def test_options_of_a_text_tower_are_refused(option: str, data: Path, tmp_path: Path) -> None:
    words = [
        "train",
        "--host",
        "clipseg",
        "--data",
        str(data),
        *option.split(),
        "--out",
        str(tmp_path / "out"),
    ]
    error = CliRunner().invoke(app, words).exception
    name = option.split()[0].replace("--no-", "--")
    assert (
        isinstance(error, RequestError)
        and str(error) == f"{name}: does nothing with --host clipseg; leave it out"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "option", ["--data x", "--task refcocog", "--model x", "--text-encoder x", "--steps 20000"]
)
def test_options_of_a_decoder_are_refused_without_one(option: str, tmp_path: Path) -> None:
    words = [
        "train",
        "--captions",
        "x",
        "--images",
        "x",
        "--clip",
        "x",
        *option.split(),
        "--out",
        str(tmp_path / "out"),
    ]
    error = CliRunner().invoke(app, words).exception
    name = option.split()[0]
    assert (
        isinstance(error, RequestError)
        and str(error) == f"{name}: does nothing without --host clipseg; leave it out"
    )
    assert not (tmp_path / "out").exists()


def test_a_folder_holds_one_run(
    settings: dict[str, Any], clip_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    request = Request(**settings, steps=1, out=tmp_path / "out")
    with (
        alone_in(make_output_folder(tmp_path / "out")),
        pytest.raises(RequestError, match="another run is writing to it"),
    ):
        run(request)
    tower.run(
        corpus / "captions.json",
        corpus,
        str(clip_folder),
        tmp_path / "out",
        epochs=1,
        batch_size=8,
        quiet=True,
    )
    with pytest.raises(RequestError, match=r"\(training: 'text tower' there, 'decoder' now\)"):
        run(request)


@pytest.mark.parametrize("limit", ["0", "-1"])
@pytest.mark.parametrize("host", [[], ["--host", "clipseg"]], ids=["text tower", "decoder"])
def test_a_limit_is_one_at_least(host: list[str], limit: str) -> None:
    result = CliRunner().invoke(app, ["train", *host, "--limit", limit])
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
