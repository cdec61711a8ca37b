"""Features of the frozen image tower, computed once: training never looks at a picture again.

They are kept in a folder named by what made them, the image tower and its preprocessing, and so serve every later run
with that tower. Rows are appended; the index, a line a row, is written after them, and what an interrupted pass left
half-written is cut off. A picture that has changed is looked at again.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from negclip_core.clip import Clip
from negclip_core.errors import RequestError
from negclip_core.images import open_image
from negclip_core.training.shards import file_of, open_named

__all__ = ["Features", "feature_folder", "image_features", "kept_features"]

_AT_ONCE = 256


@dataclass(frozen=True)
class Features:
    """Unit-length features of images."""

    table: Tensor  # float32 [rows, embed_dim], memory-mapped
    row: dict[str, int]  # file name -> row
    bad: dict[str, str]  # file name -> why it could not be read


def feature_folder(clip: Clip, cache: Path) -> Path:
    """Where in `cache` the features of this image tower belong: named by its weights, shape and preprocessing."""
    digest = hashlib.sha256(
        json.dumps(
            [clip.config["vision_cfg"], clip.config["embed_dim"], bool(clip.config.get("quick_gelu")),
             clip.checkpoint.preprocess], sort_keys=True,
        ).encode()
    )  # fmt: skip
    for name, tensor in sorted(clip.checkpoint.weights.items()):
        if name.startswith("visual."):
            digest.update(name.encode() + str(tensor.dtype).encode())
            digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return cache / digest.hexdigest()[:32]


def kept_features(clip: Clip) -> Path:
    """The `feature_folder` in the hub's cache, where later runs find it. Raises RequestError where none can be made."""
    from huggingface_hub import cached_assets_path

    try:
        return feature_folder(clip, Path(cached_assets_path("negclip", "features")))
    except (OSError, ValueError) as error:
        raise RequestError(
            f"features of images cannot be kept ({error}); set HF_ASSETS_CACHE to a folder that can be written to"
        ) from error


def image_features(
    clip: Clip, folder: Path, names: list[str], store: Path, *, most_bad: float = 0.0, quiet: bool = False
) -> Features:
    """Features of the images `folder / name`; a name such as "000.tar/a.jpg" means a member of a shard.

    Args:
        store: where they are kept, see `feature_folder`.
        most_bad: the share of images that may be missing or broken.

    Raises:
        RequestError: more images than that cannot be read.
    """
    names = list(dict.fromkeys(names))
    store.mkdir(parents=True, exist_ok=True)
    index = _Index(store, clip.config["embed_dim"])
    bad: dict[str, str] = {}
    # Two runs may need the same features at once: the second waits, and finds them.
    with FileLock(store / "lock"), index, ThreadPoolExecutor() as pool:
        missing = [name for name in names if not index.knows(name, folder)]
        allowed = int(most_bad * len(names))
        bar = tqdm(total=len(missing), desc="encoding images", disable=quiet or not missing, mininterval=2)
        for part, opened in _ahead(pool, missing, lambda name: _opened(clip, folder, name)):
            good = [
                (name, pixels)
                for name, pixels in zip(part, opened, strict=True)
                if not isinstance(pixels, str)
            ]
            bad |= {name: why for name, why in zip(part, opened, strict=True) if isinstance(why, str)}
            if len(bad) > allowed:
                name, why = next(iter(bad.items()))
                raise RequestError(
                    f"{len(bad)} of {len(names)} images cannot be read, the first of them {name} ({why}); mend them, or "
                    "allow a larger share with --max-bad-images"
                )
            if good:
                rows = clip.encode_pixels(torch.stack([pixels for _, pixels in good])).cpu()
                index.append([name for name, _ in good], rows, folder)
            bar.update(len(part))
        bar.close()
    return Features(index.table(), {name: index.row[name] for name in names if name not in bad}, bad)


def _ahead(pool: ThreadPoolExecutor, names: list[str], job: Any) -> Iterator[tuple[list[str], list[Any]]]:
    """Batches of names with what `job` makes of each; the next batch is begun before the last is used."""
    parts = [names[i : i + _AT_ONCE] for i in range(0, len(names), _AT_ONCE)]
    coming = None
    for part in [*parts, []]:
        begun = (part, [pool.submit(job, name) for name in part])
        if coming is not None:
            yield coming[0], [future.result() for future in coming[1]]
        coming = begun


def _opened(clip: Clip, folder: Path, name: str) -> Tensor | str:
    """A picture's pixels as the image tower takes them, or why there are none."""
    try:
        with open_named(folder, name) as content:
            return clip.preprocess(open_image(folder / name, content))
    except (RequestError, OSError, ValueError, MemoryError) as error:
        return " ".join(str(error).split())[:300]


class _Index:
    """The two files of a store, kept in step."""

    def __init__(self, store: Path, width: int) -> None:
        self.rows, self.lines, self.width = store / "features.f32", store / "index.jsonl", width
        self.row: dict[str, int] = {}
        self.known: dict[str, dict[str, Any]] = {}
        self.files: list[BinaryIO] = []

    def __enter__(self) -> "_Index":
        for path in (self.rows, self.lines):
            path.touch()
        entries: list[dict[str, Any]] = []
        end = 0
        whole = self.rows.stat().st_size // (4 * self.width)
        with self.lines.open("rb") as lines:
            for line in lines:
                if len(entries) == whole or not line.endswith(b"\n"):
                    break
                try:
                    entries.append(json.loads(line))
                except ValueError:  # what comes after it is computed again
                    break
                end += len(line)
        for path, size in ((self.lines, end), (self.rows, 4 * self.width * len(entries))):
            file = path.open("r+b")
            file.truncate(size)
            file.seek(size)
            self.files.append(file)
        self.count = 0
        for entry in entries:
            self._note(entry)
        return self

    def __exit__(self, *error: object) -> None:
        for file in self.files:
            file.close()

    def _note(self, entry: dict[str, Any]) -> None:
        self.row[entry["name"]], self.known[entry["name"]] = self.count, entry
        self.count += 1

    def knows(self, name: str, folder: Path) -> bool:
        """Whether a picture's features are there and the picture is still the one they are of."""
        entry = self.known.get(name)
        if entry is None:
            return False
        now = _stamp(folder, name)
        if now is not None and now == {key: entry[key] for key in now}:
            return True
        return entry["sha256"] == _sha256(folder, name)

    def append(self, names: list[str], features: Tensor, folder: Path) -> None:
        lines, table = self.files
        table.write(features.numpy().tobytes())
        table.flush()
        for name in names:
            entry = {"name": name, **(_stamp(folder, name) or {}), "sha256": _sha256(folder, name)}
            lines.write(json.dumps(entry).encode() + b"\n")
            self._note(entry)
        lines.flush()

    def table(self) -> Tensor:
        shape = (self.count, self.width)
        if not self.count:
            return torch.empty(shape)
        return torch.from_file(str(self.rows), shared=False, size=shape[0] * shape[1]).view(shape)


def _stamp(folder: Path, name: str) -> dict[str, int] | None:
    """What a file's change shows in without reading it."""
    try:
        seen = file_of(folder, name).stat()
    except OSError:
        return None
    return {"size": seen.st_size, "mtime_ns": seen.st_mtime_ns}


def _sha256(folder: Path, name: str) -> str:
    try:
        with open_named(folder, name) as content:
            return hashlib.sha256(content.read()).hexdigest()
    except OSError:
        return ""
