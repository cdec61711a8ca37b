"""How much memory reading captions takes: of n of them, and of a tenth as many. Prints the peaks of both.

    python bench/memory.py [CAPTIONS] [jsonl|parquet|json]

Captions are written in a stream, five an image, and read in a process of their own as `negclip train` reads them:
file, tables on disk, the split into training and validation, and an epoch's batches of token ids in random order. What
the process holds before it has read any caption (Python, torch, the tokenizer) is said by itself. Pages of mapped files
are the system's cache, and given back when memory is short.
"""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PLACES, _THINGS = (
    ("street", "park", "beach", "kitchen", "harbour"),
    ("car", "dog", "tree", "boat", "chair", "lamp", "cat"),
)
_TEXTS = 20  # that each place begins anew with: no text is kept, and splitting new ones into tokens would take hours
_BATCH, _BATCHES = 512, 200


def _rows(count: int) -> Iterator[dict[str, object]]:
    for number in range(count):
        place, thing = _PLACES[number // 5 % len(_PLACES)], _THINGS[number % len(_THINGS)]
        caption = f"a {place} with people number {number % _TEXTS}"
        yield {
            "file_name": f"{number // 5:012d}.jpg", "caption": caption, "updated_caption": f"{caption} and no {thing}",
            "absent": [thing], "affirmative": caption, "asserted": f"{caption} and a {thing}",
        }  # fmt: skip


def _write(path: Path, count: int) -> None:
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        schema = pyarrow.Table.from_pylist(list(_rows(1))).schema
        with ParquetWriter(path, schema) as writer:
            rows = _rows(count)
            while batch := [row for row, _ in zip(rows, range(8192), strict=False)]:
                writer.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema))
        return
    with path.open("w", encoding="utf-8") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in _rows(count))
            return
        images = ({"id": n, "file_name": f"{n:012d}.jpg"} for n in range((count + 4) // 5))
        rows = ({**row, "image_id": n // 5} for n, row in enumerate(_rows(count)))
        for head, entries, foot in (('{"images": [', images, "], "), ('"annotations": [', rows, "]}")):
            file.write(head)
            for number, entry in enumerate(entries):
                file.write("," * (number > 0) + json.dumps(entry))
            file.write(foot)


def _memory() -> tuple[float, float]:
    """Of this process in MiB: its peak so far, and what of its memory is now its own and not a page of a mapped file."""
    own = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")
    )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, int(own.split()[1]) / 1024


def _read(path: Path, folder: Path) -> None:
    """What a child does: prints its memory before, after reading, and after an epoch's batches."""
    import torch

    from negclip_core.clip import load_clip
    from negclip_core.training.captions_file import read_captions
    from negclip_core.training.data import split_rows
    from negclip_core.training.tables import caption_tables

    clip = load_clip("miniature/clip")
    clip.tokenizer(["a street with no cars"])
    found = [_memory()]
    tables = caption_tables(read_captions(path), clip.tokenizer, folder)
    found.append(_memory())
    rows, _ = split_rows(tables, "image")
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    for batch in rows[: _BATCH * _BATCHES].split(_BATCH):
        tables.negated[batch], tables.asserted[batch]
    found.append(_memory())
    print(json.dumps(found))


def main(count: int, form: str) -> None:
    """Read both numbers of captions, each in a fresh process."""
    for number in (count // 10, count):
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / f"captions.{form}"
            _write(path, number)
            child = subprocess.run([sys.executable, __file__, "--read", path, Path(name) / "tables"],
                                   check=True, stdout=subprocess.PIPE)  # fmt: skip
        print(f"{number:,} captions of {number // 5:,} images, MiB:")
        for when, (peak, own) in zip(("before", "read", "batches"), json.loads(child.stdout), strict=True):
            print(f"  {when:8} peak {peak:5.0f}, without pages of mapped files {own:5.0f}", flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[:1] == ["--read"]:
        _read(Path(given[1]), Path(given[2]))
    else:
        main(int(given[0]) if given else 1_000_000, given[1] if len(given) > 1 else "jsonl")
