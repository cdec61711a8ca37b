"""A journal in parts, one for each shard of the captions, and the parts as one journal again.

The whole is what counts: parts are cut from it and go back into it, also those that a run left which was killed. So the
number of shards may differ from one run to the next.
"""

import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from negclip_core.captions.journal import TABLES
from negclip_core.errors import RequestError

__all__ = ["gather", "parts_of", "spread"]

_LOCK = "lock"


@contextmanager
def parts_of(place: Path) -> Iterator[Path]:
    """Within the block, the folder of the parts of the journal at `place` is ours; what is left in it then stays.

    Raises RequestError where it is another run's.
    """
    folder = place.with_name(f"{place.name}.parts")
    folder.mkdir(exist_ok=True)
    try:
        with FileLock(folder / _LOCK, timeout=0):
            try:
                yield folder
            finally:
                if not _parts(folder):
                    shutil.rmtree(folder)
    except Timeout as error:
        raise RequestError(
            f"{folder}: another run is writing to it; wait for it, or choose another --out"
        ) from error


def spread(place: Path, parts: Mapping[Path, slice]) -> None:
    """Copy to each part what the journal holds of its tasks; nothing where there is no journal."""
    if not place.exists():
        return
    for path, tasks in parts.items():
        with closing(_open(path)) as part:
            part.execute("ATTACH ? AS whole", (str(place),))
            part.execute("INSERT OR REPLACE INTO settings SELECT * FROM whole.settings")
            for table in ("tasks", "answers"):
                part.execute(
                    f"INSERT OR REPLACE INTO {table} SELECT * FROM whole.{table} WHERE number >= ? AND number < ?",
                    (tasks.start, tasks.stop),
                )
            part.commit()


def gather(place: Path, folder: Path) -> None:
    """Move what the parts in a folder hold into the journal at `place`.

    Where a run was killed so early that its parts differ in settings, only the answers of those are kept that differ from
    the whole: their tasks ended by other rules.
    """
    paths = _parts(folder)
    if not paths:
        return
    settings = {path: _settings(path) for path in paths}
    with closing(_open(place)) as whole:
        own = _rows(whole)
        now = settings[paths[0]] if len({*map(tuple, settings.values())}) == 1 else own
        if now != own:
            whole.execute("DELETE FROM tasks")
            whole.execute("DELETE FROM settings")
            whole.executemany("INSERT INTO settings VALUES (?, ?)", now)
        whole.commit()
        for path in paths:
            whole.execute("ATTACH ? AS part", (str(path),))
            for table in ("answers", "tasks") if settings[path] == now else ("answers",):
                whole.execute(f"INSERT OR REPLACE INTO {table} SELECT * FROM part.{table}")
            whole.commit()
            whole.execute("DETACH part")
    for path in paths:
        path.unlink()


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.journal"))


def _open(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(path, timeout=0)
    file.executescript(TABLES)
    return file


def _settings(path: Path) -> list[tuple[str, str]]:
    with closing(_open(path)) as file:
        return _rows(file)


def _rows(file: sqlite3.Connection) -> list[tuple[str, str]]:
    return sorted(file.execute("SELECT name, value FROM settings"))
