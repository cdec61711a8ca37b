"""A journal in parts, one for each shard of the captions, and the parts as one journal again.

The whole is what counts: parts are cut from it and go back into it, also those that a run left which was killed. So the
number of shards may differ from one run to the next.
"""

import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from negclip_core.captions.journal import TABLES, readable
from negclip_core.errors import RequestError

__all__ = ["gather", "parts_of", "spread"]

_LOCK = "lock"
_SETTINGS = "SELECT name, value FROM settings ORDER BY name"


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
    """Copy to each part what the journal holds of its tasks; nothing where there is no journal.

    Raises as `Journal` where one of the files is damaged, in use, or cannot be written.
    """
    if not place.exists():
        return
    for path, tasks in parts.items():
        with readable(path), closing(_open(path)) as part:
            _put(part, "settings", _rows(place, "SELECT * FROM settings"))
            for table in ("tasks", "answers"):
                own = f"SELECT * FROM {table} WHERE number >= ? AND number < ?"
                _put(part, table, _rows(place, own, tasks.start, tasks.stop))
            part.commit()


def gather(place: Path, folder: Path) -> None:
    """Move what the parts in a folder hold into the journal at `place`.

    Where a run was killed so early that its parts differ in settings, only the answers of those are kept that differ from
    the whole: their tasks ended by other rules. A part without settings was killed before it could hold anything.

    Raises as `Journal` where one of the files is damaged, in use, or cannot be written.
    """
    paths = _parts(folder)
    if not paths:
        return
    settings = {path: found for path in paths if (found := tuple(_rows(path, _SETTINGS)))}
    with readable(place), closing(_open(place)) as whole:
        own = tuple(whole.execute(_SETTINGS))
        now = next(iter(settings.values())) if len({*settings.values()}) == 1 else own
        if now != own:
            whole.execute("DELETE FROM tasks")
            whole.execute("DELETE FROM settings")
            _put(whole, "settings", now)
        whole.commit()
        for path in settings:
            for table in ("answers", "tasks") if settings[path] == now else ("answers",):
                _put(whole, table, _rows(path, f"SELECT * FROM {table}"))
            whole.commit()
    for path in paths:
        path.unlink()


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.journal"))


def _open(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(path, timeout=0)
    file.executescript(TABLES)
    return file


def _rows(path: Path, query: str, *values: int) -> Iterator[tuple[Any, ...]]:
    """What a query finds in a journal: read apart from where it goes, so that it shows which of the two is damaged."""
    with readable(path), closing(_open(path)) as file:
        yield from file.execute(query, values)


def _put(file: sqlite3.Connection, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    for row in rows:
        file.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
