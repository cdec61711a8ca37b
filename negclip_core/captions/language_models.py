"""A language model as proposer and writer, a vision-language model as verifier, each behind an endpoint or on this machine."""

import asyncio
import base64
import io
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from negclip_core.captions.checks import denied, failure
from negclip_core.captions.names import Names, says
from negclip_core.captions.phrasings import Negated, join, noun_phrase
from negclip_core.captions.prompts import Prompt, load_prompt
from negclip_core.captions.synthesis import Claim, Claims, Rejected
from negclip_core.errors import RequestError, reason_of
from negclip_core.images import open_image
from negclip_core.training.shards import open_named

__all__ = [
    "Model",
    "ModelProposer",
    "ModelVerifier",
    "ModelWriter",
    "image_url",
    "named_picture",
    "picture_url",
]

_SIDE_PX = 768  # longest side of a picture that is sent
_QUALITY = 90  # of its JPEG
_THING = re.compile(r"[a-z][a-z'-]*(?: [a-z][a-z'-]*){0,2}")
_ARTICLES = re.compile(r"^(?:an?|the|some|any) ")


class Model(Protocol):
    """What answers prompts: an `Endpoint` or a `LocalModel`; `model` is what its answers depend on."""

    model: str

    async def ask(self, prompt: Prompt, words: Mapping[str, str], seed: int, picture: str = "") -> str:
        """The answer to a prompt, of the form that it asks for. Raises Rejected where there is none."""
        ...


class ModelProposer:
    """P1's proposer: a thing that the caption does not mention and such a picture would lead one to expect."""

    def __init__(self, model: Model, names: Names) -> None:
        self.model, self.names, self.prompt = model, names, load_prompt("propose")

    async def propose(
        self, image: Mapping[str, Any], caption: str, rng: np.random.Generator, tried: Claims = ()
    ) -> Claims:
        """See `Proposer`. Raises Rejected for an answer that names no thing, or one that is named already."""
        words = {"caption": caption, "tried": ", ".join(claim.thing for claim in tried) or "nothing"}
        said = _ARTICLES.sub("", (await self.model.ask(self.prompt, words, _seed(rng))).lower().rstrip("."))
        if not _THING.fullmatch(said):
            raise Rejected("malformed answer", again=True)
        forms = self.names.of(said)
        thing = self.names.same.get(said, said)
        if (
            says(caption, forms)
            or thing in self.names.mentioned(caption)
            or any(c.thing == thing for c in tried)
        ):
            raise Rejected("proposed what the caption names", again=True)
        return (Claim(thing),)


class ModelVerifier:
    """Asks a vision-language model, which sees the picture from `folder` as a JPEG of at most 768 pixels a side."""

    def __init__(self, model: Model, folder: Path) -> None:
        self.model, self.folder, self.prompt = model, folder, load_prompt("verify")

    async def present(self, image: Mapping[str, Any], claim: Claim, rng: np.random.Generator) -> bool | None:
        """See `Verifier`. Raises RequestError for a picture that is not there or cannot be read."""
        picture = await asyncio.to_thread(picture_url, self.folder, image["file_name"])
        answer = await self.model.ask(self.prompt, {"question": _question(claim)}, _seed(rng), picture)
        return {"yes": True, "no": False}.get(answer)


class ModelWriter:
    """Writes an absence, or the answer "no", into a caption; what comes back is checked (see `checks`)."""

    refutes = False  # each text is paid for

    def __init__(self, model: Model, names: Names) -> None:
        self.model, self.names = model, names

    async def write(
        self, image: Mapping[str, Any], caption: str, claims: Claims, rng: np.random.Generator
    ) -> Negated:
        """See `Writer`. Raises Rejected for a text that fails the checks."""
        absent = " and ".join(f"{c.thing} (of the {c.of})" if c.of else c.thing for c in claims)
        words = {"caption": caption, "absent": absent}
        text = await self.model.ask(load_prompt("write"), words, _seed(rng))
        return _checked(text, caption, [self.names.of(claim.thing) for claim in claims])

    async def answer(
        self, image: Mapping[str, Any], caption: str, claims: Claims, rng: np.random.Generator, question: str
    ) -> Negated:
        """See `Writer`. Raises Rejected for a text that fails the checks, or denies what was not asked about."""
        words = {"caption": caption, "question": question}
        text = await self.model.ask(load_prompt("answer"), words, _seed(rng))
        if claims and claims[0].how in ("there", "worn"):
            return _checked(text, caption, [self.names.of(claim.thing) for claim in claims])
        asked = {word.rstrip("s") for word in re.findall(r"\w+", question.lower())}
        for thing in denied(text, caption):
            if not {word.rstrip("s") for word in thing.split()} <= asked | {"people", "person"}:
                raise Rejected("denies something else", again=True)
        return _checked(text, caption, [{thing} for thing in denied(text, caption)])


def named_picture(folder: Path, name: str) -> Image.Image:
    """The picture that a captions file names. Raises RequestError where it cannot be read."""
    try:
        with open_named(folder, name) as content:
            return open_image(folder / name, content)
    except FileNotFoundError as error:
        raise RequestError(f"{folder / name}: no such picture; --images names their folder") from error
    except OSError as error:
        raise RequestError(f"{folder / name}: cannot be read ({reason_of(error)})") from error


def picture_url(folder: Path, name: str) -> str:
    """A named picture as a data URL. Raises RequestError where it cannot be read."""
    return image_url(named_picture(folder, name))


def image_url(image: Image.Image) -> str:
    """An RGB picture, which is made smaller in place, as a data URL: a JPEG of at most 768 pixels a side."""
    image.thumbnail((_SIDE_PX, _SIDE_PX))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _question(claim: Claim) -> str:
    if claim.how == "worn":
        return f"Does the {claim.of} in the image wear or hold {noun_phrase(claim.thing)}?"
    if claim.how == "coloured":
        return f"Is the {claim.of} in the image {claim.thing}?"
    return f"Is there any {claim.thing} in the image, even a small one or a part of one?"


def _checked(text: str, caption: str, absent: Collection[Collection[str]]) -> Negated:
    if why := failure(text, caption, absent):
        raise Rejected(why, again=True)
    # The caption itself is what is left without the negation: that it survived has been checked.
    base = caption.rstrip(" .")
    there = " and ".join(noun_phrase(thing) for thing in denied(text, caption))
    return Negated(text, caption, f"{base} {join(base)} {there}{caption[len(base) :].strip()}", "")
