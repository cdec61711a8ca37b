"""A vision-language model behind an OpenAI-compatible endpoint as a judge."""

import asyncio
from collections.abc import Sequence

import numpy as np
from PIL import Image

from eval.judges import Answers
from eval.judges.questions import ask_all, question
from negclip_core.captions.endpoint import Endpoint
from negclip_core.captions.language_models import image_url
from negclip_core.captions.prompts import load_prompt
from negclip_core.captions.synthesis import Rejected
from negclip_core.errors import UnfinishedWork

__all__ = ["EndpointJudge"]

_BATCH = 256  # questions between which the endpoint is left and found again


class EndpointJudge:
    """See `eval.judges.Judge`. Asked with the words that synthesis asks a verifier with, as many pictures at once as `Endpoint` opens."""

    labels: tuple[str, ...] = ()

    def __init__(self, name: str, model: str) -> None:
        self.name, self.version = name, model

    @classmethod
    def load(cls, name: str) -> "EndpointJudge":
        """At "URL" or "URL#model". Raises RequestError where the model's name is not given and cannot be asked for."""

        async def reach() -> str:
            async with Endpoint(name) as endpoint:
                return endpoint.model

        model = asyncio.run(reach())
        return cls(f"{name.partition('#')[0]}#{model}", model)

    def answers(self, pictures: np.ndarray, asked: Sequence[Sequence[str]]) -> list[Answers]:
        """See `Judge`. Raises RequestError or UnfinishedWork where the endpoint takes no calls, or does not answer any more."""
        return ask_all(pictures, asked, _BATCH, lambda part, labels: asyncio.run(self._ask(part, labels)))

    async def _ask(self, pictures: np.ndarray, labels: list[str]) -> list[bool | None]:
        async with Endpoint(self.name) as endpoint:
            rows = zip(pictures, labels, strict=True)
            return await asyncio.gather(*(self._one(endpoint, picture, label) for picture, label in rows))

    async def _one(self, endpoint: Endpoint, picture: np.ndarray, label: str) -> bool | None:
        url = image_url(Image.fromarray(picture))
        try:
            said = await endpoint.ask(load_prompt("verify"), {"question": question(label)}, 0, url)
        except Rejected as rejected:
            if not rejected.again:  # a call that failed is no answer
                raise UnfinishedWork(
                    f"{self.name}: {rejected.reason}; the same command goes on"
                ) from rejected
            return None
        return {"yes": True, "no": False}.get(said)
