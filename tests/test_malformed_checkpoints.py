"""More than 200 damaged or hostile checkpoints: each is one clear line, and nothing in them runs."""

import io
import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save
from torch import Tensor

from negclip_core.clip import load_clip
from negclip_core.errors import RequestError
from pipelines import cli

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
Make = Callable[[Path], Path]  # puts one bad checkpoint into an empty folder, and says what to name
Family = Callable[[Path], Iterator[tuple[str, Make]]]  # of a CLIP's folder: bad checkpoints and what they are


def _file(content: bytes, name: str = "bad.pt") -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _folder(clip: Path, changed: dict[str, object]) -> Make:
    """A CLIP's folder of which some files are other bytes, other JSON, or (None) gone."""

    def make(folder: Path) -> Path:
        shutil.copytree(clip, folder / "clip")
        for name, content in changed.items():
            file = folder / "clip" / name
            if content is None:
                file.unlink()
            else:
                file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return folder / "clip"

    return make


def _weights(clip: Path, weights: dict[str, Tensor]) -> Make:
    return _folder(clip, {WEIGHTS: save({name: tensor.contiguous() for name, tensor in weights.items()})})


def _saved(content: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def truncated(clip: Path) -> Iterator[tuple[str, Make]]:
    whole = (clip / WEIGHTS).read_bytes()
    for part in range(20):
        yield f"safetensors, {part} of 20", _file(whole[: len(whole) * part // 20])
        yield f"folder, {part} of 20", _folder(clip, {WEIGHTS: whole[: len(whole) * part // 20]})
    saved = _saved(load_file(clip / WEIGHTS))
    for part in range(20):
        yield f"torch.save, {part} of 20", _file(saved[: len(saved) * part // 20])


def headers(clip: Path) -> Iterator[tuple[str, Make]]:
    def with_header(header: bytes, length: int | None = None) -> Make:
        return _file(struct.pack("<Q", len(header) if length is None else length) + header + bytes(64))

    name = "token_embedding.weight"
    for length in (0, 1, 2**31, 2**63, 2**64 - 1):
        yield f"length {length}", with_header(b'{"a": 1}', length)
    entries: dict[str, object] = {
        "offsets beyond the end": {"dtype": "F32", "shape": [4], "data_offsets": [0, 10**9]},
        "offsets backwards": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
        "negative offsets": {"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]},
        "shape of another size": {"dtype": "F32", "shape": [5], "data_offsets": [0, 16]},
        "negative shape": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
        "shape that overflows": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]},
        "unknown dtype": {"dtype": "F31", "shape": [4], "data_offsets": [0, 16]},
        "no dtype": {"shape": [4], "data_offsets": [0, 16]},
        "no shape": {"dtype": "F32", "data_offsets": [0, 16]},
        "no entry": None,
        "a list": [],
    }
    for what, entry in entries.items():
        yield what, with_header(json.dumps({name: entry}).encode())
    yield "not JSON", with_header(b"{no JSON at all}")
    yield "not UTF-8", with_header(b'{"\xff\xfe": 1}')
    yield "deep", with_header(b'{"a":' * 10_000 + b"1" + b"}" * 10_000)
    yield "no tensors", with_header(b"{}")


def contents(clip: Path) -> Iterator[tuple[str, Make]]:
    """Every kind of tensor missing, misshapen, not a number or not floating point."""
    whole = load_file(clip / WEIGHTS)
    for name, tensor in whole.items():
        if name in ("logit_scale", "text_projection", "visual.proj", "visual.conv1.weight"):
            continue  # a CLIP may lack these: a text tower alone does
        yield f"{name} missing", _weights(clip, {k: v for k, v in whole.items() if k != name})
        yield f"{name} longer", _weights(clip, {**whole, name: torch.cat([tensor, tensor])})
    for name, tensor in whole.items():
        yield f"{name} in five dimensions", _weights(clip, {**whole, name: tensor.reshape(1, 1, 1, -1, 1)})
    for name in ("token_embedding.weight", "ln_final.bias", "text_projection", "visual.proj", "logit_scale"):
        for value in (float("nan"), float("inf")):
            broken = whole[name].clone()
            broken.view(-1)[-1] = value
            yield f"{name} {value}", _weights(clip, {**whole, name: broken})
        yield f"{name} of integers", _weights(clip, {**whole, name: whole[name].long()})
        yield f"{name} empty", _weights(clip, {**whole, name: torch.zeros(0, 4)})


def pickles(clip: Path) -> Iterator[tuple[str, Make]]:
    """Pickles that would write a file called `ran` if anything of them ran."""

    class Trap:
        def __init__(self, *call: object) -> None:
            self.call = call

        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return self.call[0], self.call[1:]

    calls = (
        (os.system, "touch ran"),
        (exec, "open('ran', 'w')"),
        (eval, "open('ran', 'w')"),
        (open, "ran", "w"),
    )
    for call in calls:
        trap = Trap(*call)
        for protocol in range(6):
            yield f"{call[0].__name__}, protocol {protocol}", _file(pickle.dumps(trap, protocol))
        for options in ({}, {"_use_new_zipfile_serialization": False}):
            yield f"{call[0].__name__} in torch.save {options}", _file(_saved({"a": trap}, **options))
    yield "a whole module", _file(_saved(torch.nn.Linear(2, 2)))
    yield "a list of tensors", _file(_saved([torch.zeros(2)]))
    yield "a number", _file(_saved(3))
    yield "nothing", _file(_saved({}))
    one = torch.zeros(1)
    yield "strides of 0", _file(_saved({"token_embedding.weight": one.as_strided((10**6, 10**6), (0, 0))}))


def archives(clip: Path) -> Iterator[tuple[str, Make]]:
    def packed(entries: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", how) as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        return buffer.getvalue()

    zeros, script = bytes(2**26 + 1), pickle.dumps({})
    with zipfile.ZipFile(io.BytesIO(_saved(load_file(clip / WEIGHTS)))) as archive:
        own = {name: archive.read(name) for name in archive.namelist()}
    yield "a compressed state dict", _file(packed(own))
    bomb = {name: zeros if name.endswith("/data/0") else content for name, content in own.items()}
    yield "a bomb in a state dict", _file(packed(bomb))
    yield "a bomb in an archive's pickle", _file(packed({"a/data.pkl": zeros, "a/constants.pkl": script}))
    yield "an archive of nothing", _file(packed({}))
    yield "an archive without tensors", _file(packed({"a/data.pkl": script, "a/constants.pkl": script}))
    yield "names out of the folder", _file(packed({"../../ran": b"", "/ran": b"", "a/data.pkl": script}))


def links(clip: Path) -> Iterator[tuple[str, Make]]:
    def linked(name: str, target: str) -> Make:
        def make(folder: Path) -> Path:
            shutil.copytree(clip, folder / "clip")
            (folder / "elsewhere").write_bytes((clip / name).read_bytes())
            (folder / "clip" / name).unlink()
            (folder / "clip" / name).symlink_to(target)
            return folder / "clip"

        return make

    for name in (WEIGHTS, CONFIG, "vocab.json", "merges.txt"):
        yield f"{name} out of the folder", linked(name, "../elsewhere")
    for name in (WEIGHTS, CONFIG):
        yield f"{name} to nothing", linked(name, "nowhere")
        yield f"{name} to itself", linked(name, name)
        yield f"{name} to a device", linked(name, "/dev/zero")

    def pipe(folder: Path) -> Path:
        os.mkfifo(folder / "bad.safetensors")
        return folder / "bad.safetensors"

    yield "a pipe", pipe
    yield "an empty folder", lambda folder: folder


def configs(clip: Path) -> Iterator[tuple[str, Make]]:
    known = json.loads((clip / CONFIG).read_text())
    cfg = known["model_cfg"]
    broken: list[object] = [b"{", [], b"\xff{}", b"[" * 100_000]
    for content in broken:
        yield f"config {content!r}"[:40], _folder(clip, {CONFIG: content})
    wrong: list[object] = [
        [],
        3,
        "text",
        {"text_cfg": None},
        {**cfg, "text_cfg": 3},
        {**cfg, "embed_dim": "x"},
    ]
    for said in wrong:
        yield f"model_cfg {said}"[:40], _folder(clip, {CONFIG: {**known, "model_cfg": said}})
    for name in ("width", "layers", "vocab_size", "context_length", "heads"):
        for value in (0, -1, "64", None, 1.5, 10**9):
            text = {**cfg["text_cfg"], name: value}
            said = {**cfg, "text_cfg": text}
            yield f"{name} {value}", _folder(clip, {CONFIG: {**known, "model_cfg": said}})
    vision = {**cfg["vision_cfg"], "width": -1}
    yield "image tower", _folder(clip, {CONFIG: {**known, "model_cfg": {**cfg, "vision_cfg": vision}}})
    yield "preprocessing", _folder(clip, {CONFIG: {**known, "preprocess_cfg": 3}})
    yield "no weights", _folder(clip, {WEIGHTS: None})
    yield "no vocabulary", _folder(clip, {"vocab.json": None})
    yield "broken vocabulary", _folder(clip, {"vocab.json": b"{"})
    words = {f"word{i}": i for i in range(50_000)}
    yield "too many words", _folder(clip, {"vocab.json": words})


def shards(clip: Path) -> Iterator[tuple[str, Make]]:
    def index(content: object) -> Make:
        def make(folder: Path) -> Path:
            (folder / "config.json").write_text("{}")
            (folder / "model.safetensors.index.json").write_text(json.dumps(content))
            shutil.copy(clip / WEIGHTS, folder / "one.safetensors")
            return folder

        return make

    whole = load_file(clip / WEIGHTS)
    wrong: list[object] = [[], {}, {"weight_map": []}, {"weight_map": {}}, {"weight_map": {"a": 3}}]
    for what in wrong:
        yield f"index {what}", index(what)
    for shard in ("../one.safetensors", "/etc/passwd", "missing.safetensors", "", "x.index.json"):
        yield f"shard {shard!r}", index({"weight_map": dict.fromkeys(whole, shard)})
    yield "a tensor that no shard holds", index({"weight_map": {"absent.weight": "one.safetensors"}})


FAMILIES: tuple[Family, ...] = (truncated, headers, contents, pickles, archives, links, configs, shards)


each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)


@each_family
def test_each_is_one_clear_line_and_runs_nothing(
    family: Family, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, (what, make) in enumerate(family(clip_folder)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(RequestError) as caught:
            clip = load_clip(make(folder))
            clip.encode_text(["a street with no cars"])
            _ = clip.preprocess
            pytest.fail(f"{what}: was read")
        assert "\n" not in str(caught.value) and str(folder) in str(caught.value), f"{what}: {caught.value}"
        assert "no tokenizer" not in str(caught.value), f"{what}: was read, and only its tokenizer missed"
        assert not list(tmp_path.rglob("ran")), what
        shutil.rmtree(folder)


def test_a_bomb_is_refused_before_it_is_unpacked(clip_folder: Path, tmp_path: Path) -> None:
    for what, make in list(archives(clip_folder))[:3]:
        with pytest.raises(RequestError, match=r"compressed archive|pickle is larger"):
            load_clip(make(tmp_path))
            pytest.fail(what)


def test_there_are_two_hundred_of_them(clip_folder: Path) -> None:
    assert sum(1 for family in FAMILIES for _ in family(clip_folder)) >= 200


@each_family
def test_the_command_line_says_so_and_exits_with_2(
    family: Family,
    clip_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, make = list(family(clip_folder))[-1]
    picture = tmp_path / "picture.png"
    Image.new("RGB", (16, 16)).save(picture)
    bad = make(tmp_path)
    monkeypatch.setattr(sys, "argv", ["negclip", "score", str(picture), "--text", "a", "--clip", str(bad)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.strip().splitlines()) == 1
