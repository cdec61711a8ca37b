"""A checkpoint's config and its weights say the same, or the file is refused with what each says."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from negclip_core.checkpoints import Checkpoint, model_card, read_checkpoint, write_open_clip_folder
from negclip_core.errors import RequestError

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


def _changed(clip_folder: Path, folder: Path, part: str, **changes: Any) -> Path:
    """A copy of the CLIP whose config says something else in `text_cfg`, `vision_cfg` or itself ("")."""
    shutil.copytree(clip_folder, folder)
    document = json.loads((folder / CONFIG).read_text())
    (document["model_cfg"][part] if part else document["model_cfg"]).update(changes)
    (folder / CONFIG).write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    ("part", "name", "said", "kind"),
    [
        ("text_cfg", "width", 63, "text width"),
        ("text_cfg", "layers", 3, "text layers"),
        ("text_cfg", "vocab_size", 49408, "text vocab_size"),
        ("text_cfg", "context_length", 76, "text context_length"),
        ("vision_cfg", "width", 32, "image width"),
        ("vision_cfg", "layers", 2, "image layers"),
        ("vision_cfg", "patch_size", 16, "image patch_size"),
        ("vision_cfg", "image_size", 224, "image image_size"),
        ("", "embed_dim", 33, "embed_dim"),
        ("", "embed_dim", 31, "embed_dim"),
    ],
)
def test_what_config_and_weights_say_is_told(
    clip_folder: Path, tmp_path: Path, part: str, name: str, said: int, kind: str
) -> None:
    folder = _changed(clip_folder, tmp_path / "clip", part, **{name: said})
    own = read_checkpoint(clip_folder).config
    has = (own[part] if part else own)[name]
    with pytest.raises(
        RequestError, match=f"says {kind} {said}, the weights have {has}; the two do not belong"
    ):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", ["width", "layers", "vocab_size", "context_length"])
def test_what_a_config_leaves_out_is_what_the_weights_have(
    clip_folder: Path, tmp_path: Path, name: str
) -> None:
    folder = _changed(clip_folder, tmp_path / "clip", "")
    document = json.loads((folder / CONFIG).read_text())
    said = document["model_cfg"]["text_cfg"].pop(name)
    (folder / CONFIG).write_text(json.dumps(document))
    assert read_checkpoint(folder).config["text_cfg"][name] == said


@pytest.mark.parametrize(("part", "kind"), [("text_cfg", "text"), ("vision_cfg", "image")])
def test_a_width_of_perceptrons_that_the_weights_have_not_is_told(
    clip_folder: Path, tmp_path: Path, part: str, kind: str
) -> None:
    with pytest.raises(
        RequestError, match=f"says {kind} mlp width 192, the weights have 256; the two do not"
    ):
        read_checkpoint(_changed(clip_folder, tmp_path / "clip", part, mlp_ratio=3.0))
    for number, ratio in enumerate((4, 4.01)):  # as far as it makes the same number of whole units
        read_checkpoint(_changed(clip_folder, tmp_path / str(number), part, mlp_ratio=ratio))
    wrong: tuple[object, ...] = ("4", None, [], float("inf"))
    for number, said in enumerate(wrong):
        with pytest.raises(RequestError, match=r"the two do not belong|its config is not a CLIP's"):
            read_checkpoint(_changed(clip_folder, tmp_path / f"wrong{number}", part, mlp_ratio=said))


@pytest.mark.parametrize("heads", [0, -2, 3, 128, 2.0, True, "2", None])
def test_heads_must_divide_the_width(clip_folder: Path, tmp_path: Path, heads: object) -> None:
    with pytest.raises(RequestError, match=f"{heads!r} heads do not divide a width of 64"):
        read_checkpoint(_changed(clip_folder, tmp_path / "clip", "text_cfg", heads=heads))


@pytest.mark.parametrize("heads", [1, 4, 64])
def test_heads_are_the_configs_where_there_is_one(clip_folder: Path, tmp_path: Path, heads: int) -> None:
    folder = _changed(clip_folder, tmp_path / "clip", "text_cfg", heads=heads)
    # The folder, and the file in it by its name, which finds the config beside it.
    for path in (folder, folder / WEIGHTS):
        found = read_checkpoint(path)
        assert (found.layout, found.config["text_cfg"]["heads"], found.config_known) == (
            "open_clip",
            heads,
            True,
        )
        assert found.preprocess == {"mean": [0.5] * 3, "std": [0.5] * 3} and found.tokenizer_folder == folder
    (folder / CONFIG).unlink()
    alone = read_checkpoint(folder / WEIGHTS)
    assert (alone.layout, alone.config["text_cfg"]["heads"], alone.config_known) == ("openai", 1, False)
    assert (alone.preprocess, alone.tokenizer_folder) == ({}, None)
    assert alone.sha256 == found.sha256 == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    with pytest.raises(RequestError, match=r"expected a folder with open_clip_config\.json or config\.json"):
        read_checkpoint(folder)


def test_a_folder_without_weights_says_which_it_wants(clip_folder: Path, tmp_path: Path) -> None:
    shutil.copy(clip_folder / CONFIG, tmp_path)
    with pytest.raises(
        RequestError, match=rf"{CONFIG} is there, but none of {WEIGHTS}, open_clip_pytorch_model\.bin"
    ):
        read_checkpoint(tmp_path)
    torch.save(load_file(clip_folder / WEIGHTS), tmp_path / "open_clip_pytorch_model.bin")
    assert read_checkpoint(tmp_path).layout == "open_clip"


@pytest.mark.parametrize("wrong", [{"vision_cfg": 3}, {"text_cfg": None}, {"vision_cfg": None}])
def test_a_config_of_another_form_is_refused(
    clip_folder: Path, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(RequestError, match="its config is not a CLIP's"):
        read_checkpoint(_changed(clip_folder, tmp_path / "clip", "", **wrong))


def test_other_files_are_told_by_three_of_their_tensors(tmp_path: Path) -> None:
    save_file({name: torch.zeros(1) for name in "abcd"}, tmp_path / "unet.safetensors")
    with pytest.raises(RequestError, match=r"got 4 tensors such as a, b, c$"):
        read_checkpoint(tmp_path / "unet.safetensors")


@pytest.mark.parametrize(
    ("said", "only"),
    [({}, False), ({"pool_type": "argmax"}, False), ({"pool_type": "last"}, True), ({"pool_type": "first"}, True),
     ({"no_causal_mask": True}, True), ({"no_causal_mask": False}, False)],
)  # fmt: skip
def test_which_towers_only_open_clip_can_say(said: dict[str, Any], only: bool) -> None:
    assert Checkpoint({}, {"text_cfg": said}, "openai", "").reads_padding is only


def test_a_folder_holds_what_made_it_and_floats_alone_change_their_kind(
    clip_folder: Path, tmp_path: Path
) -> None:
    own = read_checkpoint(clip_folder)
    assert {tensor.dtype for tensor in own.weights.values()} == {torch.float32}
    weights = {**own.weights, "attn_mask": torch.zeros(77, 77), "steps": torch.tensor([3])}
    made_by = {"z": {"seed": 1}, "a": "Zürich"}
    for dtype, kept in ((torch.float16, torch.float16), (None, torch.float32)):
        folder = tmp_path / str(dtype)
        told = write_open_clip_folder(
            folder, weights, own.config, preprocess={"mean": [0.5] * 3}, made_by=made_by, dtype=dtype
        )
        assert told == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        written = load_file(folder / WEIGHTS)
        assert written.keys() == {*own.weights, "steps"} and written.pop("steps").dtype == torch.int64
        assert {tensor.dtype for tensor in written.values()} == {kept}
        record = '{\n  "a": "Zürich",\n  "z": {\n    "seed": 1\n  }\n}'
        assert (folder / "README.md").read_text("utf-8") == model_card("open_clip", record)
        assert json.loads((folder / CONFIG).read_text()) == {
            "model_cfg": own.config, "preprocess_cfg": {"mean": [0.5] * 3},
        }  # fmt: skip
        assert sorted(path.name for path in folder.iterdir()) == ["README.md", CONFIG, WEIGHTS]
        save_file(written, folder / WEIGHTS)
        read = read_checkpoint(folder)
        assert read.dtypes == dict.fromkeys(own.weights, kept)
        assert {tensor.dtype for tensor in read.weights.values()} == {torch.float32}


def test_tokenizer_files_go_along_and_open_clip_takes_them(clip_folder: Path, tmp_path: Path) -> None:
    own = read_checkpoint(clip_folder)
    write_open_clip_folder(
        tmp_path / "clip", own.weights, own.config, preprocess={}, made_by={}, tokenizer_folder=clip_folder
    )
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        assert (tmp_path / "clip" / name).read_text("utf-8") == (clip_folder / name).read_text("utf-8")
    document = json.loads((tmp_path / "clip" / CONFIG).read_text())
    assert document["model_cfg"]["text_cfg"]["hf_tokenizer_name"] == "."
