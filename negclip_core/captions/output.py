"""The captions file that a journal comes to, written as `negclip_core.training.captions_file` reads it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from negclip_core.captions.journal import Journal
from negclip_core.errors import RequestError
from negclip_core.files import atomic_path, atomic_write_json

__all__ = ["check_suffix", "write_captions"]

_SUFFIXES = (".json", ".jsonl", ".parquet")
_ROWS = 8192  # in a row group


def check_suffix(path: Path) -> None:
    """Raise RequestError for a file that `write_captions` cannot write."""
    if path.suffix not in _SUFFIXES:
        raise RequestError(f"--out {path}: expected a name that ends in {', '.join(_SUFFIXES)}")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise RequestError(
                f"--out {path}: writing Parquet needs pyarrow; pip install 'negclip[scale]'"
            ) from error


def write_captions(
    path: Path, journal: Journal, images: Iterable[Mapping[str, Any]], info: Mapping[str, Any]
) -> None:
    """Write what the journal holds, whole or not at all, a caption at a time.

    `.json` is COCO captions JSON with `updated_caption`, and `present` for what the image refutes; `.jsonl` and
    `.parquet` hold a caption a line or row, with `file_name`, and `info` beside them in a file of its own.
    """
    used = journal.images()
    named = {image["id"]: image for image in images if image["id"] in used}
    with atomic_path(path) as temporary:
        if path.suffix == ".json":
            _write_coco(temporary, journal, named, info)
        elif path.suffix == ".jsonl":
            with temporary.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(journal, named))
        else:
            _write_parquet(temporary, _rows(journal, named))
    if path.suffix != ".json":
        atomic_write_json(path.with_name(f"{path.name}.info.json"), info)


def _write_coco(
    path: Path, journal: Journal, images: Mapping[Any, Mapping[str, Any]], info: Mapping[str, Any]
) -> None:
    with path.open("w", encoding="utf-8") as file:
        # Few lines: a caption a line would be as long as the captions.
        head = {"info": dict(info), "images": list(images.values())}
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "annotations": [')
        for number, entry in enumerate(journal.entries("absent"), 1):
            file.write(f'{", " if number > 1 else ""}{{"id": {number}, {entry[1:]}')
        file.write('], "present": [')
        for number, entry in enumerate(journal.entries("present")):
            file.write(f"{', ' if number else ''}{entry}")
        file.write("]}")


def _rows(journal: Journal, images: Mapping[Any, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for state in ("absent", "present"):
        for content in journal.entries(state):
            entry = json.loads(content)
            yield {"file_name": images[entry["image_id"]]["file_name"], **entry}


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    names = (
        "file_name",
        "caption",
        "updated_caption",
        "negated",
        "of",
        "affirmative",
        "asserted",
        "pipeline",
    )
    schema = pyarrow.schema(
        [(name, pyarrow.string()) for name in names]
        + [("absent", pyarrow.list_(pyarrow.string()))]
        + [(name, pyarrow.string()) for name in ("image_id", "caption_id", "question_id")]
    )
    with ParquetWriter(path, schema) as writer:
        while batch := list(islice(rows, _ROWS)):
            keyed = [{n: str(v) if n.endswith("_id") else v for n, v in row.items()} for row in batch]
            writer.write_table(pyarrow.Table.from_pylist(keyed, schema=schema))
