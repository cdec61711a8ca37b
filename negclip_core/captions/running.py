"""Take many captions through their pipelines at once, as many as are to be under way, and write down each step."""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from negclip_core.captions.journal import Journal
from negclip_core.captions.steps import synthesize
from negclip_core.captions.synthesis import Roles, Task

__all__ = ["synthesize_all"]

_BREATH = 256  # tasks after which an interrupt is looked for where nothing is waited for


async def synthesize_all(
    tasks: Iterable[tuple[int, Task]],
    roles: Roles,
    journal: Journal,
    seed: int,
    concurrency: int,
    done: Callable[[int], object] = lambda _: None,
) -> None:
    """Bring every numbered task to its end in the journal; those that have one are passed over. `done(1)` is called after each.

    Tasks are taken from the iterable one at a time as others end, so memory does not grow with their number. Answers
    that are paid for are written down one by one.
    """
    feed = iter(tasks)
    workers = [asyncio.create_task(_work(feed, roles, journal, seed, done)) for _ in range(concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _work(
    feed: Iterator[tuple[int, Task]],
    roles: Roles,
    journal: Journal,
    seed: int,
    done: Callable[[int], object],
) -> None:
    for number, task in feed:
        if not journal.ended(number):
            journal.finish(number, task, await synthesize(task, roles, seed, journal.said(number)))
        done(1)
        if number % _BREATH == 0:
            await asyncio.sleep(0)
