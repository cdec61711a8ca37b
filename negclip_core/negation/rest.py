"""The affirmative rest: a text without its cues, their scopes, and the words that only led to them."""

from collections.abc import Sequence

from negclip_core.negation import lexicon as lex
from negclip_core.negation.phrases import is_auxiliary, is_participle, word
from negclip_core.negation.scope import Scope
from negclip_core.negation.tokens import Span, Token
from negclip_core.negation.writing import tidy, write

_LEADING = lex.CARRIERS | lex.CONJUNCTIONS | {"whose", "who", "not"}
_FINITE = lex.FINITE_VERBS | lex.BARE_VERBS | {w for w in lex.HAVING if not w.endswith("ing")}
_JOINING = frozenset({"and", "but"})
_SUBJECTS = frozenset({"it", "he", "she", "they", "we", "you", "i"})
# How a cue begins that a preposition can govern.
_NOUN_LIKE = frozenset({"no", "zero", "neither", "not", "a", "the", "absence", "lack"})
_EXCEPTIVES = [phrase.split() for phrase in lex.DATA["exceptives"]]


def affirmative_rest(text: str, tokens: Sequence[Token], scopes: Sequence[Scope]) -> str:
    """The text with every scope cut; spacing, case and marks stay the text's own where nothing was cut."""
    kept = list(tokens)
    # From the right, so that each cut sees what really follows it.
    for scope in reversed(scopes):
        start, end = _position(kept, tokens, scope.cut)
        if start < end:  # else it was cut with what stands further right: "none of the cats | isn't asleep"
            kept = _cut_affix(kept, start) if scope.span == (scope.cut[0],) * 2 else _cut(kept, start, end)
    kept = [token for token in kept if not token.cue]  # "none of | the people", of whom something was denied
    return write(text, tidy(kept), capital=text[tokens[0].start].isupper())


def _position(kept: list[Token], tokens: Sequence[Token], cut: Span) -> Span:
    """The cut as indices into what is kept: its front may be gone, and so is all that was cut further right."""
    last = tokens[cut[1] - 1].end
    first = tokens[cut[0]].start
    end = start = next((k for k, token in enumerate(kept) if token.start >= first), len(kept))
    while end < len(kept) and kept[end].start < last:
        end += 1
    return start, end


def _cut_affix(kept: list[Token], i: int) -> list[Token]:
    """Without the word at i, be it an adjective ("a carless street") or a predicate ("that is carless")."""
    if word(kept, i + 1) and word(kept, i + 1) not in lex.PREPOSITIONS:
        if word(kept, i - 1) in _JOINING:
            return kept[: i - 1] + kept[i + 1 :]
        # "a hatless and happy man"; but "is treeless and a dog runs"
        joined = word(kept, i + 1) in _JOINING and word(kept, i + 2) not in lex.DETERMINERS
        return kept[:i] + kept[i + 1 + joined :]
    if word(kept, i - 1) in lex.DETERMINERS and i + 1 < len(kept) and kept[i + 1].word == ",":
        return kept[:i] + kept[i + 2 :]
    return _cut(kept, i, i + 1)


def _cut(kept: list[Token], start: int, end: int) -> list[Token]:
    left = _left_edge(kept, start)
    if word(kept, left - 1) in _SUBJECTS and not word(kept, left - 2) and not word(kept, end):
        left -= 1  # "A street. | It has no cars."
    if left > 0 and end < len(kept) and kept[end].word == "," and _goes_on(kept, end + 1):
        end += 1  # "two men, neither in a hat, | sit"
    after = _after_joining(kept, end)
    if after > end:
        continued = _left_of_continuation(kept, start, left, after)
        return kept[:left] + kept[end:] if continued is None else kept[:continued] + kept[after:]
    if left == 0 or kept[left - 1].word == ".":
        return kept[:left] + _without_preposition(kept[end:])
    existential = any(word(kept, k) == "there" for k in range(left, start))
    return _without_preposition(kept[:left]) if existential and end == len(kept) else kept[:left] + kept[end:]


def _left_edge(kept: list[Token], start: int) -> int:
    """Where the words that only lead to the cue begin: "who is", "there are", "with", "and"."""
    k = start
    cue = kept[start].cue
    # "on no bench", "eating no food"; but "walking around | without a hat", "around | free of hats"
    if cue is not None and cue.family in ("noun", "pronoun"):
        participle = word(kept, k - 1).endswith("ing") and is_participle(kept, k - 1)
        noun_like = cue.family == "pronoun" or kept[start].word.partition(" ")[0] in _NOUN_LIKE
        k -= (noun_like and word(kept, k - 1) in lex.PREPOSITIONS) or participle
    while k > 0:
        in_which = word(kept, k - 1) in {"in", "on"} and word(kept, k) == "which"
        if not (word(kept, k - 1) in _LEADING or kept[k - 1].word == "," or in_which):
            break
        k -= 1
    return _clause_edge(kept, k) if k < start else k


def _clause_edge(kept: list[Token], k: int) -> int:
    """The start of a "whose …" or "where …" clause whose verb has just been cut, if k ends one; else k."""
    for j in range(k - 1, max(k - 6, -1), -1):
        w = word(kept, j)
        if w == "whose" or (w in {"where", "which"} and j < k - 1):
            return j
        if not w or w in lex.CARRIERS or w in lex.PREPOSITIONS:
            break
    return k


def _after_joining(kept: list[Token], end: int) -> int:
    """Where the text goes on after a conjunction or an "except" at `end`; `end` if neither stands there."""
    for phrase in _EXCEPTIVES:
        if [word(kept, end + k) for k in range(len(phrase))] == phrase:
            return end + len(phrase)
    comma = end < len(kept) and kept[end].word == ","
    return end + comma + 1 if word(kept, end + comma) in {"and", "but", "or"} else end


def _left_of_continuation(kept: list[Token], start: int, left: int, after: int) -> int | None:
    """Where to cut from when "and …" follows: what led to the cue may lead on to it. None keeps the "and"."""
    w, cue = word(kept, after), kept[start].cue
    led = any(word(kept, k) for k in range(left, start))
    participle = is_participle(kept, after) and w.endswith("ing")
    if w in lex.PREPOSITIONS:
        return left
    if w == "there":
        return None
    if not led and left > 0:
        if kept[left].word == "," and word(kept, after - 1) not in lex.CONJUNCTIONS:
            return start  # "minimal, no furniture except | a sofa"
        return left if participle and cue is not None and cue.family == "verb" else None
    if _goes_on(kept, after):
        # "that has no collar and is running": "that" leads on, "has" does not.
        return max((k + 1 for k in range(left, start) if word(kept, k) in lex.RELATIVES), default=left)
    if cue is not None and cue.family == "verb":
        # "who isn't smiling and a dog", but "isn't a dog but a cat"
        return None if word(kept, after - 1) == "and" and w in lex.DETERMINERS else start
    if participle:
        return left
    return start


def _goes_on(kept: list[Token], i: int) -> bool:
    """Whether a finite verb stands at i, so that the sentence goes on with what stood before the cut."""
    return is_auxiliary(kept, i) or word(kept, i) in _FINITE


def _without_preposition(kept: list[Token]) -> list[Token]:
    """ "the street" for "in the street", all that stays of "there are no cars in the street"."""
    k = 0
    while word(kept, k) in lex.PREPOSITIONS:
        k += 1
    return kept[k:]
