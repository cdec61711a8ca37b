"""A language model behind an OpenAI-compatible endpoint: vLLM, llama.cpp, Ollama, or a service.

What passes is tried again with growing pauses: lost connections, timeouts, 408, 409, 429 and 5xx. What does not, such
as a wrong key or a model that is not there, ends the run with one line.
"""

import asyncio
import json
import os
import random
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from negclip_core.captions.prompts import Prompt
from negclip_core.captions.synthesis import Rejected
from negclip_core.errors import RequestError, UnfinishedWork

if TYPE_CHECKING:
    import httpx2

__all__ = ["Endpoint", "asked_pause_s"]

_LANE = 8  # connections of one client: httpx looks at all of a client's at each call
_PASSING = frozenset({408, 409, 429})  # and 500 and above
_LARGEST = 16 * 2**20  # bytes of an answer
_LONGEST_PAUSE_S = 60.0  # of ours
_LONGEST_ASKED_S = 600.0  # of an endpoint's


@dataclass
class Endpoint:
    """One model at `URL` or `URL#model`, such as "http://127.0.0.1:8000/v1#llama-3-8b-instruct"; used with `async with`.

    Without a model's name the endpoint is asked for it, which works where it serves one alone. A key is taken from the
    environment variable OPENAI_API_KEY. `connections` bounds how many are open at once.
    """

    name: str
    connections: int = 64
    tries: int = 9
    pause_s: float = 0.5  # before the second try; twice as long before each further one
    timeout_s: float = 120.0  # without a byte
    model: str = field(init=False, default="")
    # For each call that may be open, who makes it.
    _free: "asyncio.LifoQueue[httpx2.AsyncClient]" = field(
        init=False, repr=False, default_factory=asyncio.LifoQueue
    )
    _closing: AsyncExitStack = field(init=False, repr=False, default_factory=AsyncExitStack)
    _open_at: float = field(init=False, default=0.0)  # the loop's time before which nothing is sent
    _answered: int = field(init=False, default=0)

    async def __aenter__(self) -> "Endpoint":
        """Raises RequestError for an address that is none, and what `ask` raises where the model must be asked for."""
        import httpx2

        url, _, self.model = self.name.partition("#")
        if not url.startswith(("http://", "https://")):
            raise RequestError(f"{self.name}: expected http://HOST:PORT/v1, or the same with #MODEL")
        key = os.environ.get("OPENAI_API_KEY")
        if key and not (key.isascii() and key.isprintable()):
            raise RequestError("OPENAI_API_KEY: holds what no key can, a line break perhaps; set it again")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        context = httpx2.create_ssl_context() if url.startswith("https") else False
        for start in range(0, self.connections, _LANE):
            size = min(_LANE, self.connections - start)
            limits = httpx2.Limits(max_connections=size, max_keepalive_connections=size)
            try:
                client = httpx2.AsyncClient(base_url=url.rstrip("/"), headers=headers, timeout=self.timeout_s,
                                            limits=limits, verify=context)  # fmt: skip
            except (httpx2.InvalidURL, UnicodeError) as error:
                raise RequestError(f"{self.name}: no address that can be called ({error})") from error
            await self._closing.enter_async_context(client)
            for _ in range(size):
                self._free.put_nowait(client)
        try:
            self.model = self.model or await self._only_model()
        except BaseException:
            await self._closing.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    async def _only_model(self) -> str:
        listed = await self._send("GET", "/models", None)
        try:
            names = [entry["id"] for entry in listed["data"]]
        except (KeyError, TypeError):
            names = []
        if len(names) != 1:
            offered = f" of {', '.join(map(str, names[:8]))}" if names else ""
            raise RequestError(f"{self.name}: name the model{offered}: {self.name}#MODEL")
        return str(names[0])

    async def ask(self, prompt: Prompt, words: Mapping[str, str], seed: int, picture: str = "") -> str:
        """The model's answer to a prompt.

        Raises:
            Rejected: the answer is not what was asked for; or this one call fails while others succeed.
            RequestError: the endpoint does not take such calls.
            UnfinishedWork: the endpoint does not answer any more.
        """
        body = {
            "model": self.model,
            "messages": prompt.messages(words, picture),
            "seed": seed,
            "response_format": {"type": "json_object"},
            **prompt.settings,
        }
        answer = await self._send("POST", "/chat/completions", body)
        try:
            choice = answer["choices"][0]
            message = choice["message"]
            content, refusal = message.get("content"), message.get("refusal")
            ended = choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise Rejected("malformed answer", again=True) from error
        if refusal or ended == "content_filter":
            raise Rejected("refused", again=True)
        if not isinstance(content, str):
            raise Rejected("malformed answer", again=True)
        return prompt.read(content)

    async def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        """The JSON document that a call brings, tried again where it fails in passing."""
        import httpx2

        before, why = self._answered, ""
        for number in range(self.tries):
            await self._pause(number)
            client = await self._free.get()
            try:
                async with client.stream(method, path, json=body) as response:
                    content = await _whole(response)
                if response.status_code == 200:
                    document = json.loads(content)
                    self._answered += 1
                    return document
            except (httpx2.RequestError, ValueError, RecursionError) as error:
                if isinstance(error, httpx2.ConnectError) and not self._answered:
                    raise RequestError(
                        f"{self.name}: cannot be reached ({error}); start it, or check the address"
                    ) from error
                why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                continue
            finally:
                self._free.put_nowait(client)
            why = f"{response.status_code}: {_message(content)}"
            if response.status_code not in _PASSING and response.status_code < 500:
                raise RequestError(
                    f"{self.name}: {path} answered {why}; check the address, the model's name and OPENAI_API_KEY"
                )
            self._open_at = max(self._open_at, _now() + asked_pause_s(response.headers.get("retry-after")))
        if self._answered > before:
            raise Rejected("endpoint failed")
        raise UnfinishedWork(
            f"{self.name}: no answer after {self.tries} tries ({why}); once it is back, the same command goes on"
        )

    async def _pause(self, number: int) -> None:
        """Wait until the endpoint wants to be asked, and before a further try a while longer, no two calls alike."""
        jitter = random.uniform(0.5, 1.0)
        wait = self.pause_s * 2 ** (number - 1) * jitter if number else 0.0
        while (closed := self._open_at - _now()) > 0:
            await asyncio.sleep(closed + self.pause_s * jitter)
        if wait:
            await asyncio.sleep(min(wait, _LONGEST_PAUSE_S))


async def _whole(response: "httpx2.Response") -> bytes:
    """An answer's body. Raises ValueError for one that is larger than any answer is."""
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > _LARGEST:
            raise ValueError(f"the answer is larger than {_LARGEST >> 20} MiB")
    return bytes(content)


def _now() -> float:
    return asyncio.get_running_loop().time()


def asked_pause_s(header: str | None) -> float:
    """Seconds that a Retry-After header asks for: a number of them, or a date."""
    if not header:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(timezone.utc)).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return min(max(seconds, 0.0), _LONGEST_ASKED_S)


def _message(content: bytes) -> str:
    """What an endpoint says went wrong, as a part of one line."""
    text = content.decode("utf-8", "replace")
    try:
        document = json.loads(text)
        error = document.get("error", document)
        found = error.get("message", error) if isinstance(error, dict) else error
    except (ValueError, AttributeError, RecursionError):
        found = text
    said = " ".join(str(found).split())
    if key := os.environ.get("OPENAI_API_KEY"):
        said = said.replace(key, "(the key)")
    return said[:160] or "no reason given"
