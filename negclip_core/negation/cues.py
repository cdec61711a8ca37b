"""Where a text holds a negation cue, and where it only looks so ("no. 1", "can't wait", a sign's words)."""

import re
from bisect import bisect_left
from dataclasses import dataclass
from itertools import islice

from negclip_core.negation.lexicon import DATA

_TRIGGERS = frozenset(DATA["triggers"])
_MOST = 1000  # cues of a text: none of a few sentences has as many, and a million would take an hour
_LETTERS = re.compile(r"[a-z]+")
# A sign's words in quotes; tokenised apostrophes ("man ' s") stand apart from both neighbours: no quotes.
_QUOTED = re.compile(
    r"\"[^\"]*\"|\u201c[^\u201d]*\u201d"
    r"|(?<![\w'\u2019])['\u2018](?=\S)[^'\u2019]*(?<=\S)['\u2019](?!\w)"
)


@dataclass(frozen=True, slots=True)
class Cue:
    """A cue's family (see lexicon.json), its character span, and that of the word holding it (affixes)."""

    family: str
    span: tuple[int, int]
    word_span: tuple[int, int]


def expand(pattern: str) -> str:
    """A readable pattern made tolerant of runs of white space and of tokenised or curly apostrophes."""
    pattern = pattern.replace("{bases}", "|".join(DATA["affix_bases"]))
    pattern = pattern.replace("{auxiliaries}", "|".join(DATA["negatable_auxiliaries"]))
    pattern = re.sub(r"n't\b", "n ?['\u2019]? ?t", pattern)
    # Look-behinds must keep one width, so their single space stays.
    return re.sub(r"(\(\?<[=!][^)]*\))| (\?)?", lambda m: m[1] or (r"\s?" if m[2] else r"\s+"), pattern)


def _compile() -> re.Pattern[str]:
    # False friends come first: at the same place they win, and what they cover is not looked at again.
    families = {"friend": DATA["false_friends"], **DATA["cues"]}
    groups = (f"(?P<{name}>{'|'.join(map(expand, patterns))})" for name, patterns in families.items())
    return re.compile(rf"(?<![\w])(?:{'|'.join(groups)})(?!\w)", re.IGNORECASE)


_SCAN = _compile()
_PARTS = ("nt", "fused", "suffix", "hyphen", "except")
# "no furniture other than a sofa", "an empty room other than a sofa": the sofa is there.
_EMPTY = re.compile(r"\b(?:empty|bare|blank|deserted|vacant|plain|little|few|much)\b", re.IGNORECASE)


def may_hold_cue(text: str) -> bool:
    """A cheap look that never misses a cue; most texts stop here."""
    lowered = text.lower()
    return not _TRIGGERS.isdisjoint(_LETTERS.findall(lowered)) or "less" in lowered


def _cue(found: re.Match[str]) -> Cue:
    family = next(name for name in DATA["cues"] if found[name] is not None)
    span = next((found.span(part) for part in _PARTS if found[part] is not None), found.span())
    return Cue(family, span, found.span() if family == "affix" else span)


def find_cues(text: str) -> list[Cue]:
    """The first thousand cues of a text, in order and without overlap; empty when it holds no negation."""
    if not may_hold_cue(text):
        return []
    cues = [_cue(each) for each in islice((m for m in _SCAN.finditer(text) if m["friend"] is None), _MOST)]
    cues = [
        cue for before, cue in zip([None, *cues], cues, strict=False) if not _is_exceptive(text, before, cue)
    ]
    if not cues:
        return []
    # A prompt that is wholly in quotes was quoted by its sender, not by a sign painter.
    quoted = [m.span() for m in _QUOTED.finditer(text) if m.group() != text.strip()]
    return [cue for cue in cues if not _within(quoted, cue.span[0])]


def _is_exceptive(text: str, before: Cue | None, cue: Cue) -> bool:
    """Whether "other than" or "except" says what is there, since its sentence has denied the rest."""
    if text[slice(*cue.span)].lower().split()[0] not in ("other", "except"):
        return False
    denied = before is not None and "." not in text[before.span[1] : cue.span[0]]
    sentence = text.rfind(".", 0, cue.span[0]) + 1
    return denied or _EMPTY.search(text, sentence, cue.span[0]) is not None


def _within(spans: list[tuple[int, int]], place: int) -> bool:
    """Whether a place is inside one of the spans, which are in order."""
    before = bisect_left(spans, (place, place)) - 1
    return before >= 0 and place < spans[before][1]
