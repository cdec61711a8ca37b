"""The blocks of *.md and docs/*.md: commands, Python, and those that are marked as not run.

Commands stand in fences of ```sh and in indented blocks, Python in fences of ```python. A fence of ```console is a
transcript: a command after "$ ", and lines that it prints ("..." for any words). What another fence holds is for reading.
A block is not run where the line before it is `<!-- not run: why -->`.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCUMENTS", "ROOT", "Block", "blocks", "commands", "document_id"]

ROOT = Path(__file__).parent.parent
GENERATED, DATED = "cli.md", "log.md"  # written from --help; what did not work, as it was at the time
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in (GENERATED, DATED)),
]
_NOT_RUN = re.compile(r"<!-- not run: (.+) -->")


@dataclass(frozen=True)
class Block:
    """One block, with the line of the document that it begins at; `language` is "sh", "console" or "python"."""

    line: int
    language: str
    text: str
    not_run: str | None  # why


def document_id(path: Path) -> str:
    """A document's path as a person writes it."""
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path) -> list[Block]:
    """The blocks of a document that hold commands or Python, in order."""
    lines, found = path.read_text("utf-8").splitlines(), []
    number = 0
    while number < len(lines):
        start = number
        if lines[number].startswith("```"):
            language = lines[number].removeprefix("```").strip()
            end = lines.index("```", number + 1)
            body = lines[number + 1 : end]
            number = end
        elif lines[number].startswith("    ") and not lines[number - 1].strip().startswith(("-", "|")):
            while number + 1 < len(lines) and lines[number + 1].startswith("    "):
                number += 1
            language, body = "sh", [line[4:] for line in lines[start : number + 1]]
        else:
            number += 1
            continue
        number += 1
        if language in ("sh", "console", "python"):
            found.append(Block(start + 1, language, "\n".join(body), _mark(lines, start)))
    return found


def _mark(lines: list[str], start: int) -> str | None:
    before = next((line for line in reversed(lines[:start]) if line.strip()), "")
    match = _NOT_RUN.fullmatch(before.strip())
    return match[1] if match else None


def commands(block: Block) -> list[tuple[list[str], list[str]]]:
    """A block's commands as words, without comments, each with the lines that a transcript has it print.

    A backslash at the end of a line goes on.
    """
    found: list[tuple[list[str], list[str]]] = []
    for line in re.sub(r"\\\n\s*", " ", block.text).splitlines():
        if block.language == "console" and not line.startswith("$ "):
            found[-1][1].append(line)
        elif words := shlex.split(line.removeprefix("$ "), comments=True):
            found.append((words, []))
    return found
