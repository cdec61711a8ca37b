"""What became of each caption so far, in one SQLite file: a run that stops, however it stops, goes on from it.

A row for each answer that was paid for, and for each task that has ended. What a task has been answered is answered again
from here: where it was interrupted, and where it is to end otherwise, because another verifier is to agree as well.
In write-ahead mode what was committed outlives `kill -9`; a power cut may take the last rows back. A second run on the
same file is refused.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from negclip_core.captions.steps import Said
from negclip_core.captions.synthesis import Outcome, Task
from negclip_core.errors import RequestError, UnfinishedWork

__all__ = ["TABLES", "Journal", "readable"]

TABLES = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tasks (
    number INTEGER PRIMARY KEY,     -- its place in the inputs
    pipeline TEXT NOT NULL,
    key TEXT NOT NULL,              -- the caption's id, or the question's
    state TEXT NOT NULL,            -- absent, present or rejected
    reason TEXT NOT NULL,
    proposed INTEGER NOT NULL,
    verified_absent INTEGER NOT NULL,
    image_id,                       -- of entries
    entry TEXT NOT NULL             -- as JSON
);
CREATE TABLE IF NOT EXISTS answers (
    number INTEGER NOT NULL,        -- its task's
    step TEXT NOT NULL,
    who TEXT NOT NULL,              -- which verifier; of other roles ''
    again INTEGER NOT NULL,         -- how often it had been asked before
    answer TEXT NOT NULL,           -- as JSON
    PRIMARY KEY (number, step, who, again)
) WITHOUT ROWID;
"""


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what a damaged journal, one in use, or a disk that is full raises into one line."""
    try:
        yield
    except (sqlite3.Error, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        if "locked" in str(error):
            raise RequestError(
                f"{path}: another run is writing to it; wait for it, or choose another --out"
            ) from error
        if isinstance(error, sqlite3.OperationalError) and ("full" in str(error) or "I/O" in str(error)):
            raise UnfinishedWork(
                f"{path}: cannot be written ({error}); make room, and repeat the command"
            ) from error
        raise RequestError(
            f"{path}: not a journal of negclip synthesize ({error}); remove it, or choose another --out"
        ) from error


class Journal:
    """The journal at `path`, begun or continued. Commits after every `group` rows.

    `settings`: what its answers and ends depend on; None for those that it was begun with.
    With more `verifiers`, or another `second_look`, tasks go from their beginning to another end; their answers stay.

    Raises:
        RequestError: the file is no journal, is in use, or was begun with other `settings` and holds answers that
            were paid for (`paid`); where nothing was, it is begun again.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any] | None, *, paid: bool, group: int) -> None:
        self.path, self.paid, self._group, self._waiting = path, paid, group, 0
        with readable(self.path):
            self._file = sqlite3.connect(path, timeout=0)
            self._file.executescript(
                "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + TABLES
            )
            self._file.execute("BEGIN EXCLUSIVE")
            if settings is not None:
                self._agree(dict(settings) | {"paid": paid})
            self._continued = self._holds("tasks") or self._holds("answers")
            self._file.commit()

    def _holds(self, table: str) -> bool:
        return self._file.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None

    def settings(self) -> dict[str, Any]:
        """What its answers and ends depend on."""
        with readable(self.path):
            rows = self._file.execute("SELECT * FROM settings ORDER BY name")
            return {name: json.loads(value) for name, value in rows}

    def _agree(self, settings: dict[str, Any]) -> None:
        before = self.settings()
        if before == settings:
            return
        apart = [n for n in sorted(before | settings) if before.get(n) != settings.get(n)]
        more = set(before.get("verifiers", ())) <= set(settings.get("verifiers", ()))
        if before.get("paid") and set(apart) <= {"second_look", *(("verifiers",) if more else ())}:
            self._file.execute("DELETE FROM tasks")
        elif before.get("paid") and (self._holds("tasks") or self._holds("answers")):
            raise RequestError(
                f"{self.path}: was begun with another {', '.join(apart)}; give the same again, choose another --out, "
                "or remove it to begin anew"
            )
        else:
            self._file.execute("DELETE FROM tasks")
            self._file.execute("DELETE FROM answers")
        self._file.execute("DELETE FROM settings")
        rows = [(name, json.dumps(value)) for name, value in settings.items()]
        self._file.executemany("INSERT INTO settings VALUES (?, ?)", rows)

    def ended(self, number: int) -> bool:
        """Whether a task has come to its end."""
        if not self._continued:
            return False
        with readable(self.path):
            found = self._file.execute("SELECT 1 FROM tasks WHERE number = ?", (number,))
            return found.fetchone() is not None

    def said(self, number: int) -> Said | None:
        """What roles said of a task so far, and where more of it is kept; None where nothing is paid for."""
        if not self.paid:
            return None
        with readable(self.path):
            rows = self._file.execute(
                "SELECT step, who, again, answer FROM answers WHERE number = ?", (number,)
            )
            answers = {tuple(key): answer for *key, answer in rows}
            for answer in answers.values():
                json.loads(answer)  # or it shows where nobody can say which file is damaged
            return _Said(self, number, answers)

    def finish(self, number: int, task: Task, outcome: Outcome) -> None:
        """Write down how a task ended."""
        entry = "" if outcome.entry is None else json.dumps(outcome.entry, ensure_ascii=False)
        image = None if outcome.entry is None else outcome.entry["image_id"]
        self.put("tasks", (number, task.pipeline, str(task.key), outcome.state, outcome.reason, outcome.proposed,
                           outcome.verified_absent, image, entry))  # fmt: skip

    def put(self, table: str, row: tuple[Any, ...]) -> None:
        """Write down a row."""
        with readable(self.path):
            self._file.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        self._waiting += 1
        if self._waiting >= self._group:
            self.commit()

    def commit(self) -> None:
        """Make what was written down so far outlive the process."""
        with readable(self.path):
            self._file.commit()
        self._waiting = 0

    def counts(self) -> dict[str, Any]:
        """Of the tasks that have ended: `read`, `proposed`, `verified_absent`, `written`, `refuted`, `rejected`."""
        with readable(self.path):
            row = self._file.execute(
                "SELECT count(*), total(proposed), total(verified_absent), total(state = 'absent'), "
                "total(state = 'present') FROM tasks"
            ).fetchone()
            found: dict[str, Any] = dict(
                zip(("read", "proposed", "verified_absent", "written", "refuted"), map(int, row), strict=True)
            )
            found["rejected"] = dict(self._file.execute(
                "SELECT reason, count(*) FROM tasks WHERE state = 'rejected' GROUP BY reason "
                "ORDER BY count(*) DESC, reason"
            ))  # fmt: skip
            return found

    def verified(self) -> tuple[dict[str, dict[str, int]], int]:
        """How often each verifier said absent, present or neither, and how many things were called both."""
        with readable(self.path):
            found: dict[str, dict[str, int]] = {}
            rows = self._file.execute(
                "SELECT who, answer, count(*) FROM answers WHERE who != '' AND answer IN ('true', 'false', 'null') "
                "GROUP BY who, answer"
            )
            names = {"false": "absent", "true": "present", "null": "unsure"}
            for who, answer, count in rows:
                found.setdefault(who, dict.fromkeys(names.values(), 0))[names[answer]] = count
            disputed = self._file.execute(
                "SELECT count(*) FROM (SELECT 1 FROM answers WHERE who != '' AND answer IN ('true', 'false') "
                "GROUP BY number, step HAVING count(DISTINCT answer) > 1)"
            )
            return found, int(disputed.fetchone()[0])

    def entries(self, state: str) -> Iterator[str]:
        """The entries in a state, "absent" or "present", as JSON in the inputs' order."""
        with readable(self.path):
            rows = self._file.execute("SELECT entry FROM tasks WHERE state = ? ORDER BY number", (state,))
            for (entry,) in rows:
                if not isinstance(json.loads(entry), dict):
                    raise ValueError("an entry is no object")
                yield entry

    def images(self) -> set[Any]:
        """The ids of the images that have an entry."""
        with readable(self.path):
            rows = self._file.execute("SELECT DISTINCT image_id FROM tasks WHERE image_id IS NOT NULL")
            return {image for (image,) in rows}

    def close(self) -> None:
        """Commit and let go of the file."""
        try:
            self.commit()
        finally:
            self._file.close()


class _Said:
    """See `negclip_core.captions.steps.Said`."""

    def __init__(self, journal: Journal, number: int, answers: dict[tuple[Any, ...], str]) -> None:
        self.journal, self.number, self.answers = journal, number, answers

    def get(self, step: str, who: str, again: int) -> str | None:
        return self.answers.get((step, who, again))

    def keep(self, step: str, who: str, again: int, answer: str) -> None:
        self.journal.put("answers", (self.number, step, who, again, answer))
