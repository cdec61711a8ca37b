"""Language models behind endpoints: what fails in passing is tried again, what is of no use is told, a killed run goes on."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from negclip_core.captions.endpoint import Endpoint, asked_pause_s
from negclip_core.captions.journal import Journal
from negclip_core.captions.prompts import load_prompt
from negclip_core.captions.synthesis import Rejected
from negclip_core.errors import RequestError, UnfinishedWork
from negclip_core.training.captions_file import read_captions
from pipelines.miniature import export
from pipelines.synthesize import run

ROOT = Path(__file__).parents[1]
Serve = Callable[..., str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("world")
    files = {name: Path(path) for name, path in export.run(folder, 24, 3, "train")["files"].items()}
    return files | {"images": folder / "images"}


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}


def _stats(address: str) -> dict[str, Any]:
    with urlopen(f"{address}/stats") as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def _ask(address: str, seeds: range, **options: Any) -> list[str]:
    """Answers to the proposer's prompt, or the reasons why there is none."""

    async def one(endpoint: Endpoint, seed: int) -> str:
        try:
            return await endpoint.ask(
                load_prompt("propose"), {"caption": "A street.", "tried": "nothing"}, seed
            )
        except Rejected as rejected:
            return rejected.reason

    async def ask() -> list[str]:
        async with Endpoint(address, **options) as endpoint:
            return await asyncio.gather(*(one(endpoint, seed) for seed in seeds))

    return asyncio.run(ask())


def test_what_fails_in_passing_is_tried_again(serve: Serve) -> None:
    address = serve("--faults", 0.5)
    answers = _ask(address, range(150), pause_s=0.01, connections=16)
    calls = _stats(address)["calls"]
    assert min(calls[fault] for fault in ("429", "500", "cut", "body", "message", "refusal")) > 0
    assert set(answers) - {"malformed answer", "refused"}
    # Of each answer that was whole, the one who asked is told, once.
    assert answers.count("malformed answer") == calls["message"]
    assert answers.count("refused") == calls["refusal"]
    assert _stats(address)["most_open"] <= 16


@pytest.mark.parametrize("status", [400, 401, 404])
def test_what_does_not_pass_ends_the_run(status: int, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    address = serve("--status", status)
    with pytest.raises(
        RequestError, match=rf"answered {status}: the fake says no; check the address"
    ) as error:
        _ask(f"{address}#fake", range(1))
    assert "sk-secret" not in str(error.value) and "\n" not in str(error.value)


def test_an_endpoint_that_does_not_answer_ends_the_run(serve: Serve) -> None:
    with pytest.raises(UnfinishedWork, match=r"no answer after 2 tries \(500: .*the same command goes on"):
        _ask(f"{serve('--status', 500)}#fake", range(1), tries=2, pause_s=0.01)
    with pytest.raises(RequestError, match=r"cannot be reached .*; start it, or check the address"):
        _ask("http://127.0.0.1:9/v1#fake", range(1))
    with pytest.raises(RequestError, match=r"expected http://HOST:PORT/v1"):
        _ask("127.0.0.1:8000", range(1))


@pytest.mark.parametrize(
    ("header", "pause"),
    [(None, 0), ("3", 3), ("0.5", 0.5), ("soon", 0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("9999", 600)],
)
def test_an_endpoint_may_ask_for_a_pause(header: str | None, pause: float) -> None:
    assert asked_pause_s(header) == pause


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ('{"object": "tree"}', "tree"),
        ('```json\n{"object": " tree "}\n```', "tree"),
        ('{"object": "tree", "why": "parks have trees"}', "malformed answer"),
        ('{"object": ["tree"]}', "malformed answer"),
        ('{"object": ""}', "malformed answer"),
        ('{"object": "tree', "malformed answer"),
        ("tree", "malformed answer"),
        ("I'm sorry, I can't help with that.", "refused"),
    ],
)
def test_answers_are_what_was_asked_for(content: str, answer: str) -> None:
    try:
        assert load_prompt("propose").read(content) == answer
    except Rejected as rejected:
        assert rejected.reason == answer and rejected.again


def test_answers_are_among_the_choices() -> None:
    assert load_prompt("verify").read('{"present": "No."}') == "no"
    with pytest.raises(Rejected, match="malformed answer"):
        load_prompt("verify").read('{"present": "maybe"}')


def _kinds(world: dict[str, Path]) -> dict[int, set[str]]:
    document = json.loads(world["instances"].read_text("utf-8"))
    names = {entry["id"]: entry["name"] for entry in document["categories"]}
    kinds: dict[int, set[str]] = {image["id"]: set() for image in document["images"]}
    for entry in document["annotations"]:
        kinds[entry["image_id"]].add(names[entry["category_id"]])
    return kinds


def test_models_fill_every_role(serve: Serve, world: dict[str, Path], tmp_path: Path) -> None:
    address = serve("--faults", 0.2, "--instances", world["instances"], "--images", world["images"])
    out = tmp_path / "negated.json"
    vqa = [world["vqa_questions"], world["vqa_annotations"]]

    def synthesize(seed: int = 0, path: Path = out) -> dict[str, Any]:
        return run(world["captions"], None, vqa, "both", path, seed, images=world["images"], llm=address,
                   vlm=address, proposals=3)  # fmt: skip

    counts = synthesize()
    document, kinds = json.loads(out.read_text("utf-8")), _kinds(world)
    assert counts["written"] == len(document["annotations"]) > counts["read"] / 3
    assert counts["read"] == counts["written"] + sum(counts["rejected"].values())
    assert {entry["pipeline"] for entry in document["annotations"]} == {"p1", "p2"}
    for entry in document["annotations"]:
        if entry["pipeline"] == "p1":
            assert not set(entry["absent"]) & kinds[entry["image_id"]]
    assert {"present in the image"} <= counts["rejected"].keys()

    # The same again costs nothing and changes nothing; other settings are refused.
    billed, before = _stats(address)["billed"], out.read_bytes()
    assert synthesize() == counts and out.read_bytes() == before and _stats(address)["billed"] == billed
    with pytest.raises(RequestError, match=r"was begun with another seed; give the same again"):
        synthesize(seed=1)
    assert out.read_bytes() == before


