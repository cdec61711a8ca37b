"""`negclip web`: what the page shows is what the commands write, and what it is not for is refused in a line."""

import html
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2 as httpx
import pytest
from command_line import run as run_command  # type: ignore[import-not-found]  # pytest puts tests/ on the path
from PIL import Image

from integrations.methods import method_names
from integrations.referring import WAYS
from pipelines import generate, score, segment
from pipelines.web.parsed import parts, summary

gradio_client = pytest.importorskip("gradio_client")

PROMPT, EXPRESSION, TEXTS = (
    "a street with no cars",
    "the woman without glasses",
    ["a park", "a park with no cars"],
)
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a page with the miniature; when it has ended, nothing is left of what it wrote."""
    from pipelines.web.process import running

    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)
        with running(["--device", "cpu"]) as page:
            yield page.url
    assert [path.name for path in folder.glob("negclip-web-*")] == []


@pytest.fixture(scope="module")
def client(url: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return gradio_client.Client(url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """A drawn picture for which the two arms mark different things."""
    from pipelines.web.examples import write_examples

    return write_examples(tmp_path / "examples")[0]


def drawing(prompt: str = PROMPT, seed: int | None = 0, steps: int = 1) -> dict[str, Any]:
    settings = {"count": 1, "guidance_scale": 3.0, "method": "encoder", "gate": True}
    return {"prompt": prompt, "seed": seed, "steps": steps, **settings, "api_name": "/images"}


def picture(path: Path | str) -> Any:
    return gradio_client.handle_file(str(path))


def masks(path: Path | str, expression: str = EXPRESSION, refine: str = "none") -> dict[str, Any]:
    return {"photo": picture(path), "expression": expression, "refine": refine, "api_name": "/masks"}


def same_files(shown: list[str], written: list[str]) -> None:
    assert {Path(path).name: Path(path).read_bytes() for path in shown} == {
        Path(path).name: Path(path).read_bytes() for path in written
    }


def test_pictures_are_those_of_the_command(client: Any, tmp_path: Path) -> None:
    job = client.submit(**drawing(seed=3, steps=3))
    vanilla, ours, said, files = job.result()
    written = generate.run(generate.Request((PROMPT,), compare=True, seed=3, steps=3, guidance_scale=3.0, out=tmp_path,
                                            device="cpu", quiet=True))  # fmt: skip
    drawn = [image["path"] for image in written["images"]]
    same_files(files["value"], [*drawn, written["contact_sheet"]])
    same_files([each["value"][0]["image"] for each in (vanilla, ours)], drawn)
    assert [each["label"] for each in (vanilla, ours)] == ["vanilla", "NegationCLIP"]
    assert "2 pictures" in said
    forming = [output[0]["value"][0]["image"] for output in job.outputs()[:-1]]
    assert len(set(forming)) >= 3, "steps were to be seen"


def test_unknown_words_are_said(client: Any) -> None:
    _, _, said, _ = client.predict(**drawing("a street with no <b>dragons"))
    assert "The miniature knows streets" in said
    assert "it has never seen b, dragons" in said


@pytest.mark.parametrize("refine", ["none", "sam"])
def test_masks_are_those_of_the_command(client: Any, photograph: Path, tmp_path: Path, refine: str) -> None:
    slider, table, files = client.predict(**masks(photograph, refine=refine))
    request = segment.Request(photograph, (EXPRESSION,), compare=True, refine=None if refine == "none" else refine,
                              out=tmp_path / "out", device="cpu", quiet=True)  # fmt: skip
    written = segment.run(request)
    same_files(files["value"], [*(row["path"] for row in written["masks"]), written["overlay"]])
    left, right = (Image.open(path).convert("RGB") for path in slider)
    assert left.tobytes() != right.tobytes()
    for row in written["masks"]:
        assert f"<td>{row['score']:.2f}</td><td>{row['area_fraction']:.1%} of the picture</td>" in table


def test_similarities_are_those_of_the_command(client: Any, photograph: Path) -> None:
    bars = client.predict(photo=picture(photograph), texts="\n".join(TEXTS), api_name="/similarity")
    found = score.run([str(photograph)], TEXTS, "miniature", ["vanilla", "negationclip"], "cpu")
    shares = [f"{found['arms'][arm]['probability'][0][i]:.0%}" for i in range(2) for arm in found["arms"]]
    cosines = [f"{found['arms'][arm]['similarity'][0][i]:.3f}" for i in range(2) for arm in found["arms"]]
    assert re.findall(r'"share">([^<]+)', bars) == shares
    assert re.findall(r'"cosine">([^<]+)', bars) == cosines


@pytest.mark.parametrize(
    "prompt, seed", [("", 0), (" \n", 0), ("car " * 74 + "no car <b>", 0), (PROMPT, -1), (PROMPT, 2**63)]
)
def test_a_bad_request_gets_the_commands_line(
    client: Any,
    prompt: str,
    seed: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["generate", prompt, "--seed", str(seed), "--out", str(tmp_path / "out")]
    code, _, line = run_command(arguments, monkeypatch, capsys)
    assert code == 2
    with pytest.raises(Exception) as caught:
        client.predict(**drawing(prompt, seed))
    # The page's messages are HTML.
    assert "<" not in str(caught.value)
    assert html.unescape(str(caught.value)) == line.removeprefix("negclip: ").rstrip()


def written_picture(folder: Path, kind: str) -> Path:
    content = io.BytesIO()
    Image.new("RGB", (6000, 5000) if kind == "large" else (60, 50)).save(
        content, "TIFF" if kind == "tiff" else "PNG"
    )
    (folder / f"{kind}.png").write_bytes(b"not a picture" if kind == "text" else content.getvalue())
    return folder / f"{kind}.png"


@pytest.mark.parametrize(
    "kind, expression, line",
    [
        ("large", EXPRESSION, "large.png: 6000 x 5000 pixels, the page takes 25 million; make it smaller"),
        ("text", EXPRESSION, "text.png: expected a picture (PNG, JPEG, WEBP, BMP, GIF), got something else"),
        ("tiff", EXPRESSION, "tiff.png: expected a picture (PNG, JPEG, WEBP, BMP, GIF), got something else"),
        ("good", " ", "the expression is empty: name what to find, such as 'the man without a hat'"),
        ("good", "x" * 1001, "the expression has 1001 characters, the page takes 1000; shorten it"),
    ],
)
def test_limits_are_said_in_a_line(
    client: Any, tmp_path: Path, kind: str, expression: str, line: str
) -> None:
    with pytest.raises(Exception) as caught:
        client.predict(**masks(written_picture(tmp_path, kind), expression))
    assert str(caught.value) == line


def test_one_text_gets_cosines_alone(client: Any, photograph: Path) -> None:
    bars = client.predict(photo=picture(photograph), texts=TEXTS[1], api_name="/similarity")
    found = score.run([str(photograph)], TEXTS[1:], "miniature", ["vanilla", "negationclip"], "cpu")
    assert "%" not in bars and "Give more texts" in bars
    cosines = [f"{own['similarity'][0][0]:.3f}" for own in found["arms"].values()]
    assert re.findall(r'"cosine">([^<]+)', bars) == cosines
    with pytest.raises(Exception, match="would be cut"):
        client.predict(photo=picture(photograph), texts=f"{'car ' * 74}no car", api_name="/similarity")


def test_choices_are_explained(url: str) -> None:
    props = [each["props"] for each in httpx.get(f"{url}/config").json()["components"]]
    told = {each["label"]: each["info"] for each in props if each.get("info")}
    assert all(re.search(rf"\b{name}\b", told["Method"]) for name in method_names())
    assert all(re.search(rf"\b{way}\b", told["Refine by Segment Anything"]) for way in WAYS)


def test_texts_are_counted(client: Any, tmp_path: Path) -> None:
    for texts, line in (("a\n" * 9, "9 texts: the page takes 8"), ("", "no text: give one or more")):
        with pytest.raises(Exception, match=line):
            client.predict(
                photo=picture(written_picture(tmp_path, "good")), texts=texts, api_name="/similarity"
            )
    with pytest.raises(Exception, match="no picture: upload one"):
        client.predict(photo=None, texts="a", api_name="/similarity")


def test_a_large_file_is_refused_before_it_is_kept(url: str) -> None:
    answer = httpx.post(f"{url}/gradio_api/upload", files={"files": ("x.png", b"0" * (20 * 2**20 + 1))})
    assert answer.status_code == 413 and "maximum allowed size" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd", "/gradio_api/file=%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/gradio_api/file=/tmp/../etc/passwd", "/gradio_api/file=//etc/passwd", f"/gradio_api/file={ROOT}/README.md",
        "/gradio_api/file=http://example.com/", "/gradio_api/file=https:/example.com/",
        "/gradio_api/proxy=http://example.com/", "/static/%2e%2e/%2e%2e/routes.py", "/assets/..%2f..%2findex.html",
    ],
)  # fmt: skip
def test_nothing_else_is_served(url: str, path: str) -> None:
    assert httpx.get(url + path).status_code in (403, 404)


@cache
def functions(url: str) -> dict[str, int]:
    return {each["api_name"]: each["id"] for each in httpx.get(f"{url}/config").json()["dependencies"]}


def join(url: str, name: str, data: list[Any]) -> tuple[int, str, Generator[dict[str, Any]]]:
    """Join the queue as a browser does: the status, what is said, and the messages that follow."""
    session = uuid4().hex
    body = {"fn_index": functions(url)[name], "data": data, "session_hash": session}
    answer = httpx.post(f"{url}/gradio_api/queue/join", json=body)

    def messages() -> Generator[dict[str, Any]]:
        address, who = f"{url}/gradio_api/queue/data", {"session_hash": session}
        with httpx.stream("GET", address, params=who, timeout=60) as said:
            for line in said.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])

    return answer.status_code, answer.text, messages()


@pytest.mark.parametrize("path", ["/etc/passwd", "http://example.com/x.png", "file:///etc/passwd"])
@pytest.mark.parametrize("place", [0, 1])
def test_no_file_is_taken_but_an_uploaded_one(url: str, path: str, place: int) -> None:
    data: list[Any] = [None, EXPRESSION, "none"]
    data[place] = {"path": path, "meta": {"_type": "gradio.FileData"}}
    _, _, messages = join(url, "masks", data)
    done = next(message for message in messages if message["msg"] == "process_completed")
    assert not done["success"]
    if path.startswith("http"):
        assert done["output"]["error"] == "the page fetches nothing from elsewhere; upload the picture"


def test_the_queue_is_the_only_way_in_and_has_an_end(url: str) -> None:
    from pipelines.web.limits import WAITING

    settings = [PROMPT, 0, 4, 100, 3.0, "encoder", True]
    for way in ("run", "api"):
        assert httpx.post(f"{url}/gradio_api/{way}/images", json={"data": settings}).status_code == 404
    _, _, drawn = join(url, "images", settings)
    assert any(message["msg"] == "process_generating" for message in drawn)
    answers = [join(url, "similarity", [None, ""])[:2] for _ in range(WAITING + 1)]
    assert [status for status, _ in answers] == [200] * WAITING + [503]
    assert "Queue is full" in answers[-1][1]
    # Whoever leaves makes room at the next step.
    drawn.close()
    deadline = time.monotonic() + 60
    while join(url, "similarity", [None, ""])[0] == 503:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize(
    "options, line",
    [
        (["--port", "0"], "--port 0: expected a number from 1 to 65535"),
        (["--host", "192.0.2.1"], "cannot be served at"),
        (["--model", "nonesuch"], "no model called 'nonesuch'"),
        (["--device", "tpu"], "--device tpu: expected"),
        (
            ["--clip", "nonesuch"],
            "--clip nonesuch: no NegationCLIP is known for it; name one with --text-encoder",
        ),
    ],
)
def test_bad_options_end_with_a_line(
    options: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run_command(["web", *options, "--quiet"], monkeypatch, capsys)
    assert code == 2 and err.startswith("negclip: ") and line in err and err.count("\n") == 1


@pytest.mark.parametrize(("host", "warned"), [("localhost", False), ("127.0.0.1", False), ("0.0.0.0", True)])
def test_whoever_else_can_reach_the_page_is_told_of(
    host: str, warned: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run_command(["web", "--host", host, "--clip", "nonesuch"], monkeypatch, capsys)
    assert code == 2 and (f"whoever can reach {host} can use the page" in err) == warned


def test_without_gradio_a_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipelines.web.cli.find_spec", lambda name: None)
    code, _, err = run_command(["web"], monkeypatch, capsys)
    assert (code, err) == (2, "negclip: negclip web needs gradio: pip install negclip[ui]\n")


def test_a_prompt_is_shown_in_pieces() -> None:
    assert parts(PROMPT) == [("a street with ", None), ("no", "cue"), (" ", None), ("cars", "absent")]
    assert parts("treeless") == [("tree", "absent"), ("less", "cue")]
    assert parts("no, not a single dog")[-2:] == [("a single ", "scope"), ("dog", "absent")]
    assert parts("") == [] and parts("a street") == [("a street", None)]
    assert summary("a <b>park</b> with no cars").count("<b>") == 2
    assert "Nothing is negated" in summary("a park")


def _browser() -> bool:
    try:
        import playwright  # noqa: F401
    except ImportError:
        return False
    return any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))


@pytest.mark.skipif(not _browser(), reason="no Chromium, or no playwright, on this machine")
def test_a_browser_sees_pictures_masks_and_bars(tmp_path: Path) -> None:
    command = [sys.executable, "runs/web_screens.py", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("web_*.png"))) == 6
