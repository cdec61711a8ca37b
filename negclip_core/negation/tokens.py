"""Words, punctuation and cues of a text as one list, each with its character span in the text."""

import re
from dataclasses import dataclass

from negclip_core.negation.cues import Cue

Span = tuple[int, int]  # a range of tokens, end exclusive

# "'s" also as tokenised corpora write it ("that ' s"); hyphenated words stay whole.
_WORD = re.compile(r"['\u2019]\s?(?:s|re)\b|[^\W_]+(?:[-/][^\W_]+)*|[^\w\s]|_")


@dataclass(frozen=True, slots=True)
class Token:
    """One word, punctuation mark or cue; `word` is lower-case, `start` and `end` are offsets in the text."""

    word: str
    start: int
    end: int
    cue: Cue | None = None

    @property
    def is_word(self) -> bool:
        return self.cue is None and (self.word[0].isalnum() or self.word in ("'s", "'re"))


def tokenize(text: str, cues: list[Cue]) -> list[Token]:
    """The text's tokens in order; a cue (an affix with its whole word) is one token and never split."""
    tokens: list[Token] = []
    position = 0
    for cue in [*cues, None]:
        stop = cue.word_span[0] if cue else len(text)
        for found in _WORD.finditer(text, position, stop):
            word = found.group().lower().replace("\u2019", "'").replace("' ", "'")
            tokens.append(Token(word, found.start(), found.end()))
        if cue:
            tokens.append(Token(text[slice(*cue.span)].lower(), *cue.word_span, cue))
            position = cue.word_span[1]
    return tokens
