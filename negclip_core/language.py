"""Negation in English captions and prompts: where it is, what it says is absent, what is left without it.

Rules and word lists only (negclip_core/negation/): quick, no model, and the same answer everywhere.
"""

from dataclasses import dataclass

from negclip_core.negation.cues import find_cues
from negclip_core.negation.rest import affirmative_rest
from negclip_core.negation.scope import Scope, resolve
from negclip_core.negation.tokens import Token, tokenize

__all__ = ["Negation", "Parse", "has_negation", "parse"]


@dataclass(frozen=True, slots=True)
class Negation:
    """One cue and what it negates; `cue` and `scope` are the text's own characters at their spans.

    Spans are (start, end) character offsets into the text, end exclusive. `absent` names the things that the
    text says are not there, without articles ("people" for "nobody"), or what it denies ("red" in "not red").
    """

    cue: str
    cue_span: tuple[int, int]
    scope: str
    scope_span: tuple[int, int]
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parse:
    """A text's negations in order, the text without them (itself where there are none), the absent things."""

    text: str
    negations: tuple[Negation, ...]
    affirmative: str
    negative_prompt: str


def has_negation(text: str) -> bool:
    """Whether the text holds a negation; the same answer as `bool(parse(text).negations)`, sooner."""
    return bool(find_cues(text))


def parse(text: str) -> Parse:
    """Find the negations of a caption or prompt (one or a few sentences of English)."""
    cues = find_cues(text)
    if not cues:
        return Parse(text, (), text, "")
    tokens = tokenize(text, cues)
    places = [i for i, token in enumerate(tokens) if token.cue]
    scopes = [resolve(tokens, text, i) for i in places]
    negations = tuple(_negation(text, tokens, i, scope) for i, scope in zip(places, scopes, strict=True))
    absent = dict.fromkeys(thing for negation in negations for thing in negation.absent)
    return Parse(text, negations, affirmative_rest(text, tokens, scopes), ", ".join(absent))


def _negation(text: str, tokens: list[Token], i: int, scope: Scope) -> Negation:
    cue = tokens[i].cue
    assert cue is not None
    first, end = scope.span
    if cue.family == "affix":
        span = (cue.word_span[0], cue.span[0])
    elif first < end:
        span = (tokens[first].start, tokens[end - 1].end)
    else:
        span = (cue.span[1], cue.span[1])
    return Negation(text[slice(*cue.span)], cue.span, text[slice(*span)], span, scope.absent)
