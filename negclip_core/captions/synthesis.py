"""Captions that say what is absent, by the paper's three pipelines (arXiv 2501.10913, section 3.2).

    P1       propose a thing that the caption does not mention but such an image is likely to hold
             -> verify in the image -> where it is absent, write that into the caption
    Rand-P1  the same with any thing at random
    P2       a question about the image that people answered "no" -> write the answer into a caption

Who proposes, verifies and writes is a protocol: annotations and phrasings, or an LLM and an MLLM. What they return may
be awaited, so that many captions are under way at once. Where the thing turns out to be present, a writer that costs
nothing still writes, and the text is kept as false (`present`): a caption that the image refutes.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from negclip_core.captions.checks import denied
from negclip_core.captions.phrasings import Negated

__all__ = [
    "PIPELINES",
    "Claim",
    "Claims",
    "Outcome",
    "Progress",
    "Proposer",
    "Rejected",
    "Roles",
    "Task",
    "Verifier",
    "Writer",
    "synthesize",
]

PIPELINES = ("p1", "rand-p1", "p2", "both", "all")  # "both": P1 and P2; "all": Rand-P1 as well
_ASKED = 2  # times that a role is asked before a caption is given up
_T = TypeVar("_T")


@dataclass(frozen=True)
class Claim:
    """Something that an image may hold: a thing ("car"), or what a thing `of` has ("hat" of "man", "red" of "car").

    `how` is "there", "worn", "coloured" or "occupied" (then `thing` is "person", and `of` the seat).
    """

    thing: str
    of: str = ""
    how: str = "there"

    def label(self) -> str:
        """ "car", "man with hat": as `held_out` in a captions file names what must not be called absent."""
        return f"{self.of} with {self.thing}" if self.how == "worn" else self.thing


Claims = tuple[Claim, ...]


class Rejected(Exception):
    """Nothing is written for a caption, for this reason; `again` where another answer may be of use."""

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.again = reason, again


class Proposer(Protocol):
    """Names things that a caption leaves open."""

    def propose(
        self, image: Mapping[str, Any], caption: str, rng: np.random.Generator, tried: Claims = ()
    ) -> Claims | Awaitable[Claims]:
        """One claim, or two to deny together, that the caption does not mention; none where nothing comes to mind.

        `tried` have been proposed before, in vain.
        """
        ...


class Verifier(Protocol):
    """Looks at the image."""

    def present(
        self, image: Mapping[str, Any], claim: Claim, rng: np.random.Generator
    ) -> bool | Awaitable[bool | None] | None:
        """Whether the claim holds of the image; None where that cannot be said."""
        ...


class Writer(Protocol):
    """Writes an absence into a caption."""

    refutes: bool  # whether it is also to write what the image refutes

    def write(
        self, image: Mapping[str, Any], caption: str, claims: Claims, rng: np.random.Generator
    ) -> Negated | Awaitable[Negated | None] | None:
        """The caption with the claims denied, and its counterparts; None where it cannot be said."""
        ...

    def answer(
        self, image: Mapping[str, Any], caption: str, claims: Claims, rng: np.random.Generator, question: str
    ) -> Negated | Awaitable[Negated | None] | None:
        """As `write`, for the answer "no" to a question; `claims` is what it asks, none where that is not understood."""
        ...


@dataclass(frozen=True)
class Roles:
    """Who does what; `proposals` is how often another thing is proposed until one is absent."""

    proposers: Mapping[str, Proposer]  # by pipeline
    verifier: Verifier
    writer: Writer
    proposals: int = 1


@dataclass(frozen=True)
class Task:
    """One caption on its way through one pipeline; `key` is its caption's or its question's id."""

    pipeline: str
    key: int | str
    image: Mapping[str, Any]
    caption: str
    question: str = ""  # P2's
    claims: Claims = ()  # what it asks
    holds: bool = False  # whether people said so


@dataclass
class Progress:
    """How far a task has come: all that must not be asked again."""

    claims: Claims | None = None
    truth: tuple[bool | None, ...] = ()  # of the claims verified so far
    tried: Claims = ()  # claims of earlier proposals
    proposals: int = 0
    unused: int = 0  # answers in a row that were of no use

    def as_json(self) -> dict[str, Any]:
        """For a journal; `read` is its inverse."""
        return asdict(self)

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> "Progress":
        """What `as_json` gave."""

        def claims(entries: Any) -> Claims:
            return tuple(Claim(**entry) for entry in entries)

        given = None if kept["claims"] is None else claims(kept["claims"])
        return cls(given, tuple(kept["truth"]), claims(kept["tried"]), kept["proposals"], kept["unused"])


@dataclass(frozen=True)
class Outcome:
    """What became of a task: an entry that is true ("absent") or false ("present") of its image, or a reason why not."""

    state: str  # "absent", "present" or "rejected"
    proposed: bool
    verified_absent: bool
    entry: dict[str, Any] | None = None
    reason: str = ""


Keep = Callable[[Progress], None]


async def synthesize(
    task: Task, progress: Progress, roles: Roles, seed: int, keep: Keep | None = None
) -> Outcome:
    """Take a task from where it stands to its end; `keep` is called with each step that must not be lost.

    What is drawn at random depends on the seed, the task and the step alone: not on other tasks, nor on interruptions.
    """
    run = _Run(task, progress, roles, seed, keep or (lambda _: None))
    entry, state, reason = None, "rejected", ""
    try:
        if task.question:
            progress.claims, progress.truth = task.claims, (task.holds,) * max(1, len(task.claims))
        else:
            await run.find_absent()
        entry = await run.write()
        state = "absent" if "updated_caption" in entry else "present"
    except Rejected as rejected:
        reason = rejected.reason
    proposed = bool(progress.claims) or (bool(task.question) and reason != "question not understood")
    whole = len(progress.truth) >= len(progress.claims or (None,))
    return Outcome(state, proposed, whole and set(progress.truth) == {False}, entry, reason)


class _Run:
    """The steps of `synthesize`."""

    def __init__(self, task: Task, progress: Progress, roles: Roles, seed: int, keep: Keep) -> None:
        self.task, self.progress, self.roles, self.seed, self.keep = task, progress, roles, seed, keep

    async def find_absent(self) -> None:
        """Propose and verify, until all that was proposed is absent or there have been proposals enough."""
        progress = self.progress
        if progress.claims is None:
            self._next(await self._propose(()))
        while True:
            claims = progress.claims or ()
            if not claims:
                raise Rejected("nothing to propose")
            for claim in claims[len(progress.truth) :]:
                await self._verify(claim)
            if set(progress.truth) == {False} or progress.proposals >= self.roles.proposals:
                return
            further = await self._propose((*progress.tried, *claims))
            if not further:
                return
            progress.tried = (*progress.tried, *claims)
            self._next(further)

    async def write(self) -> dict[str, Any]:
        """The entry of a captions file. Raises Rejected where there is nothing that could be said."""
        task, truth, writer = self.task, self.progress.truth, self.roles.writer
        claims = self.progress.claims or ()
        if set(task.image.get("held_out", ())) & {claim.label() for claim in claims}:
            raise Rejected("held out")
        if None in truth:
            raise Rejected("cannot be verified")
        if len(set(truth)) > 1:
            raise Rejected("one present, one absent")
        if truth[0] and not writer.refutes:
            raise Rejected("present in the image")

        def role(rng: np.random.Generator) -> Negated | Awaitable[Negated | None] | None:
            if task.question:
                return writer.answer(task.image, task.caption, claims, rng, task.question)
            return writer.write(task.image, task.caption, claims, rng)

        text = await self._ask("write", role)
        if text is None:
            raise Rejected("cannot be said in this caption")
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

    def _next(self, claims: Claims) -> None:
        progress = self.progress
        progress.claims, progress.truth, progress.proposals = claims, (), progress.proposals + 1
        self.keep(progress)

    async def _propose(self, tried: Claims) -> Claims:
        proposer, task = self.roles.proposers[self.task.pipeline], self.task
        return await self._ask("propose", lambda rng: proposer.propose(task.image, task.caption, rng, tried))

    async def _verify(self, claim: Claim) -> None:
        verifier, image = self.roles.verifier, self.task.image
        held = await self._ask("verify", lambda rng: verifier.present(image, claim, rng))
        self.progress.truth = (*self.progress.truth, held)
        self.keep(self.progress)

    async def _ask(self, step: str, role: Callable[[np.random.Generator], _T | Awaitable[_T]]) -> _T:
        """What the role says, asked again where its answer is of no use."""
        progress, task = self.progress, self.task
        while True:
            where = f"{task.pipeline} {task.key} {step} {progress.proposals} {len(progress.truth)} {progress.unused}"
            try:
                found = role(_generator(f"{self.seed} {where}"))
                answer = await found if isinstance(found, Awaitable) else found
            except Rejected as rejected:
                progress.unused += 1
                if not rejected.again or progress.unused >= _ASKED:
                    raise
                self.keep(progress)
            else:
                progress.unused = 0
                return answer


class _Words(np.random.bit_generator.ISeedSequence):
    """A seed made of words: a quarter of the time that `np.random.default_rng` takes for a seed."""

    def __init__(self, words: str) -> None:
        self.digest = hashlib.blake2b(words.encode(), digest_size=64).digest()

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        return np.frombuffer(self.digest, dtype=dtype)[:n_words]


def _generator(words: str) -> np.random.Generator:
    # The stubs leave out that any ISeedSequence will do.
    return np.random.Generator(np.random.PCG64(_Words(words)))  # type: ignore[arg-type]
