"""Webdataset shards: tar files in which a picture and what is said of it are neighbours that share a name."""

import errno
import io
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from negclip_core.errors import RequestError
from negclip_core.files import parse_json
from negclip_core.images import SUFFIXES

__all__ = ["file_of", "open_named", "rows_of_shards"]


def rows_of_shards(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the `.json` files of a shard, or of a folder's shards in order, hold, each with the words for where it stands.

    Each row's `file_name` is set to the picture beside it: "shard.tar/name.jpg", which `open_named` opens.

    Raises:
        RequestError: there is no shard, or one cannot be read.
    """
    shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    if not shards:
        raise RequestError(f"{path}: holds no .tar shard; name a captions file, or a folder of shards")
    for shard in shards:
        try:
            with tarfile.open(shard, "r:") as archive:
                yield from _rows(shard.name, archive)
        except (OSError, ValueError, RecursionError, tarfile.TarError) as error:
            raise RequestError(f"{shard}: not a shard that can be read ({error})") from error


def _rows(shard: str, archive: tarfile.TarFile) -> Iterator[tuple[str, dict[str, Any]]]:
    waiting: dict[str, dict[str, Any]] = {}  # by the name up to its first dot, as webdataset groups files
    for member in archive:
        folder, _, file = member.name.rpartition("/")
        key, _, suffix = file.partition(".")
        key = f"{folder}/{key}"
        here = waiting.setdefault(key, {})
        if suffix.lower() == "json" and (content := archive.extractfile(member)) is not None:
            here["row"] = parse_json(content.read().decode("utf-8"))
        elif f".{suffix.lower()}" in SUFFIXES:
            here["picture"] = member.name
        if here.keys() == {"row", "picture"}:
            del waiting[key]
            if not isinstance(here["row"], dict):
                raise ValueError(f"{member.name}: a JSON object is expected")
            yield f"{shard}, {member.name}", here["row"] | {"file_name": f"{shard}/{here['picture']}"}
        elif len(waiting) > 1:
            waiting = {key: here}  # neighbours share a name; others have no partner


def file_of(folder: Path, name: str) -> Path:
    """The file that a name within `folder` is in: the shard's, of a member's name such as "000.tar/a.jpg".

    Raises:
        FileNotFoundError: the name leads out of the folder, or cannot be one.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise FileNotFoundError(errno.ENOENT, "leads out of its folder, or is no name", name)
    shard, mark, _ = name.partition(".tar/")
    return folder / (f"{shard}.tar" if mark else name)


def open_named(folder: Path, name: str) -> BinaryIO:
    """The file or shard's member of this name within `folder`, to read.

    Raises:
        FileNotFoundError: there is no such file, or the shard holds no such member.
        OSError: it cannot be read, or the shard is damaged.
    """
    shard, member = file_of(folder, name), name.partition(".tar/")[2]
    if not member:
        return shard.open("rb")
    try:
        start, size = _places(shard)[member]
    except KeyError as error:
        raise FileNotFoundError(f"{shard} holds no {member}") from error
    except tarfile.TarError as error:
        raise OSError(f"{shard}: not a shard that can be read ({error})") from error
    with shard.open("rb") as file:
        file.seek(start)
        return io.BytesIO(file.read(size))


@lru_cache(maxsize=64)
def _places(shard: Path) -> dict[str, tuple[int, int]]:
    with tarfile.open(shard, "r:") as archive:
        return {member.name: (member.offset_data, member.size) for member in archive if member.isfile()}
