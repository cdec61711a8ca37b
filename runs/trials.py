"""What breaks when a command is stopped, started twice, or runs out of disk or memory.

    python runs/trials.py TRIES [SEED] [KIND,...] [VERB,...]

Each verb runs on the miniature with small settings, in processes forked from one that has imported the packages, so that what is
tried is the work and not the imports. Kinds:

    stopped     SIGTERM, SIGINT or SIGHUP at a random time; afterwards the command is run again, to its end
    twice       two at once into one folder
    full        a disk of a random size (a tmpfs where one may be mounted; else no file may grow beyond that size)
    read-only   a folder that must not be written to
    memory      a random amount more address space than the packages take

A trial is bad where a command ends otherwise than with 0, 1, 2 or 128 and the signal, or says more than one line; where it leaves a
temporary file, or one that cannot be read; or where what lies there in the end is not what an undisturbed run writes. Prints a line of
JSON for each verb and kind.
"""

import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from PIL import Image

ROOT = Path(__file__).parents[1]
KINDS = ("stopped", "twice", "full", "read-only", "memory")
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TEXTS = (".json", ".jsonl", ".html", ".txt", ".md")
_CHANGING = ("seconds", "samples_per_second")  # what tells how long something took


def verbs(world: Path) -> dict[str, list[str]]:
    """Each verb's words but --out, which comes last."""
    captions = next(world.glob("captions_*.json"))
    instances = next(world.glob("instances_*.json"))
    picture = min((world / "images").glob("*.png"))
    return {
        "generate": ["generate", "a street with no cars", "a park without dogs", "--compare", "--steps", "2", "--out"],
        "segment": ["segment", str(picture), "the man without a hat", "--compare", "--out"],
        "eval": ["eval", "valse-existence,negbench-mcq", "--data", str(world), "--arms", "vanilla,negationclip", "--out"],
        "synthesize": ["synthesize", "--captions", str(captions), "--instances", str(instances), "--pipeline", "p1",
                       "--out"],
        "train": ["train", "--captions", str(world / "negated.jsonl"), "--images", str(world / "images"), "--clip",
                  "miniature/clip", "--epochs", "2", "--batch-size", "8", "--out"],
        "convert": ["convert", "miniature/clip", "--to", "open_clip"],
    }  # fmt: skip


def command(words: list[str], out: Path) -> list[str]:
    """The whole command line."""
    place = out / "captions.json" if words[0] == "synthesize" else out
    return [*words, str(place), "--quiet"]


class Child:
    """A command in a process of its own."""

    def __init__(self, words: list[str], log: Path, before: Callable[[], None] = lambda: None) -> None:
        self.log = log
        self.pid = os.fork()
        if self.pid == 0:
            self._run(words, before)

    def _run(self, words: list[str], before: Callable[[], None]) -> None:
        code = 1
        try:
            written = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(written, 2)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
            before()
            sys.argv = ["negclip", *words]
            from pipelines import cli

            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(code)

    def end(self) -> tuple[int, list[str]]:
        """Exit code (below 0: of the signal that ended it) and what it said, line by line."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return code, self.log.read_text("utf-8", "replace").splitlines()


def _without_privileges() -> None:
    """Permissions count for root as well."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)())


