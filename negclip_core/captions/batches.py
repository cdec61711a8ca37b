"""Questions that wait at the same time, answered together by a model on this machine; equal ones are answered once."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import Generic, TypeVar

from negclip_core.errors import UnfinishedWork, reason_of

__all__ = ["Batches"]

_KEPT = 4096  # answers
_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")


class Batches(Generic[_Question, _Answer]):
    """Asks `answer`, which takes at most `size` questions, in a thread. Used with `async with`.

    `name` is what messages call the model.
    """

    def __init__(self, name: str, answer: Callable[[list[_Question]], Sequence[_Answer]], size: int) -> None:
        self.name, self.answer, self.size = name, answer, size
        self._waiting: asyncio.Queue[tuple[_Question, asyncio.Future[_Answer]]] = asyncio.Queue()
        self._answers: OrderedDict[Hashable, asyncio.Future[_Answer]] = OrderedDict()
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Batches[_Question, _Answer]":
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._worker is not None
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)

    async def ask(self, key: Hashable, question: _Question) -> _Answer:
        """The answer to a question, which `key` stands for.

        Raises UnfinishedWork where the model fails, for want of memory for example.
        """
        if key not in self._answers:
            self._answers[key] = asyncio.get_running_loop().create_future()
            self._waiting.put_nowait((question, self._answers[key]))
            if len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
        self._answers.move_to_end(key)
        # Several may wait for one answer; none of them, when cancelled, takes it from the others.
        return await asyncio.shield(self._answers[key])

    async def _work(self) -> None:
        while True:
            group = [await self._waiting.get()]
            await asyncio.sleep(0)  # so that all who are about to ask have asked
            while len(group) < self.size and not self._waiting.empty():
                group.append(self._waiting.get_nowait())
            try:
                found = await asyncio.to_thread(self.answer, [question for question, _ in group])
            except Exception as error:  # torch and transformers raise many kinds; who waits is to be told
                for _, answer in group:
                    answer.set_exception(self._failure(error))
                    answer.exception()  # seen, even where nobody waits any more
            else:
                for (_, answer), value in zip(group, found, strict=True):
                    answer.set_result(value)

    def _failure(self, error: Exception) -> UnfinishedWork:
        import torch

        advice = "the same command goes on"
        if isinstance(error, torch.OutOfMemoryError):
            advice += ", with a smaller --concurrency for example"
        return UnfinishedWork(f"{self.name}: failed ({reason_of(error)}); {advice}")
