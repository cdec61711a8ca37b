"""What `negclip audit` costs over Parquet, beside `grep -c` and a plain pandas loop over the same captions.

    python bench/audit.py [CAPTIONS] [RUNS] [LOOPED]

The captions are the drawn world's, 0.7 % of them negated, in one Parquet file; grep reads them as text and looks for the
cues that are plain words; the pandas loop (needs pandas) asks `has_negation` of the first LOOPED. Each is a process of
its own, started in turn; its memory is its peak, and its CPU seconds tell what it would take on cores that are free.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from in_turn import in_turn

from negclip_core.negation.lexicon import DATA

_NEGATED = 0.007  # share of captions (arXiv 2501.10913 finds .0070 in LAION-400M)
_ROWS = 100_000  # written at a time
_OURS = "from pipelines.cli import main; main()"
_LOOP = """
import sys
import pandas
from negclip_core.language import has_negation
print(sum(has_negation(text) for text in pandas.read_parquet(sys.argv[1])["caption"]))
"""


def _captions(count: int) -> Iterator[list[str]]:
    """Captions in lists, drawn from 4,000 plain ones and 1,000 negated."""
    import numpy as np

    from negclip_core.world.language import caption
    from negclip_core.world.negation import negated_prompt
    from negclip_core.world.scenes import sample_scene

    rng = np.random.default_rng(0)
    plain = np.array([caption(sample_scene(rng), rng) for _ in range(4_000)], object)
    negated = np.array([negated_prompt(rng, "train").prompt for _ in range(1_000)], object)
    for start in range(0, count, _ROWS):
        rows = min(_ROWS, count - start)
        texts = plain[rng.integers(len(plain), size=rows)]
        where = np.flatnonzero(rng.random(rows) < _NEGATED)
        texts[where] = negated[rng.integers(len(negated), size=len(where))]
        yield texts.tolist()


def _write(folder: Path, count: int, looped: int) -> None:
    """all.parquet and all.txt with every caption, first.parquet with the first ones."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema, left = pa.schema({"caption": pa.string()}), looped
    with (
        ParquetWriter(folder / "all.parquet", schema) as whole,
        ParquetWriter(folder / "first.parquet", schema) as first,
        (folder / "all.txt").open("w", encoding="utf-8") as lines,
    ):
        for texts in _captions(count):
            whole.write_table(pa.table({"caption": texts}, schema))
            if left > 0:
                first.write_table(pa.table({"caption": texts[:left]}, schema))
                left -= len(texts)
            lines.writelines(f"{text}\n" for text in texts)


def _cue_words() -> str:
    """The cues of the lexicon that are words and nothing else, as an expression for grep."""
    cues = [cue for patterns in DATA["cues"].values() for cue in patterns if re.fullmatch("[a-z ]+", cue)]
    return "|".join(["no", "without", *cues])


def _call(command: list[str], used: list[tuple[float, float]]) -> None:
    """Run to its end, and note its CPU seconds and its peak memory in MiB."""
    # Not to /dev/null: grep sees that, and stops at the first match.
    with tempfile.TemporaryFile() as answer:
        process = subprocess.Popen(command, stdout=answer, env={**os.environ, "LC_ALL": "C.UTF-8"})
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{command[0]} failed with {os.waitstatus_to_exitcode(status)}")
    used.append((usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024))


def main(count: int, runs: int, looped: int) -> None:
    """Time the three in turn, after one run of each that is not counted."""
    looped = min(looped, count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: what this one holds counts as a peak of those that it starts.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(_write, folder, count, looped).result()
        commands = {
            "negclip audit": [
                sys.executable,
                "-c",
                _OURS,
                "audit",
                "--json",
                "--quiet",
                f"{name}/all.parquet",
            ],
            "grep -c": ["grep", "-c", "-i", "-w", "-E", _cue_words(), f"{name}/all.txt"],
            "pandas loop": [sys.executable, "-c", _LOOP, f"{name}/first.parquet"],
        }
        used: dict[str, list[tuple[float, float]]] = defaultdict(list)
        ways: dict[str, Callable[[], object]] = {
            way: partial(_call, command, used[way]) for way, command in commands.items()
        }
        times = in_turn(ways, runs)
    load = os.getloadavg()[0]
    print(f"{count:,} captions, {os.cpu_count()} CPUs with load {load:.1f}, start-up included, n = {runs}")
    ours = count / statistics.median(times["negclip audit"])
    for way, seconds in times.items():
        read = looped if way == "pandas loop" else count
        speed = read / statistics.median(seconds)
        work = read / statistics.median(cpu for cpu, _ in used[way][1:])
        print(f"{way}: {speed:,.0f} captions/s ({read / max(seconds):,.0f} to {read / min(seconds):,.0f}), audit is "
              f"{ours / speed:.2f} times as fast; {work:,.0f} captions per CPU second; "
              f"{max(peak for _, peak in used[way]):,.0f} MiB")  # fmt: skip


if __name__ == "__main__":
    given = [int(number) for number in sys.argv[1:]]
    main(*(given + [1_000_000, 3, 200_000][len(given) :]))
