"""Write docs/cli.md from the commands' own help: `make docs`. A test fails when it is stale."""

from pathlib import Path
from typing import Any

from typer.main import get_command

from negclip_core.files import atomic_write_text
from pipelines.cli import app

__all__ = ["PATH", "reference"]

PATH = Path(__file__).parent.parent / "docs" / "cli.md"
_WIDTH = 100
_HEAD = """# The command line

Written by `make docs` from `--help`; do not edit.

Every verb: results on standard output (`--json`: one JSON document and nothing else there), messages and progress on
standard error. Exit code 0: done; 1: failed part-way; 2: the request or an input is wrong; 130: interrupted, or 128 and the signal that came.
"""


def reference() -> str:
    """The page, as Markdown."""
    return _HEAD + "".join(_sections(get_command(app), "negclip", None))


def _sections(command: Any, name: str, parent: Any) -> list[str]:
    context = command.make_context(name.split()[-1], [], parent=parent, resilient_parsing=True,
                                   terminal_width=_WIDTH, max_content_width=_WIDTH)  # fmt: skip
    sections = [f"\n## {name}\n\n```\n{command.get_help(context).rstrip()}\n```\n"]
    for verb, inner in getattr(command, "commands", {}).items():
        sections += _sections(inner, f"{name} {verb}", context)
    return sections


if __name__ == "__main__":
    atomic_write_text(PATH, reference())
