"""Negated captions as files hold them, one after the other.

Four forms are read, told apart by the file's suffix:

- `.json`: COCO captions JSON whose annotations keep `caption` and gain `updated_caption` (the paper's file). A list
  `present` beside `annotations` holds, under `negated`, what is said of things that the verifier found *in* the image.
- `.jsonl` and `.parquet`: a caption a line or row, with `file_name`, `caption`, and `updated_caption` or `negated`.
- `.tar`, or a folder of them: webdataset shards, where each picture lies beside a `.json` of such a row.

Where they are there, `absent` (what is absent), `affirmative` (the rest of the caption) and `asserted` (its counterpart
that says the thing is there) are read as well, and derived by `negclip_core.language` where not; `of` says who lacks the
thing where it is not the picture.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from negclip_core.errors import RequestError
from negclip_core.files import parse_json, sha256_file
from negclip_core.language import parse
from negclip_core.training.shards import rows_of_shards

__all__ = ["NegatedCaption", "fingerprint", "is_had", "read_captions"]

_MAKE_ONE = "make one with negclip synthesize"


@dataclass(frozen=True)
class NegatedCaption:
    """One caption, what it does not mention, and whether the image lacks it."""

    file_name: str
    caption: str
    negated: str
    affirmative: str
    asserted: str
    holds: bool  # True: the image lacks the thing, so `negated` is right; False: `asserted` is
    absent: tuple[str, ...]  # what is denied: "cars", or "hat of man"


def is_had(thing: str) -> bool:
    """Whether what a caption denies is what something has ("hat of man"), and not that there is such a thing ("car")."""
    return " of " in thing


def read_captions(path: Path, counts: Counter[str] | None = None) -> Iterator[NegatedCaption]:
    """The negated captions of a file, or of a folder of shards; annotations without any are passed over.

    So are negated captions in which nothing absent is named or found, and of which no counterpart is given.

    Args:
        counts: counts the captions as they are read: "read", and "nothing absent" for those that are passed over.

    Raises:
        RequestError: the file is in none of the forms above, or holds no negated caption of use.
    """
    counts = Counter() if counts is None else counts
    for record in _records(path):
        counts["read" if record.asserted else "nothing absent"] += 1
        if record.asserted:
            yield record
    if not counts["read"]:
        if number := counts["nothing absent"]:
            raise RequestError(
                f"{path}: none of its {number} negated captions names what is absent; {_MAKE_ONE}"
            )
        raise RequestError(f"{path}: no annotation holds 'updated_caption'; {_MAKE_ONE}")


def fingerprint(path: Path) -> str:
    """64 hexadecimal digits that change with the file; with the names and sizes of a folder's shards, which may be terabytes."""
    if not path.is_dir():
        return sha256_file(path) if path.exists() else ""
    seen = [f"{shard.name} {shard.stat().st_size}" for shard in sorted(path.glob("*.tar"))]
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()


def _records(path: Path) -> Iterator[NegatedCaption]:
    if path.is_dir() or path.suffix == ".tar":
        return _from_rows(path, rows_of_shards(path))
    if path.suffix == ".jsonl":
        return _from_rows(path, _json_lines(path))
    if path.suffix == ".parquet":
        return _from_rows(path, _parquet_rows(path))
    return iter(_coco(path))


def _record(entry: dict[str, Any], file_name: str, negated: str, holds: bool) -> NegatedCaption:
    """`asserted` is "" where it is not given, nor anything absent given or found."""
    parsed = None if {"affirmative", "asserted", "absent"} <= entry.keys() else parse(negated)
    affirmative = entry.get("affirmative") or (parsed.affirmative if parsed else "")
    denied = [thing for each in parsed.negations for thing in each.absent] if parsed else []
    absent = entry.get("absent") or denied
    of = f" of {entry['of']}" if entry.get("of") else ""
    if isinstance(absent, str):
        raise TypeError("'absent' is a text, not a list of them")
    asserted = entry.get("asserted") or (
        f"{affirmative} with {' and '.join(absent)}".strip() if absent else ""
    )
    texts = (file_name, entry["caption"], negated, affirmative, asserted, *absent)
    if wrong := [text for text in texts if not isinstance(text, str)]:
        raise TypeError(f"{wrong[0]!r} is no text")
    things = tuple(f"{thing}{of}" for thing in absent)
    return NegatedCaption(file_name, entry["caption"], negated, affirmative, asserted, holds, things)


def _coco(path: Path) -> list[NegatedCaption]:
    try:
        document = parse_json(path.read_text("utf-8"))
        names = {image["id"]: image["file_name"] for image in document["images"]}
        records = [
            _record(entry, names[entry["image_id"]], entry["updated_caption"], True)
            for entry in document["annotations"]
            if entry.get("updated_caption")
        ]
        return records + [
            _record(e, names[e["image_id"]], e["negated"], False) for e in document.get("present", [])
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RequestError(
            f"{path}: not a COCO captions file with 'images' and 'annotations' ({type(error).__name__}: {error}); "
            f"{_MAKE_ONE}"
        ) from error


def _from_rows(path: Path, rows: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[NegatedCaption]:
    """Records of rows, each with the words for where it stands."""
    for where, row in rows:
        # Columns that a table has and a row has not come as nulls.
        entry = {key: value for key, value in row.items() if value is not None}
        negated = entry.get("updated_caption") or entry.get("negated")
        if not negated:
            continue
        try:
            yield _record(entry, entry["file_name"], negated, bool(entry.get("updated_caption")))
        except (KeyError, TypeError, AttributeError) as error:
            raise RequestError(
                f"{path}, {where}: expected texts under 'file_name', 'caption' and 'updated_caption' "
                f"({type(error).__name__}: {error})"
            ) from error


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    row = parse_json(line)
                    if not isinstance(row, dict):
                        raise ValueError(f"a JSON object is expected, not {type(row).__name__}")
                    yield f"line {number}", row
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path}: cannot be read near line {number} ({error}); {_MAKE_ONE}") from error


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise RequestError(f"{path}: reading Parquet needs pyarrow; pip install 'negclip[scale]'") from error
    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=8192):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (OSError, ValueError, ArrowException) as error:
        raise RequestError(f"{path}: not a Parquet file that can be read ({error})") from error
