"""A language model, or a vision-language model, of transformers on this machine, with the interface of `Endpoint`.

Prompts that wait at the same time are answered together. Decoding is greedy: the likeliest token each time, so an answer
depends on its prompt alone, and equal prompts are answered once.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from types import TracebackType
from typing import Any

import torch
from PIL import Image

from negclip_core.captions.batches import Batches
from negclip_core.captions.prompts import Prompt
from negclip_core.errors import RequestError, reason_of
from negclip_core.pretrained import load_pretrained

__all__ = ["LocalModel"]

_BATCH = 16  # prompts answered together at most
_KINDS = {False: ("AutoModelForCausalLM", "a language model"),
          True: ("AutoModelForImageTextToText", "a vision-language model")}  # fmt: skip
_SYSTEM, _USER = "Be brief.", "Is there a car?"  # to try a chat template with

Message = dict[str, Any]


class LocalModel:
    """A chat model by hub id or folder; it sees pictures where `sees`. Used with `async with`, as `Endpoint`.

    At most `concurrency` prompts, and never more than 16, are answered together.
    """

    def __init__(self, name: str, sees: bool, device: str, concurrency: int) -> None:
        self.name, self.sees, self.device, self.batch = name, sees, device, min(concurrency, _BATCH)
        self.model = ""  # the sum of its files
        self._chat: _Chat | None = None
        self._batches: Batches[tuple[list[Message], int], str] | None = None

    async def __aenter__(self) -> "LocalModel":
        """Raises RequestError where there is no such model, it cannot be loaded, or it is not tuned for chat."""
        self._chat = _Chat(self.name, self.sees, self.device)
        self.model = self._chat.version
        self._batches = await Batches(self.name, self._chat.answer, self.batch).__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._batches is not None
        await self._batches.__aexit__(kind, error, trace)
        self._chat = self._batches = None

    async def ask(self, prompt: Prompt, words: Mapping[str, str], seed: int, picture: str = "") -> str:
        """The model's answer to a prompt; `seed` and the prompt's temperature mean nothing to greedy decoding.

        Raises:
            Rejected: the answer is not what was asked for.
            UnfinishedWork: the model fails, for want of memory for example.
        """
        messages, longest = prompt.messages(words, picture), int(prompt.settings["max_tokens"])
        key = sha256(json.dumps([messages, longest]).encode()).hexdigest()
        assert self._batches is not None
        return prompt.read(await self._batches.ask(key, (messages, longest)))


class _Chat:
    """A model with its tokenizer or processor: messages in, texts out."""

    def __init__(self, name: str, sees: bool, device: str) -> None:
        from transformers import GenerationConfig

        self.model, self.processor, self.version = load_pretrained(name, *_KINDS[sees], device)
        self.sees = sees
        self.tokenizer = getattr(self.processor, "tokenizer", self.processor)
        if not getattr(self.processor, "chat_template", None):
            raise RequestError(f"{name}: has no chat template; name a model tuned for chat")
        if sees and self.tokenizer is self.processor:
            raise RequestError(f"{name}: takes no pictures; name a vision-language model")
        # What is written goes on from the end of each row, so the filling stands before it.
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        # A repetition penalty would count the filling too: a prompt's answer would depend on its neighbours.
        ends = self.model.generation_config.eos_token_id
        self.model.generation_config = GenerationConfig(
            do_sample=False,
            eos_token_id=self.tokenizer.eos_token_id if ends is None else ends,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        self.takes_system = self._takes_system(name)

    def _takes_system(self, name: str) -> bool:
        """Whether the chat template has a place for a system message. Raises RequestError where it takes no messages."""
        user = {"role": "user", "content": _USER}
        try:
            if _SYSTEM in self._text([{"role": "system", "content": _SYSTEM}, user], True):
                return True
        except Exception:  # templates refuse by an error of their own, or fail otherwise
            pass
        try:
            found = self._text([user], True)
        except Exception as error:
            raise RequestError(f"{name}: its chat template fails ({reason_of(error)})") from error
        if _USER not in found:
            raise RequestError(f"{name}: its chat template leaves out what the user says")
        return False

    def _text(self, messages: Sequence[Message], takes_system: bool) -> str:
        """Messages as one text; without a place for the system's, it stands before the user's."""
        turns = [(message["role"], _parts(message["content"])) for message in messages]
        if not takes_system and turns[0][0] == "system":
            (_, said), (role, asked), *rest = turns
            pictures = [part for part in asked if part["type"] == "image"]
            words = "\n\n".join(part["text"] for part in (*said, *asked) if part["type"] == "text")
            turns = [(role, [*pictures, {"type": "text", "text": words}]), *rest]
        if self.sees:
            chat = [{"role": role, "content": parts} for role, parts in turns]
        else:
            chat = [{"role": role, "content": parts[0]["text"]} for role, parts in turns]
        # Models that would think aloud first are told not to; other templates know no such name.
        return str(
            self.processor.apply_chat_template(
                chat, add_generation_prompt=True, tokenize=False, enable_thinking=False
            )
        )

    @torch.inference_mode()
    def answer(self, chats: Sequence[tuple[list[Message], int]]) -> list[str]:
        """The answer to each of the chats, cut to its own number of tokens."""
        texts = [self._text(messages, self.takes_system) for messages, _ in chats]
        # Templates mostly write the token that begins a text; it must not come twice.
        begins = self.tokenizer.bos_token
        special = self.sees and not (begins and texts[0].startswith(begins))
        pictures = [_pictures(messages) for messages, _ in chats]
        seen = {"images": pictures} if self.sees else {}
        inputs = self.processor(
            text=texts, padding=True, return_tensors="pt", add_special_tokens=special, **seen
        )
        inputs = {
            name: value.to(self.model.device, self.model.dtype if value.is_floating_point() else value.dtype)
            for name, value in inputs.items()
            if name != "token_type_ids" or self.sees
        }
        said = self.model.generate(**inputs, max_new_tokens=max(longest for _, longest in chats))
        start = inputs["input_ids"].shape[1]
        rows = [row[start : start + longest] for row, (_, longest) in zip(said, chats, strict=True)]
        return [str(text) for text in self.tokenizer.batch_decode(rows, skip_special_tokens=True)]


def _parts(content: Any) -> list[dict[str, str]]:
    """A message's content as typed parts, the pictures without their bytes."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [{"type": "image"} if part["type"] == "image_url" else part for part in content]


def _pictures(messages: Sequence[Message]) -> list[Image.Image]:
    urls = [part["image_url"]["url"] for message in messages if not isinstance(message["content"], str)
            for part in message["content"] if part["type"] == "image_url"]  # fmt: skip
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB") for url in urls]
