"""Captions that say what is absent, by the paper's three pipelines (arXiv 2501.10913, section 3.2).

    P1       propose a thing that the caption does not mention but such an image is likely to hold
             -> verify in the image -> where it is absent, write that into the caption
    Rand-P1  the same with any thing at random
    P2       a question about the image that people answered "no" -> write the answer into a caption

Who proposes, verifies and writes is a protocol: the drawn world's annotations and phrasings, or an LLM and an MLLM.
Where the thing turns out to be present, the same text is kept as false (`present`): a caption that the image refutes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from negclip_core.captions.phrasings import Negated

__all__ = [
    "PIPELINES",
    "Claim",
    "Proposer",
    "Synthesis",
    "Verifier",
    "Writer",
    "from_proposals",
    "from_questions",
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


class Proposer(Protocol):
    """Names things that a caption leaves open."""

    def propose(self, image: Mapping[str, Any], caption: str, rng: np.random.Generator) -> tuple[Claim, ...]:
        """One claim, or two to deny together, that the caption does not mention; none where nothing comes to mind."""
        ...


class Verifier(Protocol):
    """Looks at the image."""

    def present(self, image: Mapping[str, Any], claim: Claim) -> bool | None:
        """Whether the claim holds of the image; None where that cannot be said."""
        ...


class Writer(Protocol):
    """Writes an absence into a caption."""

    def write(
        self, image: Mapping[str, Any], caption: str, claims: tuple[Claim, ...], rng: np.random.Generator
    ) -> Negated | None:
        """The caption with the claims denied, and its counterparts; None where it cannot be said."""
        ...

    def answer(
        self, image: Mapping[str, Any], caption: str, claims: tuple[Claim, ...], rng: np.random.Generator
    ) -> Negated | None:
        """As `write`, for the answer to a question, which may also stand as a sentence of its own."""
        ...


class Synthesis:
    """What has been written, and what became of the rest."""

    def __init__(self) -> None:
        self.absent: list[dict[str, Any]] = []  # captions that are true of their image
        self.present: list[dict[str, Any]] = []  # and those that it refutes
        self.read = self.proposed = self.verified_absent = 0
        self.rejected: Counter[str] = Counter()

    def add(self, pipeline: str, image: Mapping[str, Any], caption: str, claims: tuple[Claim, ...],
            truth: list[bool | None], text: Negated | None) -> None:  # fmt: skip
        """Keep a text, as true if all claims are absent and as false if all are present."""
        self.proposed += 1
        self.verified_absent += not any(held is not False for held in truth)
        if held := set(image.get("held_out", ())) & {claim.label() for claim in claims}:
            return self.reject(f"held out: {', '.join(sorted(held))}")
        if None in truth:
            return self.reject("cannot be verified")
        if len(set(truth)) > 1:
            return self.reject("one present, one absent")
        if text is None:
            return self.reject("cannot be said in this caption")
        entry = {"image_id": image["id"], "caption": caption, "absent": [claim.thing for claim in claims],
                 "of": claims[0].of, "affirmative": text.affirmative, "asserted": text.asserted,
                 "pipeline": pipeline}  # fmt: skip
        if truth[0]:
            self.present.append(entry | {"negated": text.text})
        else:
            self.absent.append(entry | {"id": len(self.absent) + 1, "updated_caption": text.text})
        return None

    def reject(self, reason: str) -> None:
        """Count a caption for which nothing was written."""
        self.rejected[reason.split(":")[0]] += 1

    def document(self, images: Iterable[Mapping[str, Any]], info: Mapping[str, Any]) -> dict[str, Any]:
        """COCO captions JSON with `updated_caption`, and `present`."""
        used = {entry["image_id"] for entry in (*self.absent, *self.present)}
        return {
            "info": dict(info),
            "images": [image for image in images if image["id"] in used],
            "annotations": self.absent,
            "present": self.present,
        }


def from_proposals(
    pipeline: str,
    captions: Iterable[tuple[Mapping[str, Any], str]],
    proposer: Proposer,
    verifier: Verifier,
    writer: Writer,
    rng: np.random.Generator,
    result: Synthesis,
) -> None:
    """P1, or Rand-P1 with a proposer at random: over pairs of image and caption, adding to `result`."""
    for image, caption in captions:
        result.read += 1
        claims = proposer.propose(image, caption, rng)
        if not claims:
            result.reject("nothing to propose")
            continue
        truth = [verifier.present(image, claim) for claim in claims]
        result.add(pipeline, image, caption, claims, truth, writer.write(image, caption, claims, rng))


def from_questions(
    answered: Iterator[tuple[Mapping[str, Any], str, Claim | None, bool]],
    writer: Writer,
    rng: np.random.Generator,
    result: Synthesis,
) -> None:
    """P2: over image, a caption of it, what was asked (None where that is not understood) and whether it holds."""
    for image, caption, claim, holds in answered:
        result.read += 1
        if claim is None:
            result.reject("question not understood")
            continue
        result.add("p2", image, caption, (claim,), [holds], writer.answer(image, caption, (claim,), rng))
