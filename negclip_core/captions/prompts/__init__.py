"""Prompts for language models: one text file each in this folder, found by its name.

At the head of a file stand its settings, `name: value`; then what the system and the user say, with `$name` where the
caption and the like go. `answer: name=text` asks for a JSON object with one text, `answer: name=yes|no` for one of these.
The settings are the paper's (arXiv 2501.10913: temperature 0.6, top-p 0.9); the words are our own.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

from negclip_core.captions.synthesis import Rejected
from negclip_core.files import parse_json

__all__ = ["Prompt", "fingerprint", "load_prompt"]

_HEAD = re.compile(r"(?P<settings>.*?)\n\[system\]\n(?P<system>.*?)\n\[user\]\n(?P<user>.*)", re.DOTALL)
_FENCE = re.compile(r"\s*```(?:json)?\s*(.*?)\s*```\s*", re.DOTALL)
# How models begin when they will not: only looked for where the answer is not what was asked for.
_REFUSAL = re.compile(r"\s*(?:i['’]?m (?:really |very )?sorry|sorry|i (?:can(?:not|['’]t)|won['’]t|am (?:not able|unable))|as an ai)",
                      re.IGNORECASE)  # fmt: skip
_LONGEST = 600  # characters of an answer's text


@dataclass(frozen=True)
class Prompt:
    """What is asked, and how the answer must look."""

    settings: Mapping[str, float]  # temperature, top_p, max_tokens
    system: str
    user: str
    key: str  # of the answer's one entry
    choices: tuple[str, ...]  # what it may be; any text where there are none

    def messages(self, words: Mapping[str, str], picture: str = "") -> list[dict[str, Any]]:
        """The messages of a chat completion; `picture` is a data URL that goes before the text."""
        text = Template(self.user).substitute(words).strip()
        content: Any = text
        if picture:
            content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": text}]
        return [{"role": "system", "content": self.system}, {"role": "user", "content": content}]

    def read(self, content: str) -> str:
        """The answer in a model's message. Raises Rejected where it is not what was asked for."""
        if fenced := _FENCE.fullmatch(content):
            content = fenced[1]
        try:
            answer = parse_json(content)
        except (ValueError, RecursionError) as error:
            refused = _REFUSAL.match(content)
            raise Rejected("refused" if refused else "malformed answer", again=True) from error
        if not isinstance(answer, dict) or set(answer) != {self.key} or not isinstance(answer[self.key], str):
            raise Rejected("malformed answer", again=True)
        text: str = answer[self.key].strip()
        if self.choices:
            text = text.lower().rstrip(".")
        if (
            not text
            or len(text.splitlines()) > 1
            or len(text) > _LONGEST
            or (self.choices and text not in self.choices)
        ):
            raise Rejected("malformed answer", again=True)
        return text


@cache
def load_prompt(name: str) -> Prompt:
    """The prompt in `name`.txt."""
    found = _HEAD.fullmatch(files(__package__).joinpath(f"{name}.txt").read_text("utf-8"))
    assert found is not None, f"{name}.txt: expected settings, [system] and [user]"
    settings = dict(line.split(": ", 1) for line in found["settings"].split("\n") if line)
    key, _, form = settings.pop("answer").partition("=")
    choices = () if form == "text" else tuple(form.split("|"))
    numbers = {name: json.loads(value) for name, value in settings.items()}
    return Prompt(numbers, found["system"].strip(), found["user"], key, choices)


def fingerprint() -> str:
    """16 hexadecimal digits that change with the prompts."""
    digest = hashlib.sha256()
    for entry in sorted(files(__package__).iterdir(), key=lambda file: file.name):
        if entry.name.endswith(".txt"):
            digest.update(entry.read_bytes())
    return digest.hexdigest()[:16]
