"""Negated captions on disk as training reads them, so that memory does not grow with how many there are.

Token ids lie end to end, without padding, in files that are memory-mapped; a table gives the rows that it is asked for.
"""

import mmap
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from negclip_core.files import atomic_write_json, read_json
from negclip_core.training.captions_file import NegatedCaption
from negclip_core.training.text import Tokenizer, tokenise

__all__ = ["CaptionTables", "ThingTable", "TokenTable", "caption_tables"]

_TEXTS = ("caption", "negated", "affirmative", "asserted")
_AT_ONCE = 4096
_DONE = "tables.json"
_FORM = 2  # of the files; those of another are made anew


class _Column:
    """Numbers in a file, which is mapped. Pages that were read are given back, or an epoch would gather all of them."""

    def __init__(self, path: Path, dtype: type[np.integer]) -> None:
        self._map = None
        if path.stat().st_size:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._values = np.frombuffer(self._map or b"", dtype)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, places: Tensor) -> Tensor:
        """A copy of what stands at `places`, int64 of any shape."""
        found = torch.from_numpy(self._values[places.numpy()])
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
        return found


@dataclass(frozen=True)
class TokenTable:
    """Texts as token ids, a row a text, read from the disk as they are asked for."""

    flat: _Column  # int32, all texts' ids from start to end token
    starts: _Column  # int64 [rows + 1], where each begins in `flat`
    context: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, rows: Tensor) -> Tensor:
        """int32 [len(rows), context], padded after the end token with the end token, as Stable Diffusion's are."""
        begin, after = self.starts[rows], self.starts[rows + 1]
        places = torch.arange(self.context)[None].minimum((after - begin - 1)[:, None])
        return self.flat[begin[:, None] + places]


@dataclass(frozen=True)
class ThingTable:
    """What each caption denies."""

    names: tuple[str, ...]  # of all things
    flat: Tensor  # int32, columns of `names`, caption after caption
    starts: Tensor  # int64 [rows + 1]

    def __getitem__(self, rows: Tensor) -> Tensor:
        """bool [len(rows), things]."""
        found = torch.zeros(len(rows), len(self.names), dtype=torch.bool)
        for row, (begin, after) in enumerate(zip(self.starts[rows], self.starts[rows + 1], strict=True)):
            found[row, self.flat[begin:after].long()] = True
        return found

    @property
    def counts(self) -> Tensor:
        """How many things each caption denies, int64 [rows]."""
        return self.starts.diff()

    def denying(self, thing: int) -> Tensor:
        """The rows that deny a thing, ascending, int64."""
        order, starts = self._by_thing
        return order[starts[thing] : starts[thing + 1]]

    @cached_property
    def _by_thing(self) -> tuple[Tensor, Tensor]:
        rows = torch.repeat_interleave(torch.arange(len(self.starts) - 1), self.counts)
        order = self.flat.argsort(stable=True)
        sizes = torch.bincount(self.flat, minlength=len(self.names))
        return rows[order], torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)])


@dataclass(frozen=True)
class CaptionTables:
    """All captions of a file."""

    images: tuple[str, ...]  # file names
    image: Tensor  # int64 [rows], index into `images`
    holds: Tensor  # bool [rows]
    absent: ThingTable
    caption: TokenTable
    negated: TokenTable
    affirmative: TokenTable
    asserted: TokenTable
    passed_over: int  # captions of the file in which nothing absent is found: no rows

    def __len__(self) -> int:
        return len(self.image)


def caption_tables(
    records: Iterable[NegatedCaption],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    key: str = "",
    padded: bool = False,
    counts: Counter[str] | None = None,
    quiet: bool = True,
) -> CaptionTables:
    """The tables of `records`, kept in `folder`; where they are there already, of the same `key`, `records` is not read.

    With `padded`, texts are kept with their padding, for a tower that reads it. `counts` is what `read_captions` counts as the
    records are read: it is kept as well.

    A pass that is interrupted leaves a folder without its last file, and is begun anew.
    """
    done = folder / _DONE
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Of several processes one writes; the others wait, and read.
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists() or [read_json(done).get(name) for name in ("form", "key")] != [_FORM, key]:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            about = _write(records, tokenizer, folder, padded, quiet)
            about |= {"form": _FORM, "key": key, "passed_over": (counts or Counter())["nothing absent"]}
            atomic_write_json(done, about)
    about = read_json(done)
    texts = {
        name: TokenTable(
            _Column(folder / f"{name}.tokens", np.int32),
            _Column(folder / f"{name}.starts", np.int64),
            about["context"],
        )
        for name in _TEXTS
    }
    things = ThingTable(
        tuple(about["things"]),
        _read(folder / "absent.things", torch.int32),
        _read(folder / "absent.starts", torch.int64),
    )
    image, holds = _read(folder / "image", torch.int64), _read(folder / "holds", torch.bool)
    passed_over = about.get("passed_over", 0)  # of tables that were made before this was counted
    return CaptionTables(_names(folder), image, holds, things, passed_over=passed_over, **texts)


