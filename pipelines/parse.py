"""`negclip parse`: the negations of each text, as the command line prints them."""

from dataclasses import asdict
from typing import Any

from negclip_core.errors import RequestError
from negclip_core.language import parse


def run(texts: list[str]) -> list[dict[str, Any]]:
    """One JSON-ready record for each text, in order: text, negations, affirmative, negative_prompt.

    Raises RequestError when there is no text or one is blank.
    """
    if not texts:
        raise RequestError("no text to parse: give one or more texts, or lines on standard input")
    for position, text in enumerate(texts, 1):
        if not text.strip():
            raise RequestError(f"text {position} of {len(texts)} is blank: give a caption or a prompt")
    return [_plain(asdict(parse(text))) for text in texts]


def _plain(value: Any) -> Any:
    # JSON has no tuples; lists here make the record equal to what reading its JSON gives.
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
