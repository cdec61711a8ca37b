"""Captions that say what is absent, by the paper's three pipelines (arXiv 2501.10913, section 3.2).

    P1       propose a thing that the caption does not mention but such an image is likely to hold
             -> verify in the image -> where it is absent, write that into the caption
    Rand-P1  the same with any thing at random
    P2       a question about the image that people answered "no" -> write the answer into a caption

Who proposes, verifies and writes is a protocol: annotations and phrasings, or an LLM and an MLLM. What they return may
be awaited, so that many captions are under way at once. Where the thing turns out to be present, a writer that costs
nothing still writes, and the text is kept as false (`present`): a caption that the image refutes.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from negclip_core.captions.phrasings import Negated

__all__ = [
    "PIPELINES",
    "Claim",
    "Claims",
    "Outcome",
    "Proposer",
    "Rejected",
    "Roles",
    "SecondLook",
    "Task",
    "Verifier",
    "Writer",
]

PIPELINES = ("p1", "rand-p1", "p2", "both", "all")  # "both": P1 and P2; "all": Rand-P1 as well


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


class SecondLook(Protocol):
    """Compares a written caption with the one that it was made from, and both with the image."""

    async def falls(self, image: Mapping[str, Any], caption: str, text: str) -> bool:
        """Whether `text` fits the image so much worse than `caption` that it is not to be used."""
        ...


@dataclass(frozen=True)
class Roles:
    """Who does what; `proposals` is how often another thing is proposed until one is absent.

    A thing is absent, or present, where all verifiers say so.
    """

    proposers: Mapping[str, Proposer]  # by pipeline
    verifiers: Mapping[str, Verifier]  # by what a journal knows their answers by; asked in this order
    writer: Writer
    proposals: int = 1
    second_look: SecondLook | None = None


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


@dataclass(frozen=True)
class Outcome:
    """What became of a task: an entry that is true ("absent") or false ("present") of its image, or a reason why not."""

    state: str  # "absent", "present" or "rejected"
    proposed: bool
    verified_absent: bool
    entry: dict[str, Any] | None = None
    reason: str = ""
