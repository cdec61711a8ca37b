"""A regular expression that every text with a cue matches, in the dialect of engines without look-around (Rust's, Polars').

It comes from the patterns of lexicon.json, widened only: look-arounds and false friends are left out, and the word
boundaries are ASCII's. So `find_cues` finds nothing in a text that does not match, and need not be asked.
"""

import re

from negclip_core.negation.cues import expand
from negclip_core.negation.lexicon import DATA

__all__ = ["coarse_pattern"]

_LOOK_AROUND = re.compile(r"\(\?<?[=!]")
# An escape, a class in brackets, or a character.
_PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
# Python's `\s` has these, Rust's has not.
_SPACE = r"[\s\x1c-\x1f]"
# Python folds these onto i, s and k, and no ASCII boundary stands beside them: such a text always matches.
_FOLDED = "(?-i:[\u0130\u0131\u017f\u212a])"


def coarse_pattern() -> str:
    """The expression. It holds groups with names, which only say where they come from."""
    cues = "|".join(_widened(expand(cue)) for patterns in DATA["cues"].values() for cue in patterns)
    boundary = r"(?-u:\b)"
    return rf"(?i){boundary}(?:{cues}){boundary}|{_FOLDED}"


def _widened(pattern: str) -> str:
    """The pattern without its look-arounds."""
    kept, position, depth = [], 0, 0  # depth: of brackets within a look-around, 0 outside
    while position < len(pattern):
        piece = _PIECE.match(pattern, position)
        assert piece is not None
        token = piece[0]
        if depth or _LOOK_AROUND.match(pattern, position):
            depth += (token == "(") - (token == ")")
        else:
            kept.append(_SPACE if token == r"\s" else token)
        position = piece.end()
    return "".join(kept)
