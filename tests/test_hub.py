"""The command line against a hub on this machine: one command fetches and draws, again without it, and failures are one line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from replica_hub.server import ReplicaHub, serve  # type: ignore[import-not-found]  # pytest puts tests/ on the path

MODEL, ENCODER, PROMPT = "someone/stable-diffusion", "someone/negationclip", "a street with no cars"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hub(tmp_path: Path, pipeline_folder: Path, other_clip_folder: Path) -> Iterator[ReplicaHub]:
    shutil.copytree(pipeline_folder, tmp_path / "hub" / MODEL)
    shutil.copytree(other_clip_folder, tmp_path / "hub" / ENCODER)
    with serve(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def run(hub: ReplicaHub, tmp_path: Path) -> Run:
    """Run `negclip generate` as a process whose hub and cache are the test's own."""

    def command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0",
                    "HF_HUB_DISABLE_XET": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "5", "HF_HUB_ETAG_TIMEOUT": "5"}  # fmt: skip
        return subprocess.run(
            [str(Path(sys.executable).with_name("negclip")), "generate", PROMPT, "--steps", "2", "--json", "--quiet",
             "--out", str(tmp_path / "out"), *(arguments or ("--model", MODEL, "--text-encoder", ENCODER))],
            env={**os.environ, **settings, **environment}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return command


def one_line(result: "subprocess.CompletedProcess[str]") -> str:
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_one_command_fetches_and_draws_and_later_needs_no_hub(hub: ReplicaHub, run: Run) -> None:
    first = run("--model", MODEL, "--text-encoder", ENCODER, "--compare")
    assert first.returncode == 0, first.stderr
    assert [image["arm"] for image in json.loads(first.stdout)["images"]] == ["vanilla", "negationclip"]
    fetched = len([line for line in hub.asked if line.startswith("GET") and "/resolve/" in line])
    assert fetched > 4
    hub.asked.clear()
    again = run("--model", MODEL, "--text-encoder", ENCODER, HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert not hub.asked


def test_a_download_that_was_cut_goes_on(hub: ReplicaHub, run: Run) -> None:
    hub.cut.add("open_clip_model.safetensors")
    result = run()
    if (
        result.returncode
    ):  # the client did not try again by itself: a second command takes up where it stopped
        one_line(result)
        result = run()
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("kind", ["no such model", "no such encoder", "gated", "no hub"])
def test_what_cannot_be_fetched_is_one_line(hub: ReplicaHub, run: Run, kind: str, tmp_path: Path) -> None:
    model = "someone/else" if kind == "no such model" else MODEL
    encoder = "someone/nobody" if kind == "no such encoder" else ENCODER
    if kind == "gated":
        hub.gated.add(MODEL)
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9"} if kind == "no hub" else {}
    line = one_line(run("--model", model, "--text-encoder", encoder, **environment))
    assert (encoder if kind == "no such encoder" else model) in line
    assert not (tmp_path / "out").exists()
