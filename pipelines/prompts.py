"""Is a prompt one that the host can read? Its length in tokens, and the words that a small model has learned."""

import re
from collections.abc import Collection
from typing import Any

from negclip_core.errors import RequestError
from negclip_core.language import parse

__all__ = ["check_length", "unknown_words"]

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


def check_length(prompt: str, tokenizer: Any) -> str | None:
    """What the host will not read of the prompt, or None if it reads all.

    Raises:
        RequestError: a negation reaches into what would be cut.
    """
    room = tokenizer.model_max_length - 1  # the end token needs a place
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    if len(encoded.input_ids) - 1 <= room:
        return None
    cut_at = encoded.offset_mapping[room][0]
    cut = prompt[cut_at:].strip()
    for negation in parse(prompt).negations:
        if max(negation.cue_span[1], negation.scope_span[1]) > cut_at:
            raise RequestError(
                f"the prompt has {len(encoded.input_ids)} tokens, {room + 1} are read, and the negation "
                f"{negation.cue!r} is in what would be cut ({_shorten(cut)!r}); shorten the prompt or move it forward"
            )
    return cut


def unknown_words(prompt: str, vocabulary: Collection[str]) -> list[str]:
    """The prompt's words that are not in the vocabulary, in order, each once."""
    known = {word.lower() for word in vocabulary}
    return list(dict.fromkeys(word for word in _WORD.findall(prompt.lower()) if word not in known))


def _shorten(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
