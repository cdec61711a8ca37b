"""Read tensors from a file that somebody gave, and run nothing of it.

A file may be safetensors, a state dict that `torch.save` wrote, a TorchScript archive, or the index of a checkpoint in
shards. What it is, its content says, never its name (but for the index, which is JSON and holds no tensor).
"""

import re
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from negclip_core.errors import RequestError, reason_of
from negclip_core.files import read_json, sha256_file
from negclip_core.layouts.torchscript import is_torchscript, read_torchscript

__all__ = ["INDEX", "fingerprint", "read_tensors", "shards_of", "within"]

INDEX = ".index.json"  # what transformers ends the name of a shards' index with


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, or of all the shards that an index names, on the CPU.

    Raises:
        RequestError: the file cannot be read as that without running code from it, or claims to hold more than it is
            large.
    """
    if path.name.endswith(INDEX):
        return _read_shards(path)
    if not path.is_file():  # a broken link, a folder; a pipe or a device would never end
        raise RequestError(f"{path}: no file that can be read; name a checkpoint's file or folder")
    try:
        tensors = _read(path)
    except Exception as error:  # readers raise dozens of kinds for a damaged file
        raise RequestError(
            f"{path}: cannot be read as safetensors or as a plain state dict ({_reason(error)}); "
            "what more than tensors is pickled is refused, save the state dict as safetensors"
        ) from error
    if isinstance(tensors, str):
        raise RequestError(f"{path}: expected a state dict, got {tensors}")
    # Strides of 0 can make terabytes of a few bytes; weights that are tied may well be there twice.
    if sum(tensor.numel() * tensor.itemsize for tensor in tensors.values()) > 2 * path.stat().st_size:
        raise RequestError(
            f"{path}: its tensors claim to be larger than the file; save the state dict as safetensors"
        )
    return tensors


def _reason(error: Exception) -> str:
    """Why a reader failed; of torch's unpickler what it found, not its advice to run the file's code."""
    found = re.search(r"WeightsUnpickler error: ([^\n]{1,160})", str(error))
    return f"{type(error).__name__}: {found[1].strip()}" if found else reason_of(error)


def _read(path: Path) -> dict[str, Tensor] | str:
    """The tensors, or the name of what is there instead."""
    with path.open("rb") as file:
        head = file.read(9)
    # A safetensors file is the length of its header, then the header, which is JSON.
    if len(head) == 9 and head[8:] == b"{":
        from safetensors.torch import load_file

        return load_file(path)
    if is_torchscript(path):
        return read_torchscript(path)
    if zipfile.is_zipfile(path):
        _refuse_bombs(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        return type(content).__name__ if content else "an empty one"
    return {str(k).removeprefix("module."): v for k, v in content.items() if isinstance(v, Tensor)}


def _refuse_bombs(path: Path) -> None:
    """PyTorch stores what it saves as it is: a small file that unpacks to a large one is none of its own."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    packed = [entry for entry in entries if entry.file_size != entry.compress_size]
    if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("it is a compressed archive, which PyTorch does not write")


def shards_of(index: Path) -> list[str]:
    """The names of the files that an index names. Raises RequestError where it is no index, or names no file beside it."""
    return sorted(set(_weight_map(index).values()))


def _weight_map(index: Path) -> dict[str, str]:
    """For each tensor the name of the file beside the index that holds it."""
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise RequestError(f"{index}: expected 'weight_map', from tensors to the files that hold them")
    for name in names.values():
        if Path(name).name != name or name.endswith(INDEX):
            raise RequestError(f"{index}: names a shard {name!r}, which is not a file beside it")
    return names


def _read_shards(index: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    names = _weight_map(index)
    there = {path.name for path in index.parent.iterdir()}  # asking for a name that cannot be one raises
    for shard in sorted(set(names.values())):
        if shard not in there:
            raise RequestError(
                f"{index}: names the shard {shard}, which is not there; fetch the whole folder"
            )
        tensors |= read_tensors(within(index.parent, index.parent / shard))
    missing = next((name for name in names if name not in tensors), None)
    if missing is not None:
        raise RequestError(f"{index}: says that a shard holds {missing}, and none does")
    return tensors


def fingerprint(path: Path) -> str:
    """SHA-256 of a file; of an index, that of the sums of its shards, in the order of their names."""
    if not path.name.endswith(INDEX):
        return sha256_file(path)
    sums = "".join(sha256_file(path.parent / name) for name in shards_of(path))
    return sha256(sums.encode()).hexdigest()


def within(folder: Path, file: Path) -> Path:
    """The file, if it lies in the folder, or as the hub's cache has it: linked to `blobs` beside `snapshots`.

    Raises:
        RequestError: it is a link to somewhere else, whose content a downloaded folder has no business to read.
    """
    target, home = file.resolve(), folder.resolve()
    cache = home.parent.parent / "blobs"
    if not target.is_relative_to(home) and not (
        home.parent.name == "snapshots" and target.is_relative_to(cache)
    ):
        raise RequestError(f"{file}: is a link out of its folder, to {target}; put the file itself there")
    return file
