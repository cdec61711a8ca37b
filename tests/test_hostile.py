"""Names that lead elsewhere, numbers without end, arguments that are no text, and ends that nobody asked for."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run as negclip  # type: ignore[import-not-found]  # pytest puts tests/ on the path
from PIL import Image

from eval.data import find_image
from eval.options import Options
from eval.registry import task
from eval.runner import run_task
from negclip_core.captions.endpoint import Endpoint
from negclip_core.errors import RequestError, UnfinishedWork
from negclip_core.files import alone_in, parse_json, write_safetensors
from negclip_core.images import open_image
from negclip_core.language import parse
from negclip_core.training.shards import open_named
from pipelines.miniature import export

ROOT = Path(__file__).parents[1]
OUTSIDE = (
    "../secret.png",
    "a/../../secret.png",
    "/etc/passwd",
    "..",
    "a\0b.png",
    "x.tar/../../secret.png/../y.tar/z",
)


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """Start `negclip` in a process of its own, which minds SIGHUP even where the tests run under nohup."""

    def go(*words: Any, **options: Any) -> Any:
        code = "import signal as s; s.signal(s.SIGHUP, s.SIG_DFL); from pipelines.cli import main; main()"
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen([sys.executable, "-c", code, *words], env=environment, cwd=tmp_path, **pipes)

    return go


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out_of_the_pictures_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    with pytest.raises(FileNotFoundError):
        open_named(folder, name)
    with pytest.raises(RequestError, match="is not there"):
        find_image(folder, name)


def test_members_of_a_shard_that_are_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for kind, name in ((tarfile.SYMTYPE, "soft.png"), (tarfile.LNKTYPE, "hard.png")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "../secret.png"
            archive.addfile(link)
        up = tarfile.TarInfo("../secret.png")
        up.size = 5
        archive.addfile(up, io.BytesIO(b"other"))
    for name in ("soft.png", "hard.png"):
        with pytest.raises(FileNotFoundError):
            open_named(tmp_path, f"a.tar/{name}")
    assert (tmp_path / "secret.png").read_bytes() == b"secret"


def test_two_items_of_one_id_are_refused(tmp_path: Path) -> None:
    files = export.run(tmp_path, 4, 3, "test")["files"]
    path = Path(files["captions"])
    document = json.loads(path.read_text())
    document["images"] += document["images"]
    path.write_text(json.dumps(document))
    with pytest.raises(RequestError, match="2 items with the id"):
        run_task(task("retrieval"), [], tmp_path, tmp_path / "out", Options())


def test_an_image_of_more_pixels_than_a_picture_has_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (10_000, 9_001)).save(path)
    with pytest.raises(RequestError, match="10000 x 9001 pixels, more than 90,000,000"):
        open_image(path)


def test_a_picture_whose_parts_say_that_they_are_gigabytes_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "said.png")
    content = (tmp_path / "said.png").read_bytes()
    at = content.index(b"IDAT")
    (tmp_path / "said.png").write_bytes(content[: at - 4] + b"\xff" * 4 + content[at:])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    try:
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, limits[1]))
        with pytest.raises(RequestError, match=r"said\.png: takes more memory than there is"):
            open_image(tmp_path / "said.png")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_halves_of_surrogate_pairs_become_the_sign_for_what_is_none() -> None:
    assert parse_json(r'["\ud83d a", "\ud83d\ude97", {"\udc00": 1}]') == [
        "\ufffd a",
        "\U0001f697",
        {"\ufffd": 1},
    ]


def test_errors_are_one_line_whatever_is_in_them() -> None:
    said = str(RequestError("a\nb \x1b[2J \ud800 \u202e" + "x" * 1000 + " do this"))
    assert said.startswith(r"a b \x1b[2J \ud800 \u202ex") and said.endswith("x do this")
    assert len(said) < 500 and said.isprintable()


@pytest.mark.parametrize(
    "text", ["no " * 20_000, "\u200b\u202e" * 20_000 + "no cars", "x" * 1_000_000, "no, " * 5_000 + "cars"]
)
def test_long_prompts_are_parsed(text: str) -> None:
    found = parse(text)
    for each in found.negations:
        assert text[slice(*each.cue_span)] == each.cue


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["generate", "a car", "--steps", "1000000000"], "--steps"),
        (["generate", "a car", "--height", "1000000000000000000"], "--height"),
        (["eval", "t2i-negation", "--steps", "1000000000"], "--steps"),
        (["eval", "t2i-negation", "--pictures", "1000000000000000000"], "--pictures"),
        (["generate", "a car", "--seed", "100000000000000000000"], "--seed"),
    ],
)
def test_numbers_without_end_are_refused(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    code, printed, errors = negclip([*words, "--out", str(tmp_path / "out")], monkeypatch, capsys)
    assert code == 2 and not printed and said in errors and len(errors.splitlines()) == 1, errors
    assert not list(tmp_path.rglob("*.png"))


def test_an_argument_that_is_not_utf_8_is_refused(start: Any) -> None:
    child = start("parse", b"no caf\xe9s")
    printed, errors = child.communicate()
    assert child.returncode == 2 and not printed
    assert errors.decode().startswith(r"negclip: argument 2, 'no caf\udce9s', is not UTF-8")


def test_lines_that_are_not_utf_8_are_parsed(start: Any) -> None:
    child = start("parse", "--json", stdin=subprocess.PIPE)
    printed, _ = child.communicate(b"no caf\xe9s\n\xff\n")
    assert [each["text"] for each in json.loads(printed)] == ["no caf\ufffds", "\ufffd"]


def test_standard_input_that_is_closed_is_no_text(start: Any) -> None:
    child = start("parse", preexec_fn=lambda: os.close(0))
    _, errors = child.communicate()
    assert child.returncode == 2 and errors.startswith(b"negclip: no text to parse")


def test_who_stops_reading_is_told_nothing(start: Any) -> None:
    child = start("parse", *(["no cars"] * 5000))
    child.stdout.close()
    assert child.stderr.read() == b"" and child.wait() == 1


def test_an_output_that_is_full_is_one_line(start: Any) -> None:
    with Path("/dev/full").open("wb") as full:
        child = start("parse", "no cars", stdout=full)
        _, errors = child.communicate()
    assert child.returncode == 1 and len(errors.splitlines()) == 1 and b"No space left" in errors


def test_a_file_that_cannot_be_written_keeps_what_was_there(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        write_safetensors({"a": torch.zeros(1)}, path / "below")
    assert path.read_bytes() == b"old" and [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]


def test_two_runs_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    with (
        alone_in(tmp_path),
        pytest.raises(RequestError, match="another run is writing to it"),
        alone_in(tmp_path),
    ):
        pytest.fail("two at once")
    with alone_in(tmp_path):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_is_one_line_and_leaves_no_half(number: int, start: Any, tmp_path: Path) -> None:
    child = start("generate", "a street with no cars", "-n", "200", "--steps", "4", "--out", "out", "--quiet")
    while not list(tmp_path.glob("out/*.png")):
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)
    child.send_signal(number)
    _, errors = child.communicate()
    assert child.returncode == 128 + number and errors == b"negclip: interrupted\n"
    for path in (tmp_path / "out").iterdir():
        assert not path.name.startswith(".")
        Image.open(path).load()


def test_a_signal_to_a_command_and_its_group_ends_all_that_it_has_begun(start: Any, tmp_path: Path) -> None:
    child = start(
        "miniature", "export", "--images", "20000", "--out", "world", "--quiet", start_new_session=True
    )
    while not list(tmp_path.glob("world/images/*.png")):
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    os.killpg(child.pid, signal.SIGTERM)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 128 + signal.SIGTERM and errors == b"negclip: interrupted\n"
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)


async def _answer(body: bytes, head: bytes = b"") -> str:
    import asyncio

    from negclip_core.captions.prompts import load_prompt

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (len(body), head) + body)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Endpoint(f"http://127.0.0.1:{port}/v1#m", 1, tries=1) as endpoint:
            return await endpoint.ask(load_prompt("propose"), {"caption": "a", "tried": "b"}, 0)


@pytest.mark.parametrize(
    ("body", "head"),
    [(b"[" * 100_000, b""), (b" " * (17 << 20), b""), (b"no gzip", b"Content-Encoding: gzip\r\n")],
    ids=["nested without end", "larger than any answer", "not packed as it says"],
)
def test_an_answer_that_is_none_ends_the_run_in_one_line(body: bytes, head: bytes) -> None:
    import asyncio

    with pytest.raises(UnfinishedWork, match="no answer after 1 tries"):
        asyncio.run(_answer(body, head))


def test_pictures_of_all_kinds_come_out_upright_and_whole(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (8, 4), (200, 0, 0)).save(tmp_path / "turned.jpg", exif=turned)
    assert open_image(tmp_path / "turned.jpg").size == (4, 8)
    Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(tmp_path / "deep.png")
    assert np.asarray(open_image(tmp_path / "deep.png")).min() == 255
    clear = Image.new("P", (4, 4))
    clear.save(tmp_path / "clear.png", transparency=0)
    assert np.asarray(open_image(tmp_path / "clear.png")).min() == 255
    frames = [Image.new("RGB", (4, 4), (n, 0, 0)) for n in (10, 200)]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert np.asarray(open_image(tmp_path / "moving.webp"))[0, 0, 0] == 10
