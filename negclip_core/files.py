"""Files written whole or not at all, and what is recorded about them."""

import hashlib
import json
import os
import platform
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negclip_core.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "alone_in",
    "atomic_path",
    "atomic_write_bytes",
    "atomic_write_json",
    "atomic_write_text",
    "check_output_folder",
    "make_output_folder",
    "parse_json",
    "provenance",
    "read_json",
    "sha256_file",
    "sha256_folder",
    "write_safetensors",
]

_RECORDED = (
    "negclip",
    "torch",
    "transformers",
    "diffusers",
    "open_clip_torch",
    "safetensors",
    "numpy",
    "pillow",
)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # as JSON writes one
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it takes the place of `path` when the block ends well.

    The folder is made if need be. After an exception, or a kill, `path` is as it was before.
    """
    # A link keeps pointing where it points.
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept, because writers such as Pillow choose their format by it.
    temporary = target.with_name(f".{target.stem[:80]}.{secrets.token_hex(6)}{target.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def atomic_write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write `content` to `path` as UTF-8, whole or not at all."""
    atomic_write_bytes(path, content.encode("utf-8"))


def atomic_write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` to `path` as indented JSON, whole or not at all."""
    atomic_write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_safetensors(
    tensors: "Mapping[str, Tensor]", path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors to a file, whole or not at all. Raises OSError where it cannot be written, as on a full disk."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with atomic_path(path) as temporary:
            save_file(dict(tensors), temporary, metadata=None if metadata is None else dict(metadata))
    except SafetensorError as error:
        if found := re.search(r"os error (\d+)", str(error)):
            number = int(found[1])
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


@contextmanager
def alone_in(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Within the block, no other run that asks for it works in the folder. Raises RequestError where one does."""
    from filelock import FileLock, Timeout

    lock = FileLock(Path(folder, ".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RequestError(
            f"{folder}: another run is writing to it; wait for it, or choose another --out"
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_output_folder(folder: str | os.PathLike[str]) -> None:
    """Raise RequestError if `folder` is not, or cannot become, a folder that can be written to. Writes nothing."""
    path = Path(folder).absolute()
    existing = next(p for p in (path, *path.parents) if p.exists())
    if not existing.is_dir():
        raise RequestError(f"{folder}: {existing} is a file, not a folder; choose another output folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise RequestError(f"{folder}: {existing} cannot be written to; choose another output folder")


def make_output_folder(folder: str | os.PathLike[str]) -> Path:
    """Make `folder`, and make sure that a file can be put there.

    Raises:
        RequestError: it cannot be made or written to.
    """
    check_output_folder(folder)
    path = Path(folder)
    probe = path / f".{secrets.token_hex(6)}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise RequestError(
            f"{folder}: cannot be written to ({reason}); choose another output folder"
        ) from error
    return path


def parse_json(text: str) -> Any:
    """A JSON document. Halves of surrogate pairs, which nothing can write as UTF-8, become U+FFFD.

    Raises ValueError, or RecursionError for one that is nested without end.
    """
    document = json.loads(text)
    if _SURROGATE.search(text):
        whole = json.dumps(document, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
        document = json.loads(whole.decode("utf-16-le", "replace"))
    return document


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises RequestError where it is none."""
    try:
        document = parse_json(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path}: not JSON ({error})") from error
    if not isinstance(document, dict):
        raise RequestError(f"{path}: expected a JSON object, got {type(document).__name__}")
    return document


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    # The hub's cache names a large file by this very sum, which spares reading gigabytes again.
    real = Path(os.path.realpath(path))
    if real.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", real.name):
        return real.name
    with real.open("rb") as file:
        return _sha256(iter(lambda: file.read(1 << 20), b""))


def sha256_folder(folder: str | os.PathLike[str]) -> str:
    """SHA-256 of the names and sums of a model folder's weights and JSON files, at any depth."""
    root = Path(folder)
    kept = sorted(p for p in root.rglob("*") if p.suffix in {*_WEIGHTS, ".json"} and p.is_file())
    return _sha256(f"{p.relative_to(root).as_posix()} {sha256_file(p)}\n".encode() for p in kept)


def _sha256(parts: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def provenance() -> dict[str, str]:
    """What made an artifact: Python, the platform and the versions of the packages that matter."""
    made_by = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for name in _RECORDED:
        try:
            made_by[name] = version(name)
        except PackageNotFoundError:
            continue
    return made_by
