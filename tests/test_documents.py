"""Every command and Python block of *.md and docs/*.md runs, or is marked with why not and has options that exist.

Runs are made short (`SHORTER`), and names of the hub stand for shipped models (`STAND_INS`): all else is as printed.
"""

import re
import sys
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
from documents import (  # type: ignore[import-not-found]  # pytest puts tests/ on the path
    DOCUMENTS,
    ROOT,
    Block,
    blocks,
    commands,
    document_id,
)

from pipelines import cli

SHORTER = {
    "generate": ["--steps", "2"],
    "eval": ["--limit", "4", "--steps", "2", "--batch", "4"],
    "train": ["--epochs", "1", "--limit", "120"],
}
STAND_INS = {
    '"jerryray/negationclip", architecture="ViT-B-16"': '"miniature/negationclip"',
    '"jerryray/negationclip", architecture="ViT-L-14"': '"miniature/negationclip"',
    '"stable-diffusion-v1-5/stable-diffusion-v1-5"': repr(str(ROOT / "negclip_core/miniature/stable-diffusion")),
    '"CIDAS/clipseg-rd64-refined"': repr(str(ROOT / "negclip_core/miniature/clipseg")),
}  # fmt: skip
OTHERS = ("accelerate", "cp", "git", "ln", "torchrun", "vllm")  # programs of others, that are always marked
RESULTS = sorted((ROOT / "docs" / "results").glob("*.md"))  # hours of work: checked, and not run


def check(words: list[str]) -> None:
    """Check a command without running it: its options, or the file, target or extra that it names."""
    program = Path(words[0]).name
    if program == "negclip":
        _check_options(words[1:])
    elif program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
        assert next(word for word in words[1:] if "=" not in word) in targets
    elif program == "pip":
        extras = metadata("negclip").get_all("Provides-Extra") or []
        for extra in re.findall(r"negclip\[([\w,]+)\]", " ".join(words)):
            assert set(extra.split(",")) <= set(extras)
    elif program == "python" and words[1] == "-c":
        compile(words[2], "-c", "exec")
    elif program == "python":
        assert words[1:3] == ["-m", "pip"] or (ROOT / words[1]).is_file()
    else:
        assert program in OTHERS, f"{program} is no program that documents may name"
        if "negclip" in words:
            _check_options(words[words.index("negclip") + 1 :])


def _check_options(arguments: list[str]) -> None:
    """Raise typer's own error where a verb does not exist or does not take these arguments."""
    from typer.main import get_command

    command: Any = get_command(cli.app)
    while arguments and arguments[0] in getattr(command, "commands", {}):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    command.make_context(command.name, [word for word in arguments if word != "..."])


def _run(words: list[str], monkeypatch: pytest.MonkeyPatch, shorter: bool) -> int:
    more = SHORTER.get(words[1], []) if shorter and len(words) > 1 else []
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["negclip", *words[1:], *more])
        return cli._main([])


def _printed(line: str, output: str) -> bool:
    """Whether a line of a transcript is among the lines of the output."""
    pattern = ".*".join(re.escape(part) for part in line.split("..."))
    return re.search(rf"^{pattern}\s*$", output, re.M) is not None


def _execute(block: Block, names: dict[str, Any], where: str) -> None:
    text = block.text
    for printed, ours in STAND_INS.items():
        text = text.replace(printed, ours)
    code = compile("\n" * block.line + text, where, "exec")
    if not is_file(block):
        exec(code, names)


def _provide(folder: Path) -> None:
    """What a person has beforehand, under the names that documents give it: a photograph, a table, a checkpoint."""
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    Image.new("RGB", (96, 64), "grey").save(folder / "photo.jpg")
    (folder / "prices.csv").write_text("item,price\ntea,2\n")
    own = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
    save_file({own: torch.zeros(192).half()}, folder / "v1-5-pruned-emaonly.safetensors")


def is_file(block: Block) -> bool:
    """Whether a block shows a file of the package by its first line; tests/test_extending.py puts such files to work."""
    return re.match(r"# [\w/]+\.py\n", block.text) is not None


@pytest.mark.parametrize("path", DOCUMENTS, ids=document_id)
def test_what_documents_show_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _provide(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks(path):
        where = f"{document_id(path)}:{block.line}"
        if block.language == "python":
            assert block.not_run is None, f"{where}: Python is always run"
            _execute(block, names, where)
            continue
        for words, lines in commands(block):
            told = f"{where}: {' '.join(words)}"
            if block.language == "sh":
                check(words)
            if block.not_run is None and Path(words[0]).name == "negclip":
                code = _run(words, monkeypatch, shorter=block.language == "sh")
                captured = capsys.readouterr()
                output = captured.out + re.sub(r".*\r", "", captured.err)
                assert block.language == "console" or code == 0, f"{told}\n{output}"
                assert all(_printed(line, output) for line in lines), f"{told}\n{output}"
            assert words[0] not in OTHERS or block.not_run is not None, f"{told} needs a mark"


@pytest.mark.parametrize("path", RESULTS, ids=document_id)
def test_commands_of_results_have_options_that_exist(path: Path) -> None:
    for block in blocks(path):
        for words, _ in commands(block):
            check(words)


def test_a_wrong_option_and_a_missing_file_are_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        check(["negclip", "generate", "a street", "--stepz", "3"])
    with pytest.raises(AssertionError):
        check(["python", "bench/nonesuch.py"])


@pytest.mark.parametrize("path", [*DOCUMENTS, *RESULTS], ids=document_id)
def test_links_and_named_documents_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert "://" in target or (path.parent / target).exists(), f"{document_id(path)} links to {target}"
    for name in re.findall(r"`(docs/[\w/.-]+\.\w+)`", text):
        assert (ROOT / name).exists(), f"{document_id(path)} names {name}"