def content(out: Path) -> dict[str, bytes]:
    """What lies in a folder, without what differs from run to run."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_file() and path.suffix in (".png", ".safetensors", *_TEXTS) and name != "log.jsonl":
            data = path.read_bytes().replace(str(out).encode(), b"OUT")  # reports name their files
            if path.suffix in _TEXTS and any(f'"{word}"'.encode() in data for word in _CHANGING):
                continue
            found[name] = data
    return found


def faults(out: Path) -> Iterator[str]:
    """Files that are no whole ones."""
    for path in out.rglob("*") if out.is_dir() else ():
        if not path.is_file() or path.name == ".lock":
            continue
        if path.name.startswith("."):
            yield f"left {path.name}"
        try:
            if path.suffix == ".png":
                Image.open(path).load()
            elif path.suffix == ".json":
                json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            yield f"{path.name}: {error}"


class Trials:
    """The trials of one verb."""

    def __init__(self, verb: str, words: list[str], place: Path, seed: int) -> None:
        self.verb, self.words, self.place = verb, words, place
        self.random = Random(f"{seed} {verb}")
        start = time.monotonic()
        code, said = Child(command(words, place / "whole"), place / "log").end()
        assert code == 0, said
        self.seconds = time.monotonic() - start
        self.whole = content(place / "whole")

    def run(self, kind: str, tries: int) -> dict[str, object]:
        """The figures of one kind."""
        ends: Counter[str] = Counter()
        bad: Counter[str] = Counter()
        one = getattr(self, f"_{kind.replace('-', '_')}")
        for _ in range(tries):
            out = self.place / "out"
            for code, said, allowed in one(out):
                ends[str(code)] += 1
                if code not in allowed:
                    bad[f"exit {code}: {' '.join(said[-1:])[:160]}"] += 1
                elif code and len(said) > 1:
                    bad[f"{len(said)} lines: {said[0][:80]} ... {said[-1][:160]}"] += 1
            bad.update(faults(out))
            if kind in ("stopped", "twice") and content(out) != self.whole:
                apart = {n for n, c in (content(out).items() ^ self.whole.items())}
                bad[f"other content: {', '.join(sorted(apart)[:3])}"] += 1
            if out.is_mount():
                subprocess.run(["umount", str(out)], check=True)
            shutil.rmtree(out, ignore_errors=True)
        return {"verb": self.verb, "kind": kind, "tries": tries, "seconds": round(self.seconds, 1), "ends": dict(ends),
                "bad": dict(bad)}  # fmt: skip

    def _child(self, out: Path, before: Callable[[], None] = lambda: None, log: str = "log") -> Child:
        return Child(command(self.words, out), self.place / log, before)

    def _stopped(self, out: Path) -> Iterator[tuple[int, list[str], tuple[int, ...]]]:
        child = self._child(out)
        number = self.random.choice(_SIGNALS)
        time.sleep(self.random.uniform(0.02, self.seconds))
        os.kill(child.pid, number)
        code, said = child.end()
        left = list(faults(out))
        assert not left, f"{self.verb} after {number.name}: {left}"
        yield code, said, (0, 130, 128 + number, -number)  # the last: before the command was there to notice
        yield *self._child(out).end(), (0,)

    def _twice(self, out: Path) -> Iterator[tuple[int, list[str], tuple[int, ...]]]:
        first = self._child(out)
        time.sleep(self.random.uniform(0, self.seconds / 2))
        second = self._child(out, log="log2")
        ends = [first.end(), second.end()]
        for code, said in ends:
            yield code, said, (0, 2)
        assert 0 in [code for code, _ in ends], ends

    def _full(self, out: Path) -> Iterator[tuple[int, list[str], tuple[int, ...]]]:
        room = int(10 ** self.random.uniform(3, 6.5))
        out.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(out)]
        if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode == 0:
            yield *self._child(out).end(), (0, 1, 2)
            return
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        yield (
            *self._child(out, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))).end(),
            (0, 1, 2),
        )

    def _read_only(self, out: Path) -> Iterator[tuple[int, list[str], tuple[int, ...]]]:
        out.mkdir()
        out.chmod(0o555)
        yield *self._child(out, _without_privileges).end(), (2,)
        out.chmod(0o755)

    def _memory(self, out: Path) -> Iterator[tuple[int, list[str], tuple[int, ...]]]:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        more = int(2 ** self.random.uniform(20, 28))
        yield (
            *self._child(
                out, lambda: resource.setrlimit(resource.RLIMIT_AS, (taken + more, resource.RLIM_INFINITY))
            ).end(),
            (0, 1, 2),
        )


def prepare(world: Path) -> None:
    """The drawn world, captions to train on, and all imports."""
    import diffusers  # noqa: F401
    import open_clip  # noqa: F401
    import transformers  # noqa: F401

    from eval.registry import load, tasks
    from pipelines import generate, host, segmenter, studio, synthesize, watch  # noqa: F401
    from pipelines.miniature import export

    for info in tasks().values():
        load(info)
    files = export.run(world, 24, 3, "test")["files"]
    synthesize.run(Path(files["captions"]), Path(files["instances"]), [], "p1", world / "negated.jsonl", 0)


def main(tries: int, seed: int, kinds: list[str], chosen: list[str]) -> None:
    """Run all trials."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        place.chmod(0o755)
        os.environ["HF_ASSETS_CACHE"], os.environ["HF_HUB_OFFLINE"] = str(place / "assets"), "1"
        prepare(place / "world")
        known = verbs(place / "world")
        for verb, words in ((name, known[name]) for name in chosen or known):
            (place / verb).mkdir()
            trials = Trials(verb, words, place / verb, seed)
            for kind in kinds:
                try:
                    print(json.dumps(trials.run(kind, tries)), flush=True)
                except AssertionError as error:
                    print(json.dumps({"verb": verb, "kind": kind, "bad": str(error)}), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit((__doc__ or "").strip())
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0,
         sys.argv[3].split(",") if len(sys.argv) > 3 else list(KINDS),
         sys.argv[4].split(",") if len(sys.argv) > 4 else [])  # fmt: skip
