"""`negclip push` against a hub on this machine: what is uploaded, who may, and one line for all that can go wrong."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from command_line import run  # type: ignore[import-not-found]  # pytest puts tests/ on the path
from PIL import Image
from replica_hub.server import ReplicaHub, serve  # type: ignore[import-not-found]

from negclip_core.clip import load_clip
from pipelines.convert import run as convert

NAME = "someone/negation-clip"
Push = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[ReplicaHub]:
    (tmp_path / "hub").mkdir()
    with serve(tmp_path / "hub") as server:
        yield server


@pytest.fixture(params=["open_clip", "transformers"])
def folder(request: pytest.FixtureRequest, clip_folder: Path, tmp_path: Path) -> Path:
    """A CLIP as it is written, with what training leaves beside it."""
    convert(str(clip_folder), tmp_path / "clip", request.param)
    (tmp_path / "clip" / "run.ckpt").write_bytes(b"a state of training")
    (tmp_path / "clip" / "log.jsonl").write_text("{}")
    return tmp_path / "clip"


@pytest.fixture
def push(
    hub: ReplicaHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Push:
    """Run `negclip push` with a hub and a token of the test's own: its exit code, standard output and error."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))

    def command(*arguments: str, token: str = "hf_writer", endpoint: str = hub.url) -> tuple[int, str, str]:
        monkeypatch.setenv("HF_TOKEN", token)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        answer: tuple[int, str, str] = run(["push", *arguments, "--quiet"], monkeypatch, capsys)
        return answer

    return command


def test_what_makes_the_clip_is_uploaded_and_nothing_else(
    hub: ReplicaHub, push: Push, folder: Path, clip_folder: Path
) -> None:
    code, out, err = push(str(folder), NAME, "--json")
    assert code == 0, err
    document = json.loads(out)
    there = hub.root / NAME
    assert sorted(path.name for path in there.iterdir()) == sorted(document["files"])
    assert "README.md" in document["files"] and not {"run.ckpt", "log.jsonl"} & set(document["files"])
    assert document["url"].startswith(f"{hub.url}/{NAME}/commit/") and hub.visibility[NAME] is None
    assert load_clip(there).sha256 == load_clip(folder).sha256
    assert push(str(folder), NAME)[0] == 0, "again"


def test_what_is_fetched_prepares_pictures_as_what_was_uploaded(
    hub: ReplicaHub,
    push: Push,
    folder: Path,
    clip_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    address = hub.url + "/{repo_id}/resolve/{revision}/{filename}"  # made of the endpoint when it is imported
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
    assert push(str(folder), NAME)[0] == 0
    fetched, own = load_clip(NAME), load_clip(clip_folder)
    picture = Image.radial_gradient("L").resize((40, 20))
    assert torch.equal(fetched.preprocess(picture), own.preprocess(picture))


@pytest.mark.parametrize(
    ("token", "line"),
    [
        ("", "no token; set HF_TOKEN"),
        ("hf_nobody", "the hub knows no such token"),
        ("hf_reader", "may not write there"),
    ],
)
def test_a_token_that_will_not_do_is_one_line_without_the_token(
    hub: ReplicaHub, push: Push, clip_folder: Path, token: str, line: str
) -> None:
    code, out, err = push(str(clip_folder), NAME, token=token)
    assert code == 2 and err.startswith(f"negclip: {NAME}: ") and line in err
    assert err.count("\n") == 1 and (not token or token not in out + err)
    assert not (hub.root / NAME).exists()


def test_what_the_hub_cannot_take_is_one_line(hub: ReplicaHub, push: Push, clip_folder: Path) -> None:
    hub.busy.add(NAME)
    nowhere = "http://127.0.0.1:9"
    for endpoint, line in ((hub.url, "changed it meanwhile; repeat"), (nowhere, "check the connection")):
        code, _, err = push(str(clip_folder), NAME, "--private", endpoint=endpoint)
        assert code == 2 and line in err and err.count("\n") == 1, err
    assert hub.visibility[NAME] == "private"


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("name", "expected the repository as owner/name"),
        ("card", "has no README.md"),
        ("folder", "expected a folder with"),
        ("file", "expected a folder; negclip convert"),
    ],
)
def test_what_is_no_clip_with_a_card_is_refused_before_the_hub_is_asked(
    hub: ReplicaHub, push: Push, clip_folder: Path, tmp_path: Path, kind: str, line: str
) -> None:
    convert(str(clip_folder), tmp_path / "clip", "open_clip")
    if kind == "card":
        (tmp_path / "clip" / "README.md").unlink()
    file = "open_clip_model.safetensors" if kind == "file" else ""
    given = str(tmp_path if kind == "folder" else tmp_path / "clip" / file)
    code, _, err = push(given, "negation" if kind == "name" else NAME)
    assert code == 2 and line in err and not hub.asked, err
