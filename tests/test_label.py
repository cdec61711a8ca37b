"""The page to label pictures on, through HTTP: what it asks, what it writes, what it refuses."""

import http.client
import io
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run as negclip  # type: ignore[import-not-found]
from PIL import Image

from eval.generation import save
from eval.judges import load_judge
from eval.labelling import Sheet
from negclip_core.errors import RequestError
from pipelines.label import Server

PICTURES = {
    "vanilla": (1, 2),
    "negationclip": (3, 2),
}  # arm -> what each of two items' picture is; 2 is shared


def write_run(folder: Path, arms: tuple[str, ...] = ("vanilla", "negationclip")) -> Path:
    """A run's folder as `negclip eval t2i-negation` leaves it: records, and pictures that say what made them."""
    for arm in arms:
        lines = [json.dumps({"settings": {}})]
        for item, kind in zip("ab", PICTURES[arm], strict=True):
            image = f"images/{arm}-1/{item}.png"
            pixels = np.random.default_rng(kind).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            made = {"prompt": "a secret prompt", "seed": 0, "arm": arm, "model": "tiny"}
            save(Image.fromarray(pixels), folder / image, made)
            lines.append(json.dumps({"id": item, "image": image, "prompt": "a secret prompt", "negated": {"car": True},
                                     "asked": {"dog": None}, "place": {}}))  # fmt: skip
        path = folder / "records" / "t2i-negation" / f"{arm}-1.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + '\n{"half a li', "utf-8")
    return folder


class Visitor:
    """A browser's requests to a server, with other headers where they are named."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def ask(
        self, method: str, path: str, body: str | None = None, **headers: str | None
    ) -> tuple[int, bytes, str]:
        """Status, content, and where it sends the browser on to."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=30)
        own = {"Host": f"127.0.0.1:{self.server.server_port}", **headers}
        connection.putrequest(method, path, skip_host=True)
        for name, value in own.items():
            if value is not None:
                connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(None if body is None else body.encode())
        answer = connection.getresponse()
        found = answer.status, answer.read(), answer.getheader("Location", "")
        connection.close()
        return found


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


@pytest.fixture
def visitor(run_folder: Path) -> Iterator[Visitor]:
    with Server(Sheet.of_run(run_folder, None, 0)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Visitor(server)
        server.shutdown()
        thread.join()


def _labels(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "labels.json").read_text("utf-8"))
    return found


def test_questions_come_in_an_order_that_no_arm_shapes(tmp_path: Path) -> None:
    there = Sheet.of_run(write_run(tmp_path / "a"), None, 0).questions
    # The picture that both arms drew comes once.
    assert len(there) == 3 * 2
    assert [q.key for q in there[::2]] == [q.key for q in there[1::2]]
    alone = Sheet.of_run(write_run(tmp_path / "b", ("negationclip", "vanilla")), None, 0).questions
    assert [(q.key, q.label) for q in alone] == [(q.key, q.label) for q in there]
    orders = {tuple(q.key for q in Sheet.of_run(tmp_path / "a", None, seed).questions) for seed in range(9)}
    assert len(orders) > 1
    assert Sheet.of_run(tmp_path / "a", 1, 0).questions == there[:2]


def test_pages_show_a_picture_and_a_question_and_not_whose_it_is(visitor: Visitor) -> None:
    assert visitor.server.server_address[0] == "127.0.0.1"
    assert visitor.ask("GET", "/")[::2] == (303, "/question/0")
    for number in range(6):
        status, page, _ = visitor.ask("GET", f"/question/{number}")
        asked = visitor.server.sheet.questions[number]
        assert status == 200 and asked.text in page.decode()
        status, picture, _ = visitor.ask("GET", f"/picture/{number}")
        assert status == 200
        with Image.open(io.BytesIO(picture)) as shown, Image.open(asked.image) as drawn:
            assert np.array_equal(np.asarray(shown), np.asarray(drawn.convert("RGB")))
            assert shown.info == {}
        for told in (b"vanilla", b"negationclip", b"secret", b"images/", str(asked.image).encode()):
            assert told not in page and told not in picture


def test_answers_are_on_the_disk_at_once_and_a_judge_reads_them(visitor: Visitor, run_folder: Path) -> None:
    questions = visitor.server.sheet.questions
    for number, (word, field) in enumerate((("y", "present"), ("n", "absent"), ("u", "open"))):
        status, _, onwards = visitor.ask("POST", f"/question/{number}", f"answer={word}")
        assert (status, onwards) == (303, f"/question/{number + 1}")
        entry = next(row for row in _labels(run_folder) if questions[number].label in row[field])
        with Image.open(run_folder / entry["image"]) as picture:
            assert np.array_equal(np.asarray(picture), np.asarray(Image.open(questions[number].image)))
    pixels = np.asarray(Image.open(questions[0].image))[None]
    judge = load_judge(f"labels:{run_folder / 'labels.json'}")
    assert judge.answers(pixels, [[q.label for q in questions[:2]]]) == [
        {questions[0].label: True, questions[1].label: False}
    ]
    # Back: the answer is shown, and another one takes its place.
    page = visitor.ask("GET", "/question/1")[1].decode()
    assert re.search(r"<button id=n [^>]*class=given", page) and 'href="/question/0"' in page
    assert visitor.ask("POST", "/question/1", "answer=y")[2] == "/question/3"
    assert questions[1].label in next(r for r in _labels(run_folder) if len(r["present"]) == 2)["present"]


