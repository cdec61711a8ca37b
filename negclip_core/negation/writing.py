"""Kept tokens back into a text: nothing dangling, the text's own spacing, "a" or "an" as needed."""

from negclip_core.negation.tokens import Token

_MARKS = frozenset({",", ".", ";"})
_OPENING = frozenset({":", ";", "-", "\u2013", "\u2014"})  # marks that say something follows, or went before
_CLOSING = {")": "(", "]": "[", "}": "{"}
_WEIGHT = 4  # tokens of a weight such as ":1.25"
_JOINING = frozenset({"and", "but", "or"})
_DANGLING = (
    _JOINING
    | _OPENING
    | {",", "with", "that", "which", "who", "while", "in", "a", "an", "the", "there", "is"}
)


def tidy(kept: list[Token]) -> list[Token]:
    """Without marks that follow marks, brackets that hold nothing or only a weight, and joining words left dangling at either end."""
    out: list[Token] = []
    for token in kept:
        if token.word in _CLOSING and (start := _empty_bracket(out, _CLOSING[token.word])) is not None:
            del out[start:]
        elif token.word not in _MARKS or (out and out[-1].word not in _MARKS):
            out.append(token)
    final = [out.pop()] if out and out[-1].word == "." else []
    while out and out[-1].word in _DANGLING:
        out.pop()
    while out and out[0].word in _JOINING | _OPENING:
        out.pop(0)
    return out + (final if out else [])


def _empty_bracket(out: list[Token], opening: str) -> int | None:
    """Where an opening bracket stands, if nothing but a weight (":1.2") has followed it."""
    for k in range(len(out) - 1, max(-1, len(out) - _WEIGHT - 2), -1):
        if out[k].word == opening:
            return k if k == len(out) - 1 or out[k + 1].word == ":" else None
        if not (out[k].word in ":." or out[k].word.isdecimal()):
            return None
    return None


def write(text: str, kept: list[Token], capital: bool) -> str:
    """The kept tokens as a text; with `capital`, its first letter is one."""
    pieces: list[str] = []
    for k, token in enumerate(kept):
        if k:
            pieces.append(_space(text, kept[k - 1], token))
        pieces.append(
            _article(text, token, kept[k + 1]) if k + 1 < len(kept) else text[token.start : token.end]
        )
        if k and kept[k - 1].word == "." and text[kept[k - 1].end : token.start].strip()[:1].isupper():
            pieces[-1] = _capital(pieces[-1])  # the sentence had one, and lost its first word
    written = "".join(pieces)
    return _capital(written) if capital else written


def _capital(written: str) -> str:
    return written[:1].upper() + written[1:]


def _space(text: str, before: Token, token: Token) -> str:
    between = text[before.end : token.start]
    if not between.strip():
        return between
    # Where something was cut, a mark keeps the space it had before it (none, or one in tokenised text).
    return " " if token.is_word or text[token.start - 1].isspace() else ""


def _article(text: str, token: Token, following: Token) -> str:
    written = text[token.start : token.end]
    if token.word not in ("a", "an") or not text[token.end : following.start].strip():
        return written
    return written[0] + "n" * (following.word[0] in "aeiou")
