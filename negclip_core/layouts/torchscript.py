"""OpenAI's own files are TorchScript archives: a zip of tensors, and of code that nobody needs to run to read them.

The archive's pickle is read by a reader that knows tensors, lists and nothing else; modules become their attributes.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["is_torchscript", "read_torchscript"]

_DTYPES = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64, "LongStorage": torch.int64, "IntStorage": torch.int32, "BoolStorage": torch.bool,
}  # fmt: skip
_LARGEST_PICKLE = 64 * 2**20  # bytes; those of OpenAI's archives have less than one
_LISTS = frozenset(
    {"build_intlist", "build_tensorlist", "build_doublelist", "build_boollist", "restore_type_tag"}
)


class _Module:
    """A module of the archive: its attributes and nothing else."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _as_is(value: Any, *_: Any) -> Any:
    return value


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)


class _Reader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        pickled = archive.getinfo(f"{root}/data.pkl")
        if pickled.file_size > _LARGEST_PICKLE:
            raise pickle.UnpicklingError("its pickle is larger than any CLIP's")
        super().__init__(archive.open(pickled))
        self._archive, self._root = archive, root
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Module
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch.jit._pickle" and name in _LISTS:
            return _as_is
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CLIP needs")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, count = pid
        if key not in self._storages:
            entry = self._archive.getinfo(f"{self._root}/data/{key}")
            # Stored as they are, so that a small file cannot claim to be a large one.
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != count * dtype.itemsize:
                raise pickle.UnpicklingError(f"tensor {key} is not as large as it is said to be")
            content = bytearray(self._archive.read(entry))
            self._storages[key] = (
                torch.frombuffer(content, dtype=dtype) if count else torch.empty(0, dtype=dtype)
            )
        return self._storages[key]


def _root(archive: zipfile.ZipFile) -> str | None:
    names = archive.namelist()
    root = names[0].split("/")[0] if names else ""
    return root if {f"{root}/data.pkl", f"{root}/constants.pkl"} <= set(names) else None


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return _root(archive) is not None


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The tensors that the modules of a TorchScript archive hold, by their dotted names.

    Raises:
        Exception: of whatever kind; the archive is damaged, or asks for more than tensors.
    """
    with zipfile.ZipFile(path) as archive:
        root = _root(archive)
        assert root is not None
        return dict(_named(_Reader(archive, root).load(), ""))


def _named(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _named(value, f"{prefix}{name}.")
