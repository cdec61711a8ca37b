"""`negclip eval --label`: a page on this machine to label a run's pictures by eye, one question at a time.

It answers only to 127.0.0.1 and localhost by name, so that no other site's page can read or write through it, and gives
out the run's pictures by number, never a path.
"""

import html
import io
import re
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from pipelines.console import warn

if TYPE_CHECKING:
    from eval.labelling import Sheet

__all__ = ["Server", "serve"]

_HOME = "127.0.0.1"
_ANSWERS = {"y": True, "n": False, "u": None}
_BUTTONS = (("y", "Yes"), ("n", "No"), ("u", "Unclear"))
_LONGEST = 1_000  # bytes of a form
_STYLE = """
:root{color-scheme:light dark;--ink:#1c1c1e;--paper:#fcfbf8;--faint:#6b6863;--rule:#d8d4ca}
@media (prefers-color-scheme:dark){:root{--ink:#e8e6e1;--paper:#191a1c;--faint:#a09c94;--rule:#3f4044}}
body{font:17px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:30rem;padding:0 1rem;color:var(--ink);background:var(--paper)}
h1{font-size:1.3rem;font-weight:600;margin:1rem 0}p{color:var(--faint)}
img{width:100%;max-height:60vh;object-fit:contain;image-rendering:pixelated;border-radius:6px;display:block}
form{display:flex;gap:.6rem}button{flex:1;font:inherit;color:inherit;padding:.7rem 0;border:1px solid var(--rule);border-radius:6px;
background:none;cursor:pointer}button:hover,.given{border-color:var(--ink)}a{color:inherit}kbd{font:.8em ui-monospace,monospace;color:var(--faint)}
"""
_KEYS = """
addEventListener("keydown", event => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return
  const key = {ArrowLeft: "b", Backspace: "b"}[event.key] || event.key.toLowerCase()
  const button = "ynub".includes(key) && document.getElementById(key)
  if (button) { event.preventDefault(); button.click() }
})
"""


class Server(ThreadingHTTPServer):
    """Serves a sheet on a free port of 127.0.0.1. In threads, because browsers hold a spare connection open."""

    daemon_threads = True

    def __init__(self, sheet: "Sheet") -> None:
        super().__init__((_HOME, 0), _Handler)
        self.sheet = sheet

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{_HOME}:{self.server_port}/"


def serve(folder: Path, limit: int | None, seed: int, quiet: bool) -> tuple[dict[str, Any], list[str]]:
    """Serve a run's pictures until the person is done; returns the JSON document and its lines.

    {"labels", "pictures", "questions", "answered"}. Raises RequestError as `eval.labelling.Sheet.of_run`.
    """
    from eval.labelling import Sheet

    sheet = Sheet.of_run(folder, limit, seed)
    with Server(sheet) as server:
        # Told even when quiet: nobody could find it otherwise.
        warn(
            f"{server.address} asks {len(sheet.questions)} questions; every answer is kept at once",
            quiet=False,
        )
        server.serve_forever()
    pictures = len({asked.key for asked in sheet.questions})
    document = {"labels": str(sheet.file.path), "pictures": pictures, "questions": len(sheet.questions),
                "answered": sheet.answered}  # fmt: skip
    done = f"{sheet.answered} of {len(sheet.questions)} questions answered; use them with --judge labels:{sheet.file.path}"
    return document, [done]


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        """The next open question, a question, its picture, or the end."""
        sheet = self.server.sheet
        if self._foreign():
            return
        if self.path == "/":
            self._go(sheet.next_open())
        elif self.path == "/done":
            self._page(_done(sheet))
        elif (number := self._number("question")) is not None:
            self._page(_asked(sheet, number))
        elif (number := self._number("picture")) is not None:
            self._send(_png(sheet.questions[number].image), "image/png")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """An answer, or that the person is done."""
        if self._foreign():
            return
        if self.path == "/done":
            self._page("<h1>Thank you. This page can be closed.</h1>")
            self.server.shutdown()
            return
        number, answer = self._number("question"), self._form().get("answer")
        if number is None or answer not in _ANSWERS:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        self.server.sheet.give(number, _ANSWERS[answer])
        self._go(self.server.sheet.next_open(number))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: standard error is for messages to the person."""

    def _foreign(self) -> bool:
        """Refuse what another site's page sends: under a name of its own (DNS rebinding), or with its own origin."""
        hosts = [f"{name}:{self.server.server_port}" for name in (_HOME, "localhost")]
        origin = self.headers.get("Origin")
        wrong = self.headers.get("Host") not in hosts or (
            origin is not None and origin not in [f"http://{host}" for host in hosts]
        )
        if wrong:
            self.send_error(HTTPStatus.FORBIDDEN)
        return wrong

    def _number(self, what: str) -> int | None:
        """N of "/question/N", if there is such a question."""
        found = re.fullmatch(rf"/{what}/([0-9]{{1,9}})", self.path)
        number = int(found[1]) if found else -1
        return number if 0 <= number < len(self.server.sheet.questions) else None

    def _form(self) -> dict[str, str]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _LONGEST:
            return {}
        body = self.rfile.read(int(length)).decode("utf-8", "replace")
        return {name: values[-1] for name, values in parse_qs(body).items()}

    def _go(self, number: int | None) -> None:
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", "/done" if number is None else f"/question/{number}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _page(self, body: str) -> None:
        nonce = secrets.token_urlsafe(16)
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>negclip eval --label</title>'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<link rel="icon" href="data:,"><style nonce="{nonce}">{_STYLE}</style>'
            f'{body}<script nonce="{nonce}">{_KEYS}</script></html>\n'
        )
        policy = (
            f"default-src 'none'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; "
            f"style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'"
        )
        self._send(page.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": policy})

    def _send(self, content: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(HTTPStatus.OK)
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store",
                   "X-Content-Type-Options": "nosniff", **(more or {})}  # fmt: skip
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _asked(sheet: "Sheet", number: int) -> str:
    asked, said = sheet.questions[number], sheet.said(number)
    buttons = "".join(
        f"<button id={key} name=answer value={key}{' class=given' if _ANSWERS[key] in said.values() else ''}>"
        f"{word} <kbd>{key}</kbd></button>"
        for key, word in _BUTTONS
    )
    back = f'<p><a id=b href="/question/{number - 1}">Back <kbd>b</kbd></a></p>' if number else ""
    return (
        f"<p>{sheet.answered} of {len(sheet.questions)} answered</p>"
        f'<img alt="a picture to label" src="/picture/{number}"><h1>{html.escape(asked.text)}</h1>'
        f"<form method=post>{buttons}</form>{back}"
    )


def _done(sheet: "Sheet") -> str:
    left = len(sheet.questions) - sheet.answered
    head = f"{left} questions are open." if left else f"All {len(sheet.questions)} questions are answered."
    return (
        f"<h1>{head}</h1><form method=post action=/done><button>Done</button></form>"
        f'<p><a id=b href="/question/{len(sheet.questions) - 1}">Back <kbd>b</kbd></a></p>'
    )


def _png(path: Path) -> bytes:
    """The picture by itself: its file's text names the arm."""
    from negclip_core.images import open_image

    buffer = io.BytesIO()
    open_image(path).save(buffer, format="PNG")
    return buffer.getvalue()