def _write(
    records: Iterable[NegatedCaption], tokenizer: Tokenizer, folder: Path, padded: bool, quiet: bool
) -> dict[str, Any]:
    """Write the columns; what else is to be kept of them."""
    images: dict[str, int] = {}
    things: dict[str, int] = {}
    context = 0
    counting = tqdm(desc="reading captions", unit="caption", disable=quiet, mininterval=2)
    with _Columns(folder) as columns, counting as bar:
        for chunk in _chunks(records):
            fresh = [name for name in dict.fromkeys(r.file_name for r in chunk) if name not in images]
            images.update(zip(fresh, range(len(images), len(images) + len(fresh)), strict=True))
            names = [name.encode("utf-8", "surrogatepass") for name in fresh]
            columns.add("images.names", np.frombuffer(b"".join(names), np.uint8))
            columns.add_starts("images.starts", np.array([len(name) for name in names], np.int64))
            image = [images[record.file_name] for record in chunk]
            columns.add("image", np.array(image, np.int64))
            columns.add("holds", np.array([record.holds for record in chunk]))
            denied = [[things.setdefault(t, len(things)) for t in dict.fromkeys(r.absent)] for r in chunk]
            columns.add("absent.things", np.fromiter(chain.from_iterable(denied), np.int32))
            columns.add_starts("absent.starts", np.array([len(each) for each in denied], np.int64))
            # A caption and its affirmative rest are mostly one text.
            texts = dict.fromkeys(getattr(record, name) for name in _TEXTS for record in chunk)
            found = tokenise(tokenizer, list(texts), padded)
            context = found.shape[1]
            row = {text: number for number, text in enumerate(texts)}
            for name in _TEXTS:
                ids = found[[row[getattr(record, name)] for record in chunk]]
                lengths = torch.full((len(ids),), context) if padded else ids.argmax(1) + 1
                columns.add(f"{name}.tokens", ids[torch.arange(context)[None] < lengths[:, None]].numpy())
                columns.add_starts(f"{name}.starts", lengths.numpy())
            bar.update(len(chunk))
    return {"context": context, "things": list(things)}


def _names(folder: Path) -> tuple[str, ...]:
    """The images' file names, which lie end to end."""
    flat = (folder / "images.names").read_bytes()
    starts = _read(folder / "images.starts", torch.int64).tolist()
    return tuple(flat[begin:after].decode("utf-8", "surrogatepass") for begin, after in pairwise(starts))


def _chunks(records: Iterable[NegatedCaption]) -> Iterator[list[NegatedCaption]]:
    waiting = iter(records)
    while chunk := list(islice(waiting, _AT_ONCE)):
        yield chunk


class _Columns:
    """Files that grow together."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files, self.ends = folder, dict[str, BinaryIO](), dict[str, int]()

    def __enter__(self) -> "_Columns":
        return self

    def __exit__(self, *error: object) -> None:
        for file in self.files.values():
            file.close()

    def add(self, name: str, values: np.ndarray) -> None:
        if name not in self.files:
            self.files[name] = (self.folder / name).open("wb")
        self.files[name].write(values.tobytes())

    def add_starts(self, name: str, lengths: np.ndarray) -> None:
        """Where things of these lengths begin that lie end to end, and where the last one ends."""
        if name not in self.ends:
            self.ends[name] = 0
            self.add(name, np.zeros(1, np.int64))
        if len(lengths):
            starts = self.ends[name] + lengths.astype(np.int64).cumsum()
            self.ends[name] = int(starts[-1])
            self.add(name, starts)


def _read(path: Path, dtype: torch.dtype) -> Tensor:
    size = path.stat().st_size // dtype.itemsize
    return (
        torch.from_file(str(path), shared=False, size=size, dtype=dtype)
        if size
        else torch.empty(0, dtype=dtype)
    )
