"""How many small faults, planted in a module one at a time, its tests notice; prints the row of docs/reliability.md.

    python runs/mutation.py MODULE|all MUTANTS [SEED] [COSMIC_RAY]

cosmic-ray (`pip install cosmic-ray`, best into an environment of its own; COSMIC_RAY is its command) lists all changes that its
operators make to the module's files, and makes them in a copy of the tree. No operator is left out. MUTANTS of them are drawn at
random, the same for the same SEED (0). The module's tests run in a process forked from one that has imported the packages, so that
a mutant costs the tests and not the imports. It is killed where a test fails, or where they take three times the processor's time
that they take without it, and ten seconds more. Prints what changed in each mutant that survived. Tests that compare times are
not run: a busy machine could fail them for the mutant's sake.
"""

import difflib
import importlib
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from eval.statistics import share  # noqa: E402

_MEMORY = 12 * 2**30  # bytes of address space: a mutant may loop without end and fill a list
_OURS = ("negclip_core", "integrations", "eval", "pipelines")
_IMPORTED = ("torch", "open_clip", "transformers", "transformers.models.clip.modeling_clip")

# The files of negclip_core to mutate, and pytest's words for their tests, the quick ones first.
MODULES = {
    "language": (["negation/scope.py", "negation/rest.py"], ["tests/test_language.py", "-k", "not quick"]),
    "training": (["training/packed.py", "training/run.py"], ["tests/test_packed.py", "tests/test_training.py"]),
    "checkpoints": (
        ["checkpoints.py"],
        ["tests/test_checkpoint_configs.py", "tests/test_checkpoints.py", "tests/test_malformed_checkpoints.py", "-k",
         "not command_line and not bomb"],
    ),
}  # fmt: skip


def copied(tree: Path) -> None:
    """Copy what git tracks, as it is now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)


def mutants(cosmic_ray: str, tree: Path, files: list[str]) -> list[tuple[str, str, int]]:
    """All of cosmic-ray's mutants of the files: file, operator, and which of the places that it fits."""
    config, session = tree / "cosmic-ray.toml", tree / "session.sqlite"
    config.write_text(
        f'[cosmic-ray]\nmodule-path = {files}\nexcluded-modules = []\ntimeout = 1\ntest-command = ""\n'
        '[cosmic-ray.distributor]\nname = "local"\n'
    )
    subprocess.run([cosmic_ray, "init", str(config), str(session)], cwd=tree, check=True)
    with sqlite3.connect(session) as database:
        found = database.execute("SELECT module_path, operator_name, occurrence FROM mutation_specs")
        return sorted(found.fetchall())


def tested(tree: Path, words: list[str], seconds: float) -> tuple[bool, float]:
    """Whether pytest passes in the tree within so many seconds of the processor, and how many it took."""
    if not (pid := os.fork()):
        _run_tests(tree, words, int(seconds))
    _, status, used = os.wait4(pid, 0)
    return status == 0, used.ru_utime + used.ru_stime


def _run_tests(tree: Path, words: list[str], seconds: int) -> None:
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        os.chdir(tree)
        # Bytecode of a mutant would be taken for that of the next, made within the same second.
        os.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(tree))
        for name in [name for name in sys.modules if name.split(".")[0] in _OURS]:
            del sys.modules[name]
        for limit, most in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CPU, seconds)):
            resource.setrlimit(limit, (most, resource.getrlimit(limit)[1]))
        assert str(importlib.import_module("negclip_core").__file__).startswith(str(tree))
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *words]))
    finally:
        os._exit(code)


def mutate(name: str, count: int, seed: int, cosmic_ray: str) -> None:
    """Try a module's mutants; prints what survived, and the row."""
    with tempfile.TemporaryDirectory() as temporary:
        tree, survived = Path(temporary).resolve(), []
        copied(tree)
        files, words = MODULES[name]
        there = mutants(cosmic_ray, tree, [f"negclip_core/{file}" for file in files])
        passed, seconds = tested(tree, words, 600)
        if not passed:
            sys.exit(f"{name}: the tests fail without a mutant")
        drawn = Random(seed).sample(there, min(count, len(there)))
        for number, (file, operator, occurrence) in enumerate(drawn):
            own = (tree / file).read_text("utf-8")
            subprocess.run([cosmic_ray, "apply", file, operator, str(occurrence)], cwd=tree, check=True)
            if tested(tree, words, 10 + 3 * seconds)[0]:
                changed = (tree / file).read_text("utf-8").splitlines()
                lines = difflib.unified_diff(own.splitlines(), changed, file, file, n=0, lineterm="")
                survived.append("\n".join(lines))
                print(survived[-1], end="\n\n", flush=True)
            print(f"{number + 1} tried, {len(survived)} survived", file=sys.stderr, flush=True)
            (tree / file).write_text(own, "utf-8")
    found = share(len(drawn) - len(survived), len(drawn))
    interval = f"{100 * found.value:.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}]"
    print(
        f"| `{name}` | {len(there):,} | {len(drawn)} | {len(drawn) - len(survived)} | {interval} |",
        flush=True,
    )


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in (*MODULES, "all"):
        sys.exit(f"{(__doc__ or '').strip()}\n\nModules: {', '.join(MODULES)}")
    for package in _IMPORTED:
        importlib.import_module(package)
    given = sys.argv[3:]
    seed, command = int(given[0]) if given else 0, given[1] if len(given) > 1 else "cosmic-ray"
    for each in MODULES if sys.argv[1] == "all" else [sys.argv[1]]:
        mutate(each, int(sys.argv[2]), seed, command)
