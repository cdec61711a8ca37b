"""Whatever is in a file from outside: a right result, or one clear line, and nothing left behind.

The short form of `runs/fuzz.py`: a few examples of each parser, always the same ones, and what once failed (tests/corpus).
"""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from damage import Target, outcome, spoiled  # type: ignore[import-not-found]  # pytest puts tests/ on the path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parsers import PARSERS  # type: ignore[import-not-found]

_CORPUS = Path(__file__).with_name("corpus")
_SLOW = (
    "archives",
    "benchmarks",
    "configs",
    "states",
    "synthesis",
    "tokenizers",
)  # several examples a second, not hundreds
each_parser = pytest.mark.parametrize("name", PARSERS)
Make = Callable[[str], tuple[Path, list[Target]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A parser's folder of good files, and its targets; made once."""
    kept: dict[str, tuple[Path, list[Target]]] = {}

    def make(name: str) -> tuple[Path, list[Target]]:
        if name not in kept:
            folder = tmp_path_factory.mktemp(name)
            kept[name] = folder, PARSERS[name](folder)
        return kept[name]

    return make


@each_parser
def test_good_files_are_read(name: str, made: Make) -> None:
    folder, targets = made(name)
    for target in targets:
        found = outcome(target, folder, target.file.read_bytes())
        # An answer in events is none that was asked for.
        assert found == ("refused" if target.file.suffix == ".sse" else "read"), target.file.name


@each_parser
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of pickles of other protocols
def test_spoiled_files_are_read_or_refused(name: str, made: Make) -> None:
    folder, targets = made(name)

    @settings(
        max_examples=12 if name in _SLOW else 40,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(range(len(targets))), st.randoms(use_true_random=False))
    def try_one(number: int, random: Random) -> None:
        outcome(targets[number], folder, spoiled(targets[number], random))

    try_one()


@pytest.mark.parametrize("name", sorted(path.name for path in _CORPUS.iterdir()))
def test_what_once_failed(name: str, made: Make) -> None:
    """A corpus file is called TARGET--WHAT, in a folder that is called as its parser."""
    folder, targets = made(name)
    by_name = {target.file.name: target for target in targets}
    for file in sorted((_CORPUS / name).iterdir()):
        target = by_name[file.name.partition("--")[0]]
        assert outcome(target, folder, file.read_bytes()) == "refused", file.name
