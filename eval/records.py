"""Records of an evaluation: one JSON line for each item under each arm, on the disk as soon as it is known."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from eval.registry import Record
from negclip_core.errors import RequestError
from negclip_core.files import atomic_write_bytes

__all__ = ["Journal"]


class Journal:
    """The records of one arm on one task under one set of settings.

    The settings are part of the file's name, so that records made otherwise are never taken for these. A kill while
    a line is written costs that line only. A record whose picture is gone counts as none, so that it is drawn again; `folder` is
    records/TASK below the folder that pictures' names start from.
    """

    def __init__(self, folder: Path, name: str, settings: dict[str, Any]) -> None:
        text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
        self.path = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
        if not self.path.exists():
            header = json.dumps({"settings": settings}, sort_keys=True, ensure_ascii=False)
            atomic_write_bytes(self.path, header.encode() + b"\n")
        out = folder.parent.parent
        # Raises RequestError where a line is damaged.
        self.records: dict[str, Record] = {
            record["id"]: record
            for record in self._read()
            if "image" not in record or (out / str(record["image"])).exists()
        }

    def _read(self) -> list[Record]:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            # Cut the half line off, or the next record would be glued to it.
            atomic_write_bytes(self.path, whole)
        return [self._record(number, line) for number, line in enumerate(whole.splitlines()[1:], 2)]

    def _record(self, number: int, line: bytes) -> Record:
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record.get("id"), str):
                raise ValueError("not a record with an id")
        except (ValueError, RecursionError) as error:
            raise RequestError(
                f"{self.path}, line {number}: damaged ({error}); delete the file to score its items again"
            ) from error
        return record

    def append(self, records: list[Record]) -> None:
        """Add records; they survive a kill from the moment this returns."""
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        with self.path.open("ab") as file:
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())
        self.records.update({record["id"]: record for record in records})
