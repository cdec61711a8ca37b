"""One caption's way through its pipeline: propose, verify, write, look again.

What is drawn at random depends on the seed, the task and the step alone, and what a role said is kept by its step. So a
task that is taken through again from its beginning asks nobody twice.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np

from negclip_core.captions.checks import denied
from negclip_core.captions.phrasings import Negated
from negclip_core.captions.synthesis import Claim, Claims, Outcome, Rejected, Roles, Task

__all__ = ["Said", "synthesize"]

_ASKED = 2  # times that a role is asked before a caption is given up
_T = TypeVar("_T")


class Said(Protocol):
    """What roles said of one task, as JSON: by the step, by who said it where several are asked, and by how often before."""

    def get(self, step: str, who: str, again: int) -> str | None:
        """The answer, or None where there has been none."""
        ...

    def keep(self, step: str, who: str, again: int, answer: str) -> None:
        """Keep an answer, so that it is not lost when the next is asked for."""
        ...


async def synthesize(task: Task, roles: Roles, seed: int, said: Said | None = None) -> Outcome:
    """Take a task to its end; with `said` from there on where an earlier attempt came to."""
    way = _Way(task, roles, seed, said)
    entry, state, reason = None, "rejected", ""
    try:
        if task.question:
            way.claims, way.truth = task.claims, (task.holds,) * max(1, len(task.claims))
        else:
            await way.find_absent()
        entry = await way.write()
        state = "absent" if "updated_caption" in entry else "present"
    except Rejected as rejected:
        reason = rejected.reason
    proposed = bool(way.claims) or (bool(task.question) and reason != "question not understood")
    whole = len(way.truth) >= max(1, len(way.claims))
    return Outcome(state, proposed, whole and set(way.truth) == {False}, entry, reason)


class _Way:
    """The steps of `synthesize`."""

    def __init__(self, task: Task, roles: Roles, seed: int, said: Said | None) -> None:
        self.task, self.roles, self.seed, self.said = task, roles, seed, said
        self.claims: Claims = ()
        self.truth: tuple[bool | None, ...] = ()  # of the claims verified so far
        self.disputed = False  # whether verifiers said yes and no of one of them
        self.proposals = 0

    async def find_absent(self) -> None:
        """Propose and verify, until all that was proposed is absent or there have been proposals enough."""
        tried: Claims = ()
        while further := await self._propose(tried):
            self.claims, self.truth, self.disputed = further, (), False
            self.proposals += 1
            for claim in further:
                await self._verify(claim)
            if set(self.truth) == {False} or self.proposals >= self.roles.proposals:
                return
            tried = (*tried, *further)
        if not self.claims:
            raise Rejected("nothing to propose")

    async def write(self) -> dict[str, Any]:
        """The entry of a captions file. Raises Rejected where there is nothing that could be said."""
        task, truth, claims = self.task, self.truth, self.claims
        if {label.lower() for label in task.image.get("held_out", ())} & {claim.label() for claim in claims}:
            raise Rejected("held out")
        if None in truth:
            raise Rejected("verifiers disagree" if self.disputed else "cannot be verified")
        if len(set(truth)) > 1:
            raise Rejected("one present, one absent")
        if truth[0] and not self.roles.writer.refutes:
            raise Rejected("present in the image")
        text = await self._ask("write", self._write, lambda kept: Negated(**kept) if kept else None)
        if text is None:
            raise Rejected("cannot be said in this caption")
        look = self.roles.second_look
        if look and not truth[0] and await look.falls(task.image, task.caption, text.text):
            raise Rejected("fits the picture less than the caption")
        return {
            "image_id": task.image["id"],
            "question_id" if task.question else "caption_id": task.key,
            "caption": task.caption,
            "absent": [claim.thing for claim in claims] or denied(text.text, task.caption),
            "of": claims[0].of if claims else "",
            "affirmative": text.affirmative,
            "asserted": text.asserted,
            "pipeline": task.pipeline,
            "negated" if truth[0] else "updated_caption": text.text,
        }

    def _write(self, rng: np.random.Generator) -> Negated | Awaitable[Negated | None] | None:
        task, writer = self.task, self.roles.writer
        if task.question:
            return writer.answer(task.image, task.caption, self.claims, rng, task.question)
        return writer.write(task.image, task.caption, self.claims, rng)

    async def _propose(self, tried: Claims) -> Claims:
        proposer, task = self.roles.proposers[self.task.pipeline], self.task
        return await self._ask(
            "propose",
            lambda rng: proposer.propose(task.image, task.caption, rng, tried),
            lambda kept: tuple(Claim(**claim) for claim in kept),
        )

    async def _verify(self, claim: Claim) -> None:
        """Ask one verifier after the other, as long as it matters what the next one says."""
        said: list[bool | None] = []
        for who, verifier in self.roles.verifiers.items():
            role = partial(verifier.present, self.task.image, claim)
            said.append(await self._ask("verify", role, lambda kept: kept, who))
            # What is present is only written about by a writer that costs nothing; then all are to say so as well.
            if said[-1] is None or said[-1] != said[0] or (said[-1] and not self.roles.writer.refutes):
                break
        self.disputed |= {True, False} <= set(said)
        self.truth = (*self.truth, said[0] if len(set(said)) == 1 else None)

    async def _ask(
        self,
        step: str,
        role: Callable[[np.random.Generator], _T | Awaitable[_T]],
        read: Callable[[Any], _T],
        who: str = "",
    ) -> _T:
        """What the role says, or said before, then as `read` from JSON; asked again where its answer is of no use."""
        step, reason = f"{step} {self.proposals} {len(self.truth)}", ""
        for again in range(_ASKED):
            if self.said and (kept := self.said.get(step, who, again)) is not None:
                answer = json.loads(kept)
                if not (isinstance(answer, dict) and "rejected" in answer):
                    return read(answer)
                reason = answer["rejected"]
                continue
            try:
                found = role(_generator(f"{self.seed} {self.task.pipeline} {self.task.key} {step} {again}"))
                said = await found if isinstance(found, Awaitable) else found
            except Rejected as rejected:
                if not rejected.again:
                    raise
                reason = rejected.reason
                self._keep(step, who, again, {"rejected": reason})
            else:
                self._keep(step, who, again, said)
                return said
        raise Rejected(reason)

    def _keep(self, step: str, who: str, again: int, answer: object) -> None:
        if self.said:
            self.said.keep(step, who, again, json.dumps(answer, ensure_ascii=False, default=_as_dict))


def _as_dict(answer: Any) -> dict[str, Any]:
    return asdict(answer)


class _Words(np.random.bit_generator.ISeedSequence):
    """A seed made of words: a quarter of the time that `np.random.default_rng` takes for a seed."""

    def __init__(self, words: str) -> None:
        self.digest = hashlib.blake2b(words.encode(), digest_size=64).digest()

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        return np.frombuffer(self.digest, dtype=dtype)[:n_words]


def _generator(words: str) -> np.random.Generator:
    # The stubs leave out that any ISeedSequence will do.
    return np.random.Generator(np.random.PCG64(_Words(words)))  # type: ignore[arg-type]
