"""The page under load: N people who ask for pictures again and again for some minutes. Prints what became of them.

    python bench/web.py [N] [MINUTES]

Each asks for a pair of one step, waits for it, and asks again; who is told that the queue is full tries again after a
second. Half of them ask for pictures of a prompt that nobody else has.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2 as httpx
from scipy.stats import kendalltau

from pipelines.web.process import running

_STEPS = 1


@dataclass
class _Seen:
    """What became of the requests; times in seconds."""

    served: list[tuple[float, float, float]] = field(default_factory=list)  # joined, started, done
    refused: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


async def _ask(client: httpx.AsyncClient, function: int, prompt: str, seen: _Seen) -> None:
    session = uuid4().hex
    body = {
        "fn_index": function,
        "data": [prompt, 0, 1, _STEPS, 3.0, "encoder", True],
        "session_hash": session,
    }
    answer = await client.post("/gradio_api/queue/join", json=body)
    joined = started = time.monotonic()
    if answer.status_code != 200:
        seen.refused.append(answer.json()["detail"])
        await asyncio.sleep(1)
        return
    async with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as said:
        async for line in said.aiter_lines():
            message: dict[str, Any] = json.loads(line[5:]) if line.startswith("data:") else {"msg": ""}
            if message["msg"] == "process_starts":
                started = time.monotonic()
            if message["msg"] == "process_completed":
                if message["success"]:
                    seen.served.append((joined, started, time.monotonic()))
                else:
                    seen.errors.append(str(message["output"]))
                return
    seen.errors.append("the answer broke off")


async def _person(number: int, client: httpx.AsyncClient, function: int, seen: _Seen, end: float) -> None:
    prompt = f"a street with no cars {'and a dog ' * (number // 2 if number % 2 else 0)}"[:300]
    while time.monotonic() < end:
        try:
            await _ask(client, function, prompt, seen)
        except httpx.HTTPError as error:
            seen.errors.append(f"{type(error).__name__}: {error}")


async def _load(url: str, people: int, minutes: float) -> _Seen:
    seen, end = _Seen(), time.monotonic() + 60 * minutes
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        config = (await client.get("/config")).json()
        function = next(each["id"] for each in config["dependencies"] if each["api_name"] == "images")
        await asyncio.gather(*(_person(number, client, function, seen, end) for number in range(people)))
    return seen


def _memory(pid: int, name: str) -> float:
    """Of a process in MiB: VmRSS, what it holds now, or VmHWM, the most it ever held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def main(people: int, minutes: float) -> None:
    """Load a page and print the figures."""
    with running(["--device", "cpu"]) as page:
        before = _memory(page.pid, "VmRSS")
        seen = asyncio.run(_load(page.url, people, minutes))
        after, peak = _memory(page.pid, "VmRSS"), _memory(page.pid, "VmHWM")
        kept = sum(path.is_file() for path in Path(tempfile.gettempdir()).glob("negclip-web-*/files/*/*"))
    waits = [done - joined for joined, _, done in seen.served]
    order = kendalltau([joined for joined, _, _ in seen.served], [started for _, started, _ in seen.served])
    starts = sorted(range(len(waits)), key=lambda i: seen.served[i][1])
    arrivals = sorted(range(len(waits)), key=lambda i: seen.served[i][0])
    place = {who: number for number, who in enumerate(arrivals)}
    moved = max(abs(place[who] - number) for number, who in enumerate(starts))
    print(
        f"{people} people, {minutes:g} minutes, pairs of {_STEPS} step: {len(waits)} done, {len(seen.errors)} errors"
    )
    print(f"refused by the full queue: {len(seen.refused)} times {sorted(set(seen.refused))}")
    print(f"wait: median {statistics.median(waits):.1f} s, worst {max(waits):.1f} s")
    print(
        f"order of starts and of arrivals: Kendall's tau {order.statistic:.4f}, no request moved by more than {moved}"
    )
    print(
        f"resident memory: {before:.0f} MiB at start, {peak:.0f} at most, {after:.0f} at the end; {kept} files kept"
    )
    for error in sorted(set(seen.errors)):
        print(f"error: {error}")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 50, float(given[1]) if len(given) > 1 else 10)
