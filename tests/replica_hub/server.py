"""Serve `root`/OWNER/NAME/... as the hub does, and fail as the hub and the way to it can.

What huggingface_hub asks for: `/api/models/OWNER/NAME[/revision/REV]`, `/api/models/OWNER/NAME/tree/REV/...`, and HEAD and
GET of `/OWNER/NAME/resolve/REV/PATH`, with ranges, so that a download that was cut goes on. Uploads are in `uploads.py`.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import ThreadingHTTPServer
from pathlib import Path
from shutil import copyfileobj
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from replica_hub.uploads import COMMIT, Uploads  # type: ignore[import-not-found]  # pytest puts tests/ on the path

__all__ = ["ReplicaHub", "serve"]

_PART = 1 << 20  # bytes


@cache
def _sum(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_PART):
            found.update(part)
    return found.hexdigest()


class ReplicaHub(ThreadingHTTPServer):
    """The server; `asked` are all requests so far, `gated` the repositories that ask for a token.

    `cut` names files, by the end of their path, whose first download breaks off half-way.
    """

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.asked: list[str] = []
        self.gated: set[str] = set()
        self.cut: set[str] = set()
        # Of uploads: tokens by what they may do, who may see a repository, one that others write to, large files by sum.
        self.writers, self.readers = {"hf_writer"}, {"hf_reader"}
        self.visibility: dict[str, str | None] = {}
        self.busy: set[str] = set()
        self.large: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(Uploads):
    server: ReplicaHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/.*)?", path):
            self._about(match[1], match[2] == "tree", body)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self._file(match[1], match[2], body)
        else:
            self._error(404, "RepoNotFound", "no such page")

    def _repository(self, name: str) -> Path | None:
        """Its folder, or None after the answer that it cannot be had."""
        folder = self.server.root / name
        if name in self.server.gated:
            self._error(401, "GatedRepo", f"Access to model {name} is restricted")
        elif not folder.is_dir():
            self._error(401, "RepoNotFound", "Repository not found")
        else:
            return folder
        return None

    def _about(self, name: str, tree: bool, body: bool) -> None:
        folder = self._repository(name)
        if folder is None:
            return
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in files]
        siblings = [{"rfilename": each} for each in names]
        rows = [{"type": "file", "path": each, "size": path.stat().st_size, "oid": _sum(path)[:40]}
                for each, path in zip(names, files, strict=True)]  # fmt: skip
        about = {
            "id": name,
            "modelId": name,
            "sha": COMMIT,
            "siblings": siblings,
            "tags": [],
            "private": False,
        }
        content = json.dumps(rows if tree else about).encode()
        self._headers(200, {"Content-Type": "application/json", "Content-Length": str(len(content))})
        if body:
            self.wfile.write(content)

    def _file(self, name: str, within: str, body: bool) -> None:
        folder = self._repository(name)
        if folder is None:
            return
        path = folder / within
        if not path.is_file():
            self._error(404, "EntryNotFound", "Entry not found")
            return
        size, start = path.stat().st_size, 0
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(asked[1])
        headers = {
            "ETag": f'"{_sum(path)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes",
            "Content-Length": str(size - start),
        }  # fmt: skip
        if start:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self._headers(206 if start else 200, headers)
        if not body:
            return
        broken = next((end for end in self.server.cut if within.endswith(end)), None)
        with path.open("rb") as file:
            if broken is not None:
                self.server.cut.discard(broken)
                self.wfile.write(file.read(size // 2))
                self.wfile.flush()
                self.connection.close()
                return
            file.seek(start)
            copyfileobj(file, self.wfile, _PART)

    def _error(self, status: int, code: str, message: str) -> None:
        # The commit tells the client that the file is missing from it for good, which it remembers.
        known = {"X-Repo-Commit": COMMIT} if code == "EntryNotFound" else {}
        self._headers(
            status, {"X-Error-Code": code, "X-Error-Message": message, "Content-Length": "0", **known}
        )

    def _headers(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serve(root: Path) -> Iterator[ReplicaHub]:
    """A running hub, until the end of the block."""
    server = ReplicaHub(root)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
