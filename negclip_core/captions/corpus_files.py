"""The forms of file that captions come in, each as a Polars table that is read as it is asked for.

The form is told by the suffix; `.gz` and `.zst` may follow that of text:

- `.parquet`
- `.csv` (quoted as usual) and `.tsv` (nothing is quoted), with a line of names first
- `.jsonl`: an object a line
- `.txt`: a caption a line, in the column `text`
- `.json`: COCO captions, or any list of objects; read whole

Bytes that are not UTF-8 become U+FFFD, except in Parquet's columns of text, which promise UTF-8.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negclip_core.errors import RequestError, reason_of

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Table", "files_of", "open_table", "readable"]

_PACKED = (".gz", ".zst")
_ROWS = 65_536  # read at a time
_FIRST = 100  # rows among which names are looked for, where a file does not list them


@dataclass(frozen=True)
class Table:
    """A file's columns, a function that gives some of them as a frame, and how many rows it has where it tells."""

    columns: list[str]
    select: "Callable[[Sequence[str]], pl.LazyFrame]"
    rows: int | None = None


def files_of(path: Path) -> list[Path]:
    """The file itself, or the Parquet files of a folder, at any depth, in order.

    Raises:
        RequestError: there is none.
    """
    if not path.is_dir():
        return [path]
    found = sorted(path.rglob("*.parquet"))
    if not found:
        raise RequestError(f"{path}: holds no .parquet file; name a folder of them, or files of another form")
    return found


def open_table(path: Path) -> Table:
    """The table of a file.

    Raises:
        RequestError: it is missing, empty, broken or of another form.
    """
    kind = path.with_suffix("") if path.suffix.lower() in _PACKED else path
    suffix = kind.suffix.lower()
    read = _FORMS.get(suffix)
    if read is None or (kind != path and suffix in (".json", ".parquet")):
        raise RequestError(
            f"{path}: expected a folder of .parquet files, or {', '.join(_FORMS)}, the last four perhaps with "
            f"{' or '.join(_PACKED)}"
        )
    with readable(path):
        if path.stat().st_size == 0:
            raise RequestError(f"{path}: the file is empty")
        return read(path)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what reading a file may raise into one line."""
    from polars.exceptions import PanicException, PolarsError

    try:
        yield
    # A panic is what Polars may end in where a file is spoiled; Python counts it with interruptions.
    except (OSError, ValueError, RecursionError, PolarsError, PanicException) as error:
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise RequestError(f"{path}: cannot be read ({reason})") from error


def _parquet(path: Path) -> Table:
    # By PyArrow: Polars' own reader ends the process where a spoiled page asks for more memory than there can be.
    import polars as pl
    from polars.io.plugins import register_io_source

    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise RequestError(f"{path}: reading .parquet needs PyArrow; pip install 'negclip[scale]'") from error

    def batches(
        columns: list[str] | None, predicate: "pl.Expr | None", count: int | None, size: int | None
    ) -> "Iterator[pl.DataFrame]":
        left = rows if count is None else count
        with ParquetFile(path) as opened:
            for batch in opened.iter_batches(size or _ROWS, columns=columns):
                batch.validate(full=True)  # Polars takes it as it is, and panics later where it is no UTF-8
                # Column by column: what else the file says of itself may be no UTF-8 either.
                held = zip(batch.schema.names, batch.columns, strict=True)
                frame = pl.DataFrame({name: pl.from_arrow(column) for name, column in held}).head(left)
                left -= len(frame)
                yield frame if predicate is None else frame.filter(predicate)
                if not left:
                    return

    def select(names: Sequence[str]) -> pl.LazyFrame:
        nothing = {name: pl.from_arrow(pyarrow.array([], kinds[name])) for name in names}
        return register_io_source(batches, schema=pl.DataFrame(nothing).schema).select(names)

    with ParquetFile(path) as file:
        rows, schema = file.metadata.num_rows, file.schema_arrow
    kinds = dict(zip(schema.names, schema.types, strict=True))
    if len(kinds) < len(schema.names):
        raise ValueError("two columns have one name")
    return Table(schema.names, select, rows)


def _separated(path: Path, separator: str, quote: str | None) -> Table:
    import polars as pl

    frame = pl.scan_csv(
        path, separator=separator, quote_char=quote, infer_schema=False, encoding="utf8-lossy",
        truncate_ragged_lines=True, glob=False,
    )  # fmt: skip
    return Table(frame.collect_schema().names(), frame.select)


def _lines(path: Path) -> Table:
    import polars as pl

    # As a table of one column: Polars' readers of lines and of JSON lines refuse what is not UTF-8. A NUL ends a caption.
    frame = pl.scan_csv(
        path, has_header=False, separator="\0", quote_char=None, schema={"text": pl.String}, encoding="utf8-lossy",
        truncate_ragged_lines=True, glob=False,
    )  # fmt: skip
    return Table(["text"], frame.select)


def _json_lines(path: Path) -> Table:
    import polars as pl

    lines = _lines(path).select(["text"])
    first = lines.head(_FIRST).collect()["text"]

    def select(names: Sequence[str]) -> pl.LazyFrame:
        row = pl.Struct(dict.fromkeys(names, pl.String))
        return lines.select(pl.col("text").str.json_decode(row).struct.unnest())

    return Table(_names(_rows(_objects(first))), select)


def _objects(lines: Iterable[str | None]) -> Iterator[Any]:
    for number, line in enumerate(lines, 1):
        try:
            if line is not None:
                yield json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error


def _json(path: Path) -> Table:
    import polars as pl

    document = json.loads(path.read_bytes().decode("utf-8", "replace"))
    held = document.get("annotations") if isinstance(document, dict) else document
    if not isinstance(held, list):
        raise ValueError("neither COCO captions, which hold 'annotations', nor a list of objects")
    rows = list(_rows(held))

    def select(names: Sequence[str]) -> pl.LazyFrame:
        columns = {name: [_plain(row.get(name)) for row in rows] for name in names}
        return pl.LazyFrame(columns, schema=dict.fromkeys(names, pl.String))

    return Table(_names(rows), select)


def _plain(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) else None


def _rows(found: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    for number, row in enumerate(found, 1):
        if not isinstance(row, dict):
            raise ValueError(f"row {number}: an object is expected, not {type(row).__name__}")
        yield row


def _names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys of the first rows, in order."""
    names: dict[str, None] = {}
    for row in islice(rows, _FIRST):
        names |= dict.fromkeys(row)
    return list(names)


_FORMS: dict[str, Callable[[Path], Table]] = {
    ".parquet": _parquet,
    ".json": _json,
    ".jsonl": _json_lines,
    ".csv": partial(_separated, separator=",", quote='"'),
    ".tsv": partial(_separated, separator="\t", quote=None),
    ".txt": _lines,
}