def test_a_sheet_goes_on_where_it_was(visitor: Visitor, run_folder: Path) -> None:
    for number in (0, 1, 3):
        visitor.ask("POST", f"/question/{number}", "answer=n")
    again = Sheet.of_run(run_folder, None, 0)
    assert (again.answered, again.next_open()) == (3, 2)
    for number in (2, 4, 5):
        onwards = visitor.ask("POST", f"/question/{number}", "answer=u")[2]
    assert onwards == "/done" and b"All 6 questions are answered" in visitor.ask("GET", "/done")[1]


def test_other_names_and_other_sites_are_refused(visitor: Visitor, run_folder: Path) -> None:
    port = visitor.server.server_port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", None):
        for path in ("/", "/question/0", "/picture/0"):
            assert visitor.ask("GET", path, Host=host)[0] == 403
        assert visitor.ask("POST", "/question/0", "answer=y", Host=host)[0] == 403
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{port}"):
        assert visitor.ask("POST", "/question/0", "answer=y", Origin=origin)[0] == 403
    assert not (run_folder / "labels.json").exists()
    assert visitor.ask("GET", "/question/0", Host=f"localhost:{port}")[0] == 200
    assert visitor.ask("POST", "/question/0", "answer=y", Origin=f"http://127.0.0.1:{port}")[0] == 303


@pytest.mark.parametrize(
    "path",
    ["/../../../etc/passwd", "/picture/../records", "/picture/6", "/picture/-1", "/picture/0/../../labels.json",
     "/picture/%2e%2e%2flabels.json", "/labels.json", "/records/t2i-negation/vanilla-1.jsonl", "//etc/passwd", "/question/x"],
)  # fmt: skip
def test_nothing_but_pictures_by_number_is_served(path: str, visitor: Visitor) -> None:
    assert visitor.ask("GET", path)[0] == 404


@pytest.mark.parametrize("body", [None, "", "answer=maybe", "other=y", "answer=y" + " " * 2000])
def test_forms_of_another_kind_are_refused(body: str | None, visitor: Visitor, run_folder: Path) -> None:
    assert visitor.ask("POST", "/question/0", body)[0] == 400
    assert visitor.ask("POST", "/question/77", "answer=y")[0] == 400
    assert not (run_folder / "labels.json").exists()


def test_a_record_that_names_a_file_elsewhere_is_refused(run_folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "private.png")
    path = next((run_folder / "records").glob("*/*.jsonl"))
    path.write_text(path.read_text("utf-8").replace("images/negationclip-1/a.png", "../private.png"), "utf-8")
    with pytest.raises(RequestError, match=r"a record names \.\./private\.png, which lies outside of it"):
        Sheet.of_run(run_folder, None, 0)


def test_the_command_refuses_what_it_cannot_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = negclip(["eval", "--label", str(tmp_path)], monkeypatch, capsys)
    assert (code, out) == (2, "") and "no pictures with records" in err and err.count("\n") == 1
    code, _, err = negclip(["eval", "celeba", "--label", str(tmp_path)], monkeypatch, capsys)
    assert code == 2 and "leave out tasks" in err


def test_the_command_serves_until_the_person_is_done(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def person() -> None:
        while not started.wait(0.02):
            pass
        visitor = Visitor(servers[0])
        visitor.ask("POST", "/question/0", "answer=y")
        visitor.ask("POST", "/done", "")

    started, servers = threading.Event(), []
    own = Server.serve_forever

    def begin(self: Server, poll_interval: float = 0.5) -> None:
        servers.append(self)
        started.set()
        own(self, poll_interval)

    monkeypatch.setattr(Server, "serve_forever", begin)
    thread = threading.Thread(target=person)
    thread.start()
    code, out, err = negclip(["eval", "--label", str(run_folder), "--json", "--quiet"], monkeypatch, capsys)
    thread.join()
    assert code == 0 and re.search(r"http://127\.0\.0\.1:\d+/ asks 6 questions", err)
    assert json.loads(out) == {
        "labels": str(run_folder / "labels.json"), "pictures": 3, "questions": 6, "answered": 1,
    }  # fmt: skip
