"""Captions by shards on a local Ray cluster: the same as from one process, and nothing is lost or repeated with a worker."""

import json
import os
import resource
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from negclip_core.captions.journal import TABLES, Journal
from negclip_core.captions.parts import gather, parts_of, spread
from negclip_core.captions.synthesis import Outcome, Task
from negclip_core.errors import RequestError, UnfinishedWork
from pipelines.miniature import export
from pipelines.synthesis import Inputs, Request
from pipelines.synthesis_ray import fill_on_ray
from pipelines.synthesize import run

ROOT = Path(__file__).parents[1]
CAPTIONS = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two workers on this machine."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    with pytest.MonkeyPatch.context() as patch:
        # What the workers inherit.
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("NO_PROXY", "127.0.0.1")
        for more in (True, True, False):
            try:
                ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
                break
            except Exception:  # on a busy machine: Ray waits half a minute for itself
                ray.shutdown()
                if not more:
                    raise
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("world")
    files = {name: Path(path) for name, path in export.run(folder, 16, 3, "train")["files"].items()}
    document = json.loads(files["captions"].read_text("utf-8"))
    document["annotations"] = document["annotations"][:CAPTIONS]
    files["captions"].write_text(json.dumps(document), "utf-8")
    return files


def _stats(address: str) -> dict[str, Any]:
    with urlopen(f"{address}/stats") as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def _holders(folder: Path) -> list[int]:
    """The processes that have a journal in this folder open."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()).startswith(str(folder)) and link.readlink().suffix == ".journal":
                found.add(int(link.parts[2]))
        except OSError:
            continue
    return sorted(found - {os.getpid()})


def _same(first: Path, second: Path) -> bool:
    return first.read_bytes() == second.read_bytes() and b"updated_caption" in first.read_bytes()


def test_shards_come_to_what_one_process_comes_to(
    cluster: None, world: dict[str, Path], tmp_path: Path
) -> None:
    def go(name: str, **options: Any) -> dict[str, Any]:
        vqa = [world["vqa_questions"], world["vqa_annotations"]]
        return run(world["captions"], world["instances"], vqa, "all", tmp_path / name, 0, **options)

    counts = go("one.json")
    assert go("three.json", engine="ray", shards=3) == counts | {"out": str(tmp_path / "three.json")}
    assert _same(tmp_path / "one.json", tmp_path / "three.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.json", "three.json"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the worker by /proc")
def test_a_worker_that_is_killed_loses_nothing(
    cluster: None, world: dict[str, Path], tmp_path: Path, serve: Callable[..., str]
) -> None:
    whole, killed, concurrency = serve(), serve("--latency", 0.1), 2

    def go(name: str, llm: str, **options: Any) -> dict[str, Any]:
        return run(world["captions"], world["instances"], [], "p1", tmp_path / name, 0, llm=llm,
                   concurrency=concurrency, **options)  # fmt: skip

    counts = go("one.json", whole)
    total, victims = _stats(whole)["billed"], list[int]()

    def kill() -> None:
        while _stats(killed)["billed"] < total // 2:
            time.sleep(0.02)
        victims.extend(_holders(tmp_path)[:1])
        os.kill(victims[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert go("two.json", killed, engine="ray", shards=2) == counts | {"out": str(tmp_path / "two.json")}
    killer.join(10)
    assert len(victims) == 1
    assert _same(tmp_path / "one.json", tmp_path / "two.json")
    billed = _stats(killed)["billed"]
    assert billed - total <= concurrency and _stats(killed)["delivered_again"] <= concurrency
    # The journal is whole again: in one process the same command asks nobody.
    assert go("two.json", killed) == counts | {"out": str(tmp_path / "two.json")}
    assert _stats(killed)["billed"] == billed


def test_what_a_worker_refuses_is_one_line(cluster: None, world: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"cannot be reached .*; start it, or check the address") as error:
        run(world["captions"], world["instances"], [], "p1", tmp_path / "out.json", 0, engine="ray",
            llm="http://127.0.0.1:9/v1#none")  # fmt: skip
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["out.json.journal"]  # as of one process


def test_without_ray_it_says_what_to_install(
    world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RequestError, match=r"--engine ray: needs Ray; pip install 'negclip\[scale\]'"):
        run(world["captions"], world["instances"], [], "p1", tmp_path / "out.json", 0, engine="ray")
    with pytest.raises(RequestError, match="--engine spark: expected one of local, ray"):
        run(world["captions"], world["instances"], [], "p1", tmp_path / "out.json", 0, engine="spark")
    assert not list(tmp_path.iterdir())


def _journal(path: Path, verifiers: list[str], numbers: range) -> None:
    with closing(Journal(path, {"verifiers": verifiers}, paid=True, group=1)) as journal:
        for number in numbers:
            said = journal.said(number)
            assert said is not None
            said.keep("verify 1 0", verifiers[-1], 0, "false")
            task = Task("p1", number, {"id": number}, "a dog")
            journal.finish(number, task, Outcome("rejected", True, True, None, verifiers[-1]))


def _rows(place: Path, table: str) -> int:
    with closing(sqlite3.connect(place)) as file:
        return int(file.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_a_journal_is_cut_into_parts_and_joined_again(tmp_path: Path) -> None:
    place = tmp_path / "journal"
    _journal(place, ["a"], range(10))
    with parts_of(place) as folder:
        parts = {folder / f"{n}.journal": slice(5 * n, 5 * n + 5) for n in range(2)}
        spread(place, parts)
        assert [_rows(path, "tasks") for path in parts] == [5, 5]
        with pytest.raises(RequestError, match="another run is writing to it"), parts_of(place):
            pass
        # One shard of two came to another verifier before the run was killed: only what was said is good for the whole.
        first, second = parts
        _journal(first, ["a", "b"], range(2))
        gather(place, folder)
        with closing(Journal(place, None, paid=True, group=1)) as journal:
            assert journal.settings()["verifiers"] == ["a"]
            assert journal.counts()["rejected"] == {"a": 10} and journal.verified()[0]["b"]["absent"] == 2
        # Both came to it: the whole is theirs.
        spread(place, parts)
        _journal(first, ["a", "b"], range(5))
        _journal(second, ["a", "b"], range(5, 8))
        gather(place, folder)
    assert not folder.exists()
    with closing(Journal(place, {"verifiers": ["a", "b"]}, paid=True, group=1)) as journal:
        assert journal.counts()["rejected"] == {"b": 8}
        assert [journal.ended(number) for number in (7, 8)] == [True, False]


def test_a_part_that_holds_nothing_yet_costs_no_answers(tmp_path: Path) -> None:
    place = tmp_path / "journal"
    with parts_of(place) as folder:
        _journal(folder / "0.journal", ["a"], range(5))
        # Its worker was killed between the tables and the settings.
        with closing(sqlite3.connect(folder / "1.journal")) as file:
            file.executescript(TABLES)
        gather(place, folder)
    assert not folder.exists()
    with closing(Journal(place, {"verifiers": ["a"]}, paid=True, group=1)) as journal:
        assert journal.counts()["rejected"] == {"a": 5} and journal.verified()[0]["a"]["absent"] == 5


def test_journals_that_cannot_be_joined_are_told_in_one_line(tmp_path: Path) -> None:
    place = tmp_path / "journal"
    with parts_of(place) as folder:
        good, bad = folder / "0.journal", folder / "1.journal"

        def refused(said: str, work: Callable[..., None], *given: Any) -> None:
            with pytest.raises(RequestError, match=said) as error:
                work(place, *given)
            assert "\n" not in str(error.value)

        _journal(good, ["a"], range(5))
        bad.write_text("not SQLite, " * 100)
        refused("1.journal: not a journal of negclip synthesize", gather, folder)
        bad.unlink()
        # A worker that has outlived its run still writes.
        with closing(Journal(bad, {"verifiers": ["a"]}, paid=True, group=1)):
            refused("1.journal: another run is writing to it", gather, folder)
        place.write_text("not SQLite, " * 100)
        refused(f"{place}: not a journal of negclip synthesize", gather, folder)
        refused(f"{place}: not a journal of negclip synthesize", spread, {folder / "2.journal": slice(0, 5)})
        place.unlink()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with pytest.raises(UnfinishedWork, match=r"journal: cannot be written .*make room"):
                gather(place, folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        gather(place, folder)
    with closing(Journal(place, None, paid=True, group=1)) as journal:
        assert journal.counts()["read"] == 5


def test_a_worker_that_cannot_see_the_inputs_says_so_in_one_line(
    cluster: None, world: dict[str, Path], tmp_path: Path
) -> None:
    captions = tmp_path / "captions.json"
    shutil.copy(world["captions"], captions)
    request = Request(
        captions, world["instances"], [], "p1", tmp_path / "out.json", 0, engine="ray", shards=2
    )
    inputs, place = Inputs(request), tmp_path / "out.json.journal"
    captions.unlink()  # as on another machine, where it is not
    with (
        parts_of(place) as folder,
        pytest.raises(RequestError, match=r"captions\.json: expected .*No such file") as error,
    ):
        fill_on_ray(inputs, place, folder)
    assert "\n" not in str(error.value)
