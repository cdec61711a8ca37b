"""Which tasks there are: every file in eval/tasks/ is one, and says at its head what it is.

The head is the module's docstring; its lines of the form "name: …", "measures: …", "source: …", "licence: …",
"needs: …" and "kind: …" are read without importing the file, so that a list costs no torch. A line that is indented
goes on with the one before. "main: …" may name the metric that the task is judged by, of which more is better; without
it that is the first that the task measures.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from eval.options import Options
from negclip_core.errors import RequestError

__all__ = ["Kind", "Record", "Task", "TaskInfo", "load", "task", "tasks"]

Kind = Literal["understanding", "generation", "segmentation"]
Record = dict[str, Any]  # one item under one arm, as JSON; "id" names the item
Values = dict[str, dict[str, float]]  # metric -> unit -> value; units pair arms

_FIELDS = ("name", "kind", "measures", "source", "licence", "needs")
_FOLDER = Path(__file__).parent / "tasks"


@dataclass(frozen=True)
class TaskInfo:
    """The head of a task's file."""

    name: str
    kind: Kind
    measures: str
    source: str
    licence: str
    needs: str
    module: str
    main: str = ""  # the metric that it is judged by, more being better; empty: the first that it measures


class Task(Protocol):
    """What a task's file holds; `chance` only in a task of understanding, `left_out` only in one that leaves items out."""

    def items(self, data: Path, options: Options) -> list[Any]:
        """Read the public files below `data`, in an order that `options.seed` fixes; each item has an `id`."""
        ...

    def run(self, items: list[Any], done: set[str], subject: Any, options: Options) -> Iterator[list[Record]]:
        """Score under one arm the items whose ids are not in `done`, some at a time, as they are finished.

        A task whose scores hang on all items together, or on how they are batched, may score done ones again.
        `subject` is an `eval.encoders.Scorer` for a task of understanding, an `eval.generation.Painter` for one of
        generation, an `integrations.referring.Finder` for one of segmentation. Raises RequestError for scores that are not numbers.
        """
        ...

    def measure(self, records: list[Record], reference: list[Record], out: Path) -> Values:
        """What each unit (an item, or a part of one) contributes to each metric.

        `reference` holds the records of the first arm, for measures of how far this arm moved from it; files that
        records name lie below `out`.
        """
        ...

    def chance(self, records: list[Record]) -> dict[str, float]:
        """What guessing gets, for each metric on which an arm that sees no picture (`eval.blind`) must not do better."""
        ...

    def left_out(self, data: Path) -> dict[str, int]:
        """How many items of the file it has no way to judge, by what kind of item they are."""
        ...


def tasks(folder: Path = _FOLDER) -> dict[str, TaskInfo]:
    """All tasks by name, in alphabetical order.

    Raises:
        RuntimeError: a head lacks a field, or two files claim one name.
    """
    found: dict[str, TaskInfo] = {}
    for file in sorted(folder.glob("[!_]*.py")):
        info = _head(file)
        if info.name in found:
            raise RuntimeError(
                f"{file.name} and {found[info.name].module}.py both claim the task {info.name!r}"
            )
        found[info.name] = info
    return dict(sorted(found.items()))


def task(name: str) -> TaskInfo:
    """The task of this name. Raises RequestError if there is none."""
    known = tasks()
    if name not in known:
        raise RequestError(f"no task called {name!r}; there are {', '.join(known)} (negclip eval --list)")
    return known[name]


def load(info: TaskInfo) -> Task:
    """Import the task's file."""
    return cast(Task, import_module(f"eval.tasks.{info.module}"))


def _head(file: Path) -> TaskInfo:
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    fields = {
        key: " ".join(value.split()) for key, value in re.findall(r"^(\w+): (.+(?:\n[ \t]+.+)*)", text, re.M)
    }
    if missing := [name for name in _FIELDS if name not in fields]:
        raise RuntimeError(f"{file.name}: its docstring lacks {', '.join(missing)}")
    known = {name: fields[name] for name in _FIELDS}
    return TaskInfo(**known, module=file.stem, main=fields.get("main", ""))  # type: ignore[arg-type]
