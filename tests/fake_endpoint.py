"""A fake OpenAI-compatible endpoint with the manners of real ones, as a process of its own.

    python tests/fake_endpoint.py [--latency S] [--faults SHARE [--kinds A,B]] [--seed N] [--instances F --images DIR] [--status CODE]

It prints its address and serves until it is stopped. Answers come after the latency; a share of them are faults: 429 with
Retry-After, 500, a stream cut in the middle, a body or a message that is not the JSON asked for, a refusal, a bad text.
What it says depends on the seed and the request, whether it fails also on how often that came; nothing on time or order.
With instances it sees in pictures what they say. `GET /stats` tells what it billed: each answer that it made, also where the stream was cut.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

FAULTS = ("429", "500", "cut", "body", "message", "refusal", "text")
THINGS = ("person", "car", "dog", "chair", "tree", "cup", "bench", "umbrella", "backpack", "clock", "bird", "fence", "bottle",
          "bicycle", "truck", "book", "cat", "lamp", "potted plant", "handbag")  # fmt: skip
WRITTEN = ("{base} with no {thing}.", "{base}, without a {thing}.", "{base}, but no {thing} can be seen.",
           "{base} and there is no {thing}.")  # fmt: skip
BAD = ("{base}.", "{base} with no zebras.", "There is no {thing}.", "{base} with a {thing}.")


class FakeEndpoint:
    """See the module."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.seen: Counter[str] = Counter()  # by request
        self.delivered: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()  # by what came of them
        self.open = self.most_open = 0
        self.shown = _shown(options.instances, options.images) if options.instances else {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests, until it closes."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                length = int((re.search(r"content-length: *(\d+)", head, re.I) or [0, 0])[1])
                body = await reader.readexactly(length)
                path = head.split(" ", 2)[1]
                if path.endswith("/stats"):
                    await _send(writer, 200, self.stats())
                elif path.endswith("/models"):
                    await _send(writer, 200, {"data": [{"id": "fake"}]})
                elif not await self._complete(writer, body):
                    break
        writer.close()

    def stats(self) -> dict[str, Any]:
        """What was called and billed so far; `delivered_again` counts whole answers to a request that had one before."""
        again = sum(count - 1 for count in self.delivered.values())
        return {"calls": dict(self.calls), "billed": sum(self.calls[n] for n in self.calls if n not in ("429", "500")),
                "delivered": self.delivered.total(), "delivered_again": again, "most_open": self.most_open}  # fmt: skip

    async def _complete(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        """Answer a chat completion; False where the connection is to be closed."""
        key = hashlib.sha256(body).hexdigest()
        self.seen[key] += 1
        chance = _chance(f"{self.options.seed} {key} {self.seen[key]}")
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await asyncio.sleep(self.options.latency * (0.8 + 0.4 * next(chance)))
        self.open -= 1
        if self.options.status:
            await _send(writer, self.options.status, {"error": {"message": "the fake says no"}})
            return True
        kinds = self.options.kinds.split(",")
        fault = kinds[int(next(chance) * len(kinds))] if next(chance) < self.options.faults else ""
        self.calls[fault or "good"] += 1
        if fault in ("429", "500"):
            await _send(
                writer,
                int(fault),
                {"error": {"message": "too busy"}},
                "Retry-After: 0.05\r\n" * (fault == "429"),
            )
            return True
        request, said = json.loads(body), next(_chance(f"{self.options.seed} {key}"))
        try:
            content = self._content(request, fault, said)
        except LookupError:
            # Told in one line, where a lost connection would be tried again for minutes.
            await _send(writer, 400, {"error": {"message": "the fake does not know what it is asked"}})
            return True
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if fault == "refusal" and next(chance) < 0.5:
            message = {"role": "assistant", "content": None, "refusal": "I can't help with that."}
        document = {"object": "chat.completion", "model": request["model"],
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}  # fmt: skip
        if fault == "cut":
            await _send(writer, 200, document, cut=True)
            return False
        await _send(writer, 200, document, spoiled=fault == "body")
        self.delivered[key] += fault != "body"
        return True

    def _content(self, request: dict[str, Any], fault: str, chance: float) -> str:
        content = request["messages"][-1]["content"]
        picture = ""
        if isinstance(content, list):
            picture, content = content[0]["image_url"]["url"], content[1]["text"]
        key = re.findall(r'Answer as \{"(\w+)"', content)[0]
        if fault == "refusal":
            return "I'm sorry, but I can't help with that."
        if fault == "message":
            return f'Sure! Here it is: {{"{key}": "tree'
        said = {"object": _propose, "present": self._look, "caption": _write}[key](
            content, picture, chance, fault
        )
        return json.dumps({key: said})

    def _look(self, text: str, picture: str, chance: float, fault: str) -> str:
        asked = r"(?:any|an?) (.*) in the (?:image|picture)|wear or hold (?:an? )?(.*)\?|Is the .* in the image (\w+)\?"
        thing = _last(asked, text)
        kinds = self.shown.get(hashlib.sha256(picture.encode()).hexdigest())
        if kinds is None:
            return ("no", "no", "no", "yes", "unsure")[int(chance * 5)]
        return "yes" if thing in kinds else "no"


def _propose(text: str, picture: str, chance: float, fault: str) -> str:
    return THINGS[int(chance * len(THINGS))]


def _write(text: str, picture: str, chance: float, fault: str) -> str:
    question = re.findall(r"^Question: .*?(\w+)\?$", text, re.MULTILINE)
    thing = question[-1] if question else _last(r"^Absent: (.*)$", text)
    choices = BAD if fault == "text" else WRITTEN
    base = _last(r"^Caption: (.*)$", text).strip().rstrip(".")
    return choices[int(chance * len(choices))].format(base=base, thing=thing)


def _last(pattern: str, text: str) -> str:
    found = re.findall(pattern, text, re.MULTILINE)[-1]
    return found if isinstance(found, str) else "".join(found)


def _chance(words: str) -> Any:
    """Numbers in [0, 1) that depend on the words alone."""
    digest = hashlib.sha256(words.encode()).digest()
    return (int.from_bytes(digest[n : n + 4], "big") / 2**32 for n in range(0, 32, 4))


def _shown(instances: Path, images: Path) -> dict[str, set[str]]:
    """What each picture holds, by the digest of what is sent of it."""
    from negclip_core.captions.language_models import picture_url

    document = json.loads(instances.read_text("utf-8"))
    names = {entry["id"]: entry["name"] for entry in document["categories"]}
    kinds: dict[int, set[str]] = {image["id"]: set() for image in document["images"]}
    for entry in document["annotations"]:
        kinds[entry["image_id"]].add(names[entry["category_id"]])
    return {
        hashlib.sha256(picture_url(images, image["file_name"]).encode()).hexdigest(): kinds[image["id"]]
        for image in document["images"]
    }


async def _send(writer: asyncio.StreamWriter, status: int, document: Any, header: str = "", *,
                cut: bool = False, spoiled: bool = False) -> None:  # fmt: skip
    body = json.dumps(document).encode()
    if spoiled:
        body = body[: len(body) // 2]
    head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{header}\r\n"
    writer.write(head.encode() + (body[: len(body) // 2] if cut else body))
    await writer.drain()


async def main(options: argparse.Namespace) -> None:
    """Serve on a free port of this machine."""
    server = await asyncio.start_server(FakeEndpoint(options).serve, "127.0.0.1", 0, backlog=512)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--kinds", default=",".join(FAULTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--status", type=int, default=0)
    parser.add_argument("--instances", type=Path)
    parser.add_argument("--images", type=Path)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(parser.parse_args()))
