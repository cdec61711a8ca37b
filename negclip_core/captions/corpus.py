"""Captions of a corpus of any size, streamed by Polars on all cores in constant memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from negclip_core.captions.corpus_files import Table, files_of, open_table, readable
from negclip_core.errors import RequestError
from negclip_core.negation.coarse import coarse_pattern

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Batch", "Source", "open_corpus"]

_TEXTS = ("caption", "text", "updated_caption", "alt_text", "title", "prompt")
_IMAGES = ("image_id", "file_name")
_ROWS = 65_536  # of a batch


@dataclass(frozen=True)
class Batch:
    """What some rows hold: captions, rows without one, words between white space.

    `suspects` are the captions that may hold a cue, in order, each with what names its image ("" if not asked for).
    """

    captions: int
    blank: int
    words: int
    suspects: list[tuple[str, str]]


@dataclass(frozen=True)
class Source:
    """A file, the column of its captions, and the number of its rows where the file tells it."""

    path: Path
    column: str
    rows: int | None
    frame: "pl.LazyFrame"  # text and image, both strings

    def batches(self) -> Iterator[Batch]:
        """Its captions, in order.

        Raises:
            RequestError: the file turns out to be broken.
        """
        import polars as pl

        text = pl.col("text")
        words = text.str.count_matches(r"\S+").fill_null(0)
        suspect = pl.when(text.str.contains(coarse_pattern())).then(text)
        looked_at = self.frame.select(words.alias("words"), suspect.alias("suspect"), "image")
        with readable(self.path):
            for rows in looked_at.collect_batches(chunk_size=_ROWS):
                blank = int((rows["words"] == 0).sum())
                found = rows.filter(pl.col("suspect").is_not_null())
                suspects = list(zip(found["suspect"], found["image"], strict=True))
                yield Batch(len(rows) - blank, blank, int(rows["words"].sum()), suspects)


def open_corpus(paths: Sequence[Path], column: str | None = None, images: bool = False) -> list[Source]:
    """The files, and those of the folders, in order.

    `column` holds the captions; by default it is found by its name. With `images`, each caption comes with its
    `image_id`, or else its `file_name`.

    Raises:
        RequestError: Polars is missing, a file is missing, empty or of another form, or a column is not there.
    """
    try:
        import polars  # noqa: F401
    except ImportError as error:
        raise RequestError("reading a corpus needs Polars; pip install 'negclip[scale]'") from error
    return [_open(file, column, images) for path in paths for file in files_of(path)]


def _open(path: Path, wanted: str | None, images: bool) -> Source:
    import polars as pl

    table = open_table(path)
    column = _named(path, table, (wanted,) if wanted else _TEXTS, "captions; name theirs with --column")
    image = _named(path, table, _IMAGES, "images, which --instances needs") if images else None
    with readable(path):
        frame = table.select([column, image] if image else [column])
        kind = frame.collect_schema()[column]
    text = pl.col(column)
    if kind == pl.Binary:
        text = text.map_elements(lambda raw: raw.decode("utf-8", "replace"), return_dtype=pl.String)
    elif kind not in (pl.String, pl.Categorical, pl.Enum):
        raise RequestError(f"{path}: column {column!r} holds {kind}, not text; name another with --column")
    named = pl.col(image).cast(pl.String).fill_null("") if image else pl.lit("")
    return Source(
        path, column, table.rows, frame.select(text.cast(pl.String).alias("text"), named.alias("image"))
    )


def _named(path: Path, table: Table, names: Sequence[str], what: str) -> str:
    """The column of the first of these names that is there, in any case, but better in its own."""
    for name in names:
        found = [column for column in table.columns if column.lower() == name.lower()]
        if found:
            return name if name in found else found[0]
    there = ", ".join(table.columns[:20]) or "none"
    raise RequestError(f"{path}: no column {' or '.join(names)} for {what}; there are: {there}")
