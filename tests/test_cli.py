"""The command line: one JSON document, one line for what is wrong, the exit codes, and no torch for --help."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import run  # type: ignore[import-not-found]  # pytest puts tests/ on the path

from negclip_core.errors import RequestError


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["generate", "--help"],
        ["score", "--help"],
        ["web", "--help"],
        ["parse", "no cars"],
        ["--version"],
    ],
)
def test_answers_without_importing_torch(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['negclip', *{arguments}]\n"
        "from pipelines import cli\n"
        "try: cli.main()\n"
        "finally: sys.stderr.write(','.join({'torch', 'diffusers', 'transformers', 'open_clip', 'gradio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout
    assert done.stderr == ""


def test_no_arguments_show_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run([], monkeypatch, capsys)
    assert code == 0
    assert "Usage: negclip" in out and "generate" in out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["generate"], "Missing argument 'PROMPT'"),
        (["generate", ""], "the prompt is empty"),
        (["generate", "a street", "--seed", "-1"], "--seed -1"),
        (["generate", "a street", "-n", "0"], "-n 0"),
        (["generate", "a street", "--model", "nonesuch"], "no model called 'nonesuch'"),
        (["generate", "a street", "--steps", "many"], "Invalid value for '--steps'"),
        (["generate", "a street", "--nonesuch"], "No such option"),
        (["nonesuch"], "No such command 'nonesuch'"),
        (["parse", " "], "text 1 of 1 is blank"),
        (["score", "nonesuch.png", "--text", "a car"], "nonesuch.png: no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(arguments, monkeypatch, capsys)
    assert (code, out) == (2, "")
    assert err.startswith("negclip: ") and line in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_parse_reads_lines_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("a street with no cars\n\n \na park\n"))
    code, out, _ = run(["parse", "--json"], monkeypatch, capsys)
    first, second = json.loads(out)
    assert code == 0
    assert first["negations"][0] == {
        "cue": "no", "cue_span": [14, 16], "scope": "cars", "scope_span": [17, 21], "absent": ["cars"],
    }  # fmt: skip
    assert (first["affirmative"], first["negative_prompt"]) == ("a street", "cars")
    assert second == {"text": "a park", "negations": [], "affirmative": "a park", "negative_prompt": ""}


def test_generate_prints_one_json_document(
    pipeline_folder: Path,
    other_clip_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [
        "generate",
        "a street with no cars",
        "--compare",
        "--json",
        "--steps",
        "1",
        "--out",
        str(tmp_path),
    ]
    arguments += [
        "--model",
        str(pipeline_folder),
        "--text-encoder",
        str(other_clip_folder),
        "--device",
        "cpu",
    ]
    code, out, err = run(arguments, monkeypatch, capsys)
    document = json.loads(out)
    assert code == 0
    assert document.keys() >= {"model", "text_encoder", "images", "contact_sheet"}
    assert document["images"][0].keys() >= {"path", "prompt", "seed", "arm", "seconds"}
    assert all(Path(image["path"]).is_file() for image in document["images"])
    assert "drawing" in err
    code, out, err = run([*arguments, "--quiet"], monkeypatch, capsys)
    assert (code, err) == (0, "")


def test_score_sets_arms_side_by_side(
    clip_folder: Path,
    other_clip_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from PIL import Image

    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    arguments = [
        "score",
        str(tmp_path / "red.png"),
        "--text",
        "a car",
        "--text",
        "no car",
        "--clip",
        str(clip_folder),
    ]
    code, out, _ = run([*arguments, "--arms", f"vanilla,{other_clip_folder}", "--json"], monkeypatch, capsys)
    document = json.loads(out)
    assert code == 0
    assert list(document["arms"]) == ["vanilla", str(other_clip_folder)]
    for arm in document["arms"].values():
        assert sum(arm["probability"][0]) == pytest.approx(1)
        assert len(arm["similarity"][0]) == 2
    assert document["texts"] == ["a car", "no car"]
    spaced = run([*arguments, "--arms", f" vanilla , {other_clip_folder}", "--json"], monkeypatch, capsys)
    assert json.loads(spaced[1]) == document
    code, _, err = run(arguments, monkeypatch, capsys)
    assert code == 2 and "has no arm 'negationclip'" in err


def test_a_negation_that_would_be_cut_is_refused(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from open_clip.tokenizer import SimpleTokenizer
    from PIL import Image

    from pipelines.score import check_texts

    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    # 75 words are read; where there is one more, the negation is not.
    room, more = "car " * 73, "a street. " * 30
    for text, expected in ((f"{room}no car", 0), (f"{room}car no car", 2), (f"no dog here. {more}", 0)):
        words = [
            "score",
            str(tmp_path / "red.png"),
            "--clip",
            str(clip_folder),
            "--arms",
            "vanilla",
            "--text",
            text,
        ]
        code, _, err = run(words, monkeypatch, capsys)
        assert code == expected
        assert ("negation 'no' is in what would be cut; shorten it" in err) == bool(expected)
    # And by the tokenizer of a CLIP that brings none.
    clip: Any = SimpleNamespace(
        name="x", config={"text_cfg": {"context_length": 77}}, tokenizer=SimpleTokenizer()
    )
    check_texts([f"{room}no car", f"no dog here. {more}"], {"vanilla": clip})
    with pytest.raises(RequestError, match="more tokens than the 77 that x reads"):
        check_texts(["a car", f"{room}car no car"], {"vanilla": clip})


def test_doctor_reports(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["doctor", "--json"], monkeypatch, capsys)
    document = json.loads(out)
    assert code == 0
    assert document["versions"]["torch"]
    assert "miniature" in document["models"]
    assert document["cpus"] and document["hub_cache_free_gib"] > 0 and document["cuda_build"] is None
    assert document["settings"]["HF_HUB_OFFLINE"] == "1"


def test_doctor_shows_no_token(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("HF_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "a-secret-of-mine")
    for arguments in (["doctor"], ["doctor", "--json"]):
        _, out, err = run(arguments, monkeypatch, capsys)
        assert "a-secret-of-mine" not in out + err


def test_version_names_what_matters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib.metadata import version

    code, out, _ = run(["--version"], monkeypatch, capsys)
    first, second = out.splitlines()
    assert code == 0 and first == f"negclip {version('negclip')}"
    for name in ("python", "torch", "diffusers", "transformers", "open_clip"):
        assert f"{name} " in second


def test_a_full_gpu_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    import pipelines.parse

    def full(texts: list[str]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(pipelines.parse, "run", full)
    code, out, err = run(["parse", "no cars"], monkeypatch, capsys)
    assert (code, out) == (1, "")
    page = Path(__file__).parent.parent / "docs" / "troubleshooting.md"
    assert err in page.read_text("utf-8") and err.count("\n") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_verbs_and_options(shell: str) -> None:
    """As the script that --install-completion writes asks: with the words so far in the environment."""
    words = {"bash": {"COMP_WORDS": "negclip gen", "COMP_CWORD": "1"},
             "zsh": {"_TYPER_COMPLETE_ARGS": "negclip gen"},
             "fish": {"_TYPER_COMPLETE_ARGS": "negclip gen", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}}  # fmt: skip
    environment = {**os.environ, **words[shell], "_NEGCLIP_COMPLETE": f"complete_{shell}"}
    code = "from pipelines.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert "generate" in done.stdout and "Traceback" not in done.stderr, done.stderr


def test_an_interrupt_is_exit_130_and_keeps_whole_files(
    pipeline_folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    arguments = [
        "generate",
        "a street with no cars",
        "--steps",
        "20",
        "-n",
        "100000",
        "--out",
        str(tmp_path / "out"),
    ]
    arguments += ["--model", str(pipeline_folder), "--text-encoder", str(clip_folder), "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from pipelines.cli import main; main()", *arguments],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "out").is_dir() or not list((tmp_path / "out").glob("*.png")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.rstrip().endswith("negclip: interrupted")
    assert all(p.suffix == ".png" and not p.name.startswith(".") for p in (tmp_path / "out").iterdir())


def test_packages_of_the_same_name_from_elsewhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "__init__.py").write_text("")
    code = "import sys; from pipelines.cli import main; sys.path.insert(0, sys.argv.pop(1)); main()"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "doctor"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"the package 'eval' was found at {tmp_path / 'eval'}, not beside negclip_core" in done.stderr


def test_the_command_reference_is_current() -> None:
    from pipelines.command_reference import PATH, reference

    assert PATH.read_text("utf-8") == reference(), "docs/cli.md is stale: run make docs"
