"""What became of each caption so far, in one SQLite file: a run that stops, however it stops, goes on from it.

One row per task: how far it has come, or its end. In write-ahead mode what was committed outlives `kill -9`; a power cut
may take the last rows back. A second run on the same file is refused.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from negclip_core.captions.synthesis import Outcome, Progress, Task
from negclip_core.errors import RequestError, UnfinishedWork

__all__ = ["Journal"]

_TABLES = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tasks (
    number INTEGER PRIMARY KEY,     -- its place in the inputs
    pipeline TEXT NOT NULL,
    key TEXT NOT NULL,              -- the caption's id, or the question's
    state TEXT NOT NULL,            -- open, absent, present or rejected
    reason TEXT NOT NULL,
    proposed INTEGER NOT NULL,
    verified_absent INTEGER NOT NULL,
    image_id,                       -- of entries
    content TEXT NOT NULL           -- of open tasks their progress, of absent and present ones the entry, as JSON
);
"""
_PUT = "INSERT OR REPLACE INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Journal:
    """The journal at `path`, begun or continued. Commits after every `group` rows.

    Raises:
        RequestError: the file is no journal, is in use, or was begun with other `settings` and holds answers that
            were paid for (`paid`); where nothing was, it is begun again.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, paid: bool, group: int) -> None:
        self.path, self.paid, self._group, self._waiting = path, paid, group, 0
        with self._readable():
            self._file = sqlite3.connect(path, timeout=0)
            self._file.executescript(
                "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _TABLES
            )
            self._file.execute("BEGIN EXCLUSIVE")
            self._agree(dict(settings) | {"paid": paid})
            self._continued = self._file.execute("SELECT 1 FROM tasks").fetchone() is not None
            self._file.commit()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Turns what a damaged file, or a disk that is full, raises into one line."""
        try:
            yield
        except (sqlite3.Error, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            if "locked" in str(error):
                raise RequestError(
                    f"{self.path}: another run is writing to it; wait for it, or choose another --out"
                ) from error
            if isinstance(error, sqlite3.OperationalError) and ("full" in str(error) or "I/O" in str(error)):
                raise UnfinishedWork(
                    f"{self.path}: cannot be written ({error}); make room, and repeat the command"
                ) from error
            raise RequestError(
                f"{self.path}: not a journal of negclip synthesize ({error}); remove it, or choose another --out"
            ) from error

    def _agree(self, settings: dict[str, Any]) -> None:
        before = {name: json.loads(value) for name, value in self._file.execute("SELECT * FROM settings")}
        if before == settings:
            return
        if before.get("paid") and self._file.execute("SELECT 1 FROM tasks").fetchone():
            apart = [n for n in sorted(before | settings) if before.get(n) != settings.get(n)]
            raise RequestError(
                f"{self.path}: was begun with another {', '.join(apart)}; give the same again, choose another --out, "
                "or remove it to begin anew"
            )
        self._file.execute("DELETE FROM tasks")
        self._file.execute("DELETE FROM settings")
        rows = [(name, json.dumps(value)) for name, value in settings.items()]
        self._file.executemany("INSERT INTO settings VALUES (?, ?)", rows)

    def progress(self, number: int) -> Progress | None:
        """How far a task has come; None where it has ended."""
        if not self._continued:
            return Progress()
        with self._readable():
            row = self._file.execute(
                "SELECT state, content FROM tasks WHERE number = ?", (number,)
            ).fetchone()
            if row is None:
                return Progress()
            return Progress.read(json.loads(row[1])) if row[0] == "open" else None

    def keep(self, number: int, task: Task, progress: Progress) -> None:
        """Write down how far a task has come."""
        self._put(
            (number, task.pipeline, str(task.key), "open", "", 0, 0, None, json.dumps(progress.as_json()))
        )

    def finish(self, number: int, task: Task, outcome: Outcome) -> None:
        """Write down how a task ended."""
        entry = "" if outcome.entry is None else json.dumps(outcome.entry, ensure_ascii=False)
        image = None if outcome.entry is None else outcome.entry["image_id"]
        self._put((number, task.pipeline, str(task.key), outcome.state, outcome.reason, outcome.proposed,
                   outcome.verified_absent, image, entry))  # fmt: skip

    def _put(self, row: tuple[Any, ...]) -> None:
        with self._readable():
            self._file.execute(_PUT, row)
        self._waiting += 1
        if self._waiting >= self._group:
            self.commit()

    def commit(self) -> None:
        """Make what was written down so far outlive the process."""
        with self._readable():
            self._file.commit()
        self._waiting = 0

    def counts(self) -> dict[str, Any]:
        """Of the tasks that have ended: `read`, `proposed`, `verified_absent`, `written`, `refuted`, `rejected`."""
        with self._readable():
            row = self._file.execute(
                "SELECT count(*), total(proposed), total(verified_absent), total(state = 'absent'), "
                "total(state = 'present') FROM tasks WHERE state != 'open'"
            ).fetchone()
            found: dict[str, Any] = dict(
                zip(("read", "proposed", "verified_absent", "written", "refuted"), map(int, row), strict=True)
            )
            found["rejected"] = dict(self._file.execute(
                "SELECT reason, count(*) FROM tasks WHERE state = 'rejected' GROUP BY reason "
                "ORDER BY count(*) DESC, reason"
            ))  # fmt: skip
            return found

    def entries(self, state: str) -> Iterator[str]:
        """The entries in a state, "absent" or "present", as JSON in the inputs' order."""
        with self._readable():
            rows = self._file.execute("SELECT content FROM tasks WHERE state = ? ORDER BY number", (state,))
            for (content,) in rows:
                if not isinstance(json.loads(content), dict):
                    raise ValueError("an entry is no object")
                yield content

    def images(self) -> set[Any]:
        """The ids of the images that have an entry."""
        with self._readable():
            rows = self._file.execute("SELECT DISTINCT image_id FROM tasks WHERE image_id IS NOT NULL")
            return {image for (image,) in rows}

    def close(self) -> None:
        """Commit and let go of the file."""
        try:
            self.commit()
        finally:
            self._file.close()
