"""What is fuzzed: for each kind of bytes from outside, good files, how they are spoiled, and who reads them.

A reader must come to a right result or refuse the file: one clear line (RequestError; from an endpoint also UnfinishedWork and
Rejected), and nothing left behind.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from spoiling import Spoil, spoil_bytes  # type: ignore[import-not-found]  # pytest puts tests/ on the path

from negclip_core.captions.synthesis import Rejected
from negclip_core.errors import NegclipError

__all__ = ["LONGEST", "Damage", "Parser", "Target", "files_below", "outcome", "spoiled"]

LONGEST = 500  # characters of a refusal


@dataclass(frozen=True)
class Target:
    """A good file, how it is spoiled, and what reads it; `kept` are names of what a reading may leave in the folder."""

    file: Path
    read: Callable[[], object]
    spoil: Spoil = spoil_bytes
    kept: tuple[str, ...] = ()


Parser = Callable[[Path], list[Target]]  # puts good files into an empty folder


class Damage(AssertionError):
    """A reader did not keep to what this module says."""


def files_below(folder: Path) -> set[str]:
    """Relative paths of all files."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def outcome(target: Target, folder: Path, content: bytes) -> str:
    """ "read" or "refused", of a target with this content; the good one is put back.

    Raises:
        Damage: the refusal is no clear line, or something is left behind.
        Exception: of whatever kind; the reader did not expect it.
    """
    good = target.file.read_bytes()
    before = files_below(folder)
    target.file.write_bytes(content)
    try:
        target.read()
        return "read"
    except Rejected:
        return "refused"
    except NegclipError as error:
        said = str(error)
        if len(said.splitlines()) != 1 or not said.isprintable():
            raise Damage(f"not one line: {said[:200]!r}") from error
        if len(said) >= LONGEST:
            raise Damage(f"{len(said)} characters: {said[:200]!r}") from error
        if not any(name in said for name in (target.file.name, str(target.file.parent), "127.0.0.1")):
            raise Damage(f"names no file: {said}") from error
        left = {name for name in files_below(folder) - before if Path(name).name not in target.kept}
        if left:
            raise Damage(f"left behind: {', '.join(sorted(left))}") from error
        return "refused"
    finally:
        for name in files_below(folder) - before:
            (folder / name).unlink()
        target.file.write_bytes(good)


def spoiled(target: Target, random: Random) -> bytes:
    """The target's content, spoiled."""
    return target.spoil(target.file.read_bytes(), random)
