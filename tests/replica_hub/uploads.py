"""What huggingface_hub's upload asks for: create a repository, say how each file goes, large files aside, one commit."""

import base64
import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

__all__ = ["Uploads"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_NAME = r"([^/]+/[^/]+)"


class Uploads(BaseHTTPRequestHandler):
    """The part of the hub that takes files; `server.writers` are tokens that may write, `server.readers` those that may not."""

    server: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(f"POST {self.path}")
        if self.path == "/api/validate-yaml":
            self._say(200, {"errors": [], "warnings": []})
        elif not self._may_write():
            return
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif match := re.fullmatch(rf"/api/models/{_NAME}/preupload/main", self.path):
            self._modes(json.loads(body))
        elif match := re.fullmatch(rf"/{_NAME}\.git/info/lfs/objects/batch", self.path):
            self._places(json.loads(body))
        elif match := re.fullmatch(rf"/api/models/{_NAME}/commit/main", self.path):
            self._commit(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._say(404, {"error": f"no such page: {self.path}"})

    def do_PUT(self) -> None:
        self.server.asked.append(f"PUT {self.path}")
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.large[self.path.removeprefix("/large/")] = content
        self._say(200, {})

    def _may_write(self) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token in self.server.writers:
            return True
        known = token in self.server.readers
        self._say(403 if known else 401, {"error": "Forbidden" if known else "Invalid username or password."})
        return False

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        self.server.visibility.setdefault(name, asked.get("visibility"))
        folder: Path = self.server.root / name
        there = folder.is_dir()
        folder.mkdir(parents=True, exist_ok=True)
        self._say(409 if there else 200, {"url": f"{self.server.url}/{name}"})

    def _modes(self, asked: dict[str, Any]) -> None:
        rows = [{"path": file["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular"}
                for file in asked["files"]]  # fmt: skip
        self._say(200, {"files": rows})

    def _places(self, asked: dict[str, Any]) -> None:
        rows = [{**each, "actions": {"upload": {"href": f"{self.server.url}/large/{each['oid']}"}}}
                for each in asked["objects"]]  # fmt: skip
        self._say(200, {"transfer": "basic", "objects": rows}, "application/vnd.git-lfs+json")

    def _commit(self, name: str, rows: list[dict[str, Any]]) -> None:
        if name in self.server.busy:
            self._say(412, {"error": "A commit has happened since."})
            return
        for row in rows:
            value, folder = row["value"], self.server.root / name
            if row["key"] == "file":
                (folder / value["path"]).write_bytes(base64.b64decode(value["content"]))
            elif row["key"] == "lfsFile":
                (folder / value["path"]).write_bytes(self.server.large[value["oid"]])
        self._say(200, {"commitUrl": f"{self.server.url}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

    def _say(self, status: int, document: Any, kind: str = "application/json") -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
