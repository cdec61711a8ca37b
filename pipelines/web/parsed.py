"""A prompt as the page shows it: which words negate, what they reach, and what is said to be absent."""

import html
from itertools import groupby
from operator import itemgetter

from negclip_core.language import Parse, parse

__all__ = ["COLOURS", "parts", "summary"]

COLOURS = {"cue": "#e8743b", "scope": "#f2c14e", "absent": "#d64570"}


def parts(text: str) -> list[tuple[str, str | float | None]]:
    """The text in pieces, each with what it is: "cue", "absent", "scope" or None."""
    found = parse(text)
    kinds: list[str | None] = [None] * len(text)
    for negation in found.negations:
        _paint(kinds, negation.scope_span, "scope")
        for thing in negation.absent:
            start = text.lower().find(thing.lower(), *negation.scope_span)
            if start >= 0:
                _paint(kinds, (start, start + len(thing)), "absent")
    # Last, for a cue may hold what it denies: "nobody", "treeless".
    for negation in found.negations:
        _paint(kinds, negation.cue_span, "cue")
    runs = [list(run) for _, run in groupby(zip(text, kinds, strict=True), key=itemgetter(1))]
    return [("".join(letter for letter, _ in run), run[0][1]) for run in runs]


def _paint(kinds: list[str | None], span: tuple[int, int], kind: str) -> None:
    kinds[slice(*span)] = [kind] * (span[1] - span[0])


def summary(text: str) -> str:
    """A line of HTML: what is absent, and the text without it."""
    found: Parse = parse(text)
    if not text.strip():
        return ""
    if not found.negations:
        return '<p class="note">Nothing is negated. With the gate, both draw the same picture.</p>'
    absent, rest = (html.escape(part) or "nothing" for part in (found.negative_prompt, found.affirmative))
    return f'<p class="note">Absent: <b>{absent}</b>. What is left: <b>{rest}</b>.</p>'
