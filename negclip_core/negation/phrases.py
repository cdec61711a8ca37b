"""Noun phrases and predicates, found with closed word lists and a few word endings (no tagger, no model)."""

import re
from collections.abc import Sequence

from negclip_core.negation import lexicon as lex
from negclip_core.negation.tokens import Token

_CLOSED = lex.PREPOSITIONS | lex.CONJUNCTIONS | lex.RELATIVES | lex.PRONOUNS
_UNNAMED = lex.DETERMINERS | {"of", "be", "been", "being"}
_ENDS_PREDICATE = (lex.CONJUNCTIONS | lex.RELATIVES | {"with"}) - {"or", "that"}
_ASIDES = re.compile(rf"(?:{'|'.join(lex.DATA['asides'])})\b")


def word(tokens: Sequence[Token], i: int) -> str:
    """The i-th token's word; empty for a cue, for punctuation and beyond either end."""
    return tokens[i].word if 0 <= i < len(tokens) and tokens[i].is_word else ""


def surface(tokens: Sequence[Token], text: str, i: int, j: int) -> str:
    """Tokens i..j (exclusive) as the text writes them, without determiners; "people" for "anyone"."""
    while i < j - 1 and tokens[i].word in _UNNAMED:
        i += 1
    if i >= j:
        return ""
    phrase = text[tokens[i].start : tokens[j - 1].end]
    return lex.INDEFINITES.get(phrase.lower(), phrase)


def is_auxiliary(tokens: Sequence[Token], i: int) -> bool:
    """Whether the i-th token is a form of be, do or a modal; "can" only before a verb (not "trash can")."""
    if word(tokens, i) == "can":
        following = tokens[i + 1] if i + 1 < len(tokens) else None
        return following is not None and (following.word == "be" or following.cue is not None)
    return word(tokens, i) in lex.AUXILIARIES


def breaks(tokens: Sequence[Token], i: int) -> bool:
    """Whether no noun phrase goes on at i: a cue, a mark, the end, or a word that opens something else."""
    w = word(tokens, i)
    return not w or w in _CLOSED or is_auxiliary(tokens, i)


def is_participle(tokens: Sequence[Token], i: int) -> bool:
    """Whether the word may be a participle: by its ending, or listed."""
    return may_be_participle(word(tokens, i))


def may_be_participle(w: str) -> bool:
    """`is_participle` of a lower-case word by itself."""
    if w.endswith("ing") and len(w) > 4:
        return w not in lex.ING_NOUNS
    return w in lex.PARTICIPLES or (w.endswith("ed") and len(w) > 3 and w not in lex.ED_WORDS)


def is_finite(tokens: Sequence[Token], i: int) -> bool:
    """Whether the word after a noun is a finite verb: "sleeve grabs a", "hats sit", not "fruit stand"."""
    w, noun = word(tokens, i), word(tokens, i - 1)
    if w in lex.BARE_VERBS:
        return noun.endswith("s") or noun in lex.BARE_PLURALS
    return w in lex.FINITE_VERBS or (w.endswith("s") and word(tokens, i + 1) in lex.DETERMINERS)


def _is_verbal(tokens: Sequence[Token], i: int) -> bool:
    """Whether a word after a noun starts a participle phrase or is a finite verb."""
    if word(tokens, i).endswith("ing"):
        return is_participle(tokens, i)
    if is_finite(tokens, i):
        return True
    return is_participle(tokens, i) and breaks(tokens, i + 1)


def noun_phrase(tokens: Sequence[Token], i: int) -> int:
    """Where the noun phrase that starts at i ends (exclusive); i itself when there is none."""
    first = _past_determiners(tokens, i)
    j = first
    while not _ends_noun_phrase(tokens, first, j):
        after_of = word(tokens, j) == "of"
        j += 1
        while after_of and word(tokens, j) in lex.DETERMINERS:
            j += 1
    return j if j > first else i


def _past_determiners(tokens: Sequence[Token], i: int) -> int:
    # "one" and "few" are determiners only where a noun follows them; "any of the cats" are cats.
    while word(tokens, i) in lex.DETERMINERS or (word(tokens, i) == "of" and word(tokens, i - 1) == "any"):
        if word(tokens, i) in ("one", "few") and breaks(tokens, i + 1):
            break
        i += 1
    return i


def _ends_noun_phrase(tokens: Sequence[Token], first: int, j: int) -> bool:
    w = word(tokens, j)
    if w == "'s":
        return j == first
    if w == "of":
        return j == first or breaks(tokens, j + 1)
    if breaks(tokens, j) or (w == "other" and word(tokens, j + 1) == "than"):
        return True
    if j == first:
        return False
    return w in lex.POSTPOSED or (word(tokens, j - 1) not in ("of", "'s") and _is_verbal(tokens, j))


def aside(tokens: Sequence[Token], i: int) -> int:
    """The end of a fixed phrase at i that says no more than "here" ("in sight", "in the photo"), or i."""
    following = " ".join(filter(None, (word(tokens, k) for k in range(i, i + 4))))
    found = _ASIDES.match(following)
    return i + len(found.group().split()) if found and word(tokens, i) else i


def bound_phrase(tokens: Sequence[Token], i: int) -> int:
    """The end of a preposition phrase at i that belongs to what stands before it, or i.

    It points back ("on it", "on his head", "on the" thing named before) or is stranded ("sitting on").
    """
    if word(tokens, i) not in lex.PREPOSITIONS:
        return i
    j = i + 1
    if word(tokens, i) in {"on", "off"} and word(tokens, j) in lex.PREPOSITIONS - {"to"}:
        return j  # "no lights on | at night"
    while word(tokens, j) in lex.PREPOSITIONS | {"of", "front", "top"}:
        j += 1
    w = word(tokens, j)
    if w in lex.PRONOUNS:
        return j + 1
    if j == i + 1 and (not w or w in lex.CONJUNCTIONS or is_auxiliary(tokens, j)):
        return j
    if w in lex.POSSESSIVES:
        return max(noun_phrase(tokens, j), j + 1)
    if w == "the" and breaks(tokens, j + 2) and any(t.word == word(tokens, j + 1) for t in tokens[:i]):
        return j + 2
    return j + 1 if w in lex.BODY_PARTS and breaks(tokens, j + 1) else i


def belonging(tokens: Sequence[Token], i: int) -> int:
    """The end of the aside or bound phrase at i, or i."""
    return max(aside(tokens, i), bound_phrase(tokens, i))


def predicate(tokens: Sequence[Token], i: int, keep_places: bool) -> int:
    """The end of the predicate at i ("sitting on it", "looking at the camera").

    With `keep_places` it stops before a preposition phrase that stands alone ("sitting | on the bench").
    """
    j = i
    while word(tokens, j) and word(tokens, j) not in _ENDS_PREDICATE:
        w, bound = word(tokens, j), bound_phrase(tokens, j)
        verb_before = j > i and word(tokens, j - 1) not in lex.AUXILIARIES | lex.ADVERBS
        if verb_before and (is_auxiliary(tokens, j) or w == "that"):
            break
        if bound == j and keep_places and w in lex.PREPOSITIONS and noun_phrase(tokens, j + 1) > j + 1:
            break
        j = max(bound, j + 1)
    return j