def test_what_a_model_writes_is_checked(serve: Serve, world: dict[str, Path], tmp_path: Path) -> None:
    address = serve("--faults", 1, "--kinds", "text")
    counts = run(world["captions"], world["instances"], [], "p1", tmp_path / "out.json", 0, llm=address)
    assert counts["written"] == 0
    assert {"no negation", "does not deny what is absent", "lost the caption"} <= counts["rejected"].keys()


def test_a_key_is_written_nowhere(
    serve: Serve, world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    run(world["captions"], world["instances"], [], "p1", tmp_path / "out.json", 0, llm=serve())
    assert all(b"sk-secret" not in file.read_bytes() for file in tmp_path.iterdir())


def test_ten_kills_lose_nothing_and_repeat_no_call(
    serve: Serve, world: dict[str, Path], tmp_path: Path
) -> None:
    whole, killed = serve("--latency", 0.01), serve("--latency", 0.05)
    concurrency, kills, chance = 8, 10, random.Random(0)
    options: dict[str, Any] = {
        "instances": world["instances"],
        "vqa": [],
        "pipeline": "p1",
        "seed": 0,
        "concurrency": concurrency,
    }
    counts = run(world["captions"], out=tmp_path / "whole.json", llm=whole, **options)
    total, out = _stats(whole)["billed"], tmp_path / "killed.json"
    words = [sys.executable, "-c", "from pipelines.cli import main; main()", "synthesize", "--captions",
             world["captions"], "--instances", world["instances"], "--pipeline", "p1", "--llm", killed,
             "--proposals", 1, "--concurrency", concurrency, "--out", out, "--quiet", "--json"]  # fmt: skip
    for moment in sorted(chance.sample(range(1, total), kills)):
        process = subprocess.Popen(list(map(str, words)), env=_environment(), stdout=subprocess.PIPE)
        while _stats(killed)["billed"] < moment and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not out.exists()
    last = subprocess.run(list(map(str, words)), env=_environment(), capture_output=True, check=True)
    assert json.loads(last.stdout) == counts | {"out": str(out)}
    documents = [json.loads(path.read_text("utf-8")) for path in (out, tmp_path / "whole.json")]
    assert documents[0]["annotations"] == documents[1]["annotations"]
    stats = _stats(killed)
    assert stats["delivered_again"] <= kills * concurrency
    assert stats["billed"] - total <= kills * concurrency


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_every_form_is_read_alike(suffix: str, world: dict[str, Path], tmp_path: Path) -> None:
    for name in ("a.json", f"b{suffix}"):
        run(world["captions"], world["instances"], [], "rand-p1", tmp_path / name, 0)
    assert list(read_captions(tmp_path / "a.json")) == list(read_captions(tmp_path / f"b{suffix}"))
    assert json.loads((tmp_path / f"b{suffix}.info.json").read_text("utf-8"))["seed"] == 0
    assert not list(tmp_path.glob("*.journal"))  # nothing in it was paid for


def test_bad_requests_are_one_line(serve: Serve, world: dict[str, Path], tmp_path: Path) -> None:
    captions, instances, out = world["captions"], world["instances"], tmp_path / "out.json"
    with pytest.raises(RequestError, match=r"--instances or --vlm: one of them must look"):
        run(captions, None, [], "p1", out, 0, llm="http://127.0.0.1:9/v1")
    with pytest.raises(RequestError, match=r"--images: --vlm looks at pictures"):
        run(captions, instances, [], "p1", out, 0, vlm="http://127.0.0.1:9/v1")
    with pytest.raises(RequestError, match=r"expected a name that ends in .json, .jsonl, .parquet"):
        run(captions, instances, [], "p1", tmp_path / "out.csv", 0)
    lost = tmp_path / "lost.json"
    lost.write_text(json.dumps({"images": [], "annotations": [{"image_id": 1, "caption": "a dog"}]}), "utf-8")
    with pytest.raises(RequestError, match=r"lost.json: expected for each caption a text and an image"):
        run(lost, instances, [], "p1", out, 0)
    assert not list(tmp_path.glob("out*"))
    with pytest.raises(RequestError, match=r"no such picture; --images names their folder"):
        run(captions, instances, [], "p1", out, 0, vlm=serve(), images=tmp_path)
    out.with_name("out.json.journal").unlink()
    journal = Journal(out.with_name("out.json.journal"), {}, paid=False, group=1)
    with pytest.raises(RequestError, match=r"another run is writing to it"):
        run(captions, instances, [], "p1", out, 0)
    journal.close()
    out.with_name("out.json.journal").write_text("not SQLite, " * 100, "utf-8")
    with pytest.raises(RequestError, match=r"not a journal of negclip synthesize"):
        run(captions, instances, [], "p1", out, 0)
    assert not out.exists()
