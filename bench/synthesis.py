"""`negclip synthesize` with a language model behind an endpoint: many calls at once against one at a time.

    python bench/synthesis.py CAPTIONS IMAGES [COUNT] [LATENCY_S] [CONCURRENCY]

A fake endpoint (tests/fake_endpoint.py) proposes, verifies with the picture and rewrites, each call after the latency. Both
ways take the same captions of a COCO captions file, repeated to COUNT, in turn; one at a time a fiftieth of them. Then
memory: the peak of a process of its own for COUNT captions and for four times as many.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import count, cycle, islice
from pathlib import Path

from in_turn import in_turn

from pipelines import synthesize

_ROOT = Path(__file__).parents[1]
_RUNS = 3


def _repeated(captions: Path, number: int, out: Path) -> Path:
    document = json.loads(captions.read_text("utf-8"))
    entries = islice(cycle(document["annotations"]), number)
    document["annotations"] = [entry | {"id": n} for n, entry in enumerate(entries)]
    out.write_text(json.dumps(document), "utf-8")
    return out


def _peak_mib(captions: Path, images: Path, address: str, concurrency: int, out: Path) -> float:
    """Of a process that synthesizes."""
    code = "from pipelines.cli import main; main()"
    options = {"--captions": captions, "--images": images, "--llm": address, "--vlm": address, "--pipeline": "p1",
               "--concurrency": concurrency, "--out": out}  # fmt: skip
    words = [str(word) for pair in options.items() for word in pair]
    process = subprocess.Popen([sys.executable, "-c", code, "synthesize", "--quiet", *words], cwd=_ROOT,
                               stdout=subprocess.DEVNULL)  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss / 1024


def main(
    captions: Path, images: Path, number: int = 1000, latency_s: float = 0.2, concurrency: int = 64
) -> None:
    """Time both ways and print their ratio, then the peaks."""
    server = subprocess.Popen([sys.executable, str(_ROOT / "tests/fake_endpoint.py"), "--latency", str(latency_s)],
                              stdout=subprocess.PIPE, text=True, cwd=_ROOT)  # fmt: skip
    try:
        assert server.stdout is not None
        _measure(captions, images, number, latency_s, concurrency, server.stdout.readline().strip())
    finally:
        server.terminate()
        server.wait()


def _measure(
    captions: Path, images: Path, number: int, latency_s: float, concurrency: int, address: str
) -> None:
    runs = count()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many, few = (_repeated(captions, n, folder / f"{n}.json") for n in (number, number // 50))

        def way(file: Path, at_once: int) -> None:
            out = folder / f"out-{next(runs)}.json"  # a journal that is there would spare the calls
            synthesize.run(file, None, [], "p1", out, 0, images=images, llm=address, vlm=address, proposals=1,
                           concurrency=at_once)  # fmt: skip

        times = in_turn({"one": lambda: way(few, 1), "many": lambda: way(many, concurrency)}, _RUNS)
        one, at_once = (statistics.median(times[way]) for way in ("one", "many"))
        one, at_once = (number // 50) / one, number / at_once
        print(
            f"{number} captions, {latency_s * 1000:.0f} ms a call, {concurrency} calls open at once, {_RUNS} runs"
        )
        print(
            f"captions a second: one at a time {one:.2f}, many {at_once:.1f}: {at_once / one:.1f} times as many"
        )
        for size in (number, 4 * number):
            file = _repeated(captions, size, folder / f"{size}.json")
            peak = _peak_mib(file, images, address, concurrency, folder / f"peak-{size}.json")
            print(f"peak memory for {size} captions: {peak:.0f} MiB")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        Path(given[0]), Path(given[1]), *map(int, given[2:3]), *map(float, given[3:4]), *map(int, given[4:5])
    )
