"""What each cue negates: the words of its scope, the absent things they name, the tokens to cut with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from negclip_core.negation import lexicon as lex
from negclip_core.negation.lists import attached, names, noun_list
from negclip_core.negation.phrases import (
    aside,
    belonging,
    bound_phrase,
    breaks,
    is_auxiliary,
    is_finite,
    is_participle,
    noun_phrase,
    predicate,
    word,
)
from negclip_core.negation.tokens import Span, Token

_EMPTY = lex.CARRIERS | lex.CONJUNCTIONS
_FAR = 200  # tokens that are looked back over: no sentence is longer, and "no" a million times must not take a day
_PLURAL = frozenset({"are", "were"})
_PERFECT = frozenset({"can", "has", "have"})
_TAKES_BARE_VERB = frozenset({"do", "does", "did", "to", "can", "ca", "could", "will", "wo", "would"})


@dataclass(frozen=True, slots=True)
class Scope:
    """Token ranges: the scope, and all that its sentence loses with it; between them the absent things."""

    span: Span
    absent: tuple[str, ...]
    cut: Span


def resolve(tokens: Sequence[Token], text: str, i: int) -> Scope:
    """The scope of the cue at token i."""
    cue = tokens[i].cue
    assert cue is not None
    if cue.family == "affix":
        return Scope((i, i), (text[cue.word_span[0] : cue.span[0]],), (i, i + 1))
    if cue.family == "after":
        return _before(tokens, text, i)
    if cue.family == "pronoun":
        return _of_pronoun(tokens, text, i)
    if cue.family == "noun":
        return _of_noun_cue(tokens, text, i)
    return _of_verb_cue(tokens, text, i)


def _of_noun_cue(tokens: Sequence[Token], text: str, i: int) -> Scope:
    """ "no [cars in sight]", "without [a hat]", "free of [cars]", "nor [people]"."""
    if _is_flag(tokens, i):
        return _listed(tokens, text, i)
    j = i + 1
    if word(tokens, j) in lex.PREPOSITIONS:  # "nor in the street"
        return _place(tokens, text, i, j)
    if is_participle(tokens, j) and word(tokens, j).endswith("ing") and tokens[i].word != "no":
        return _verb(tokens, text, i, j)
    while word(tokens, j) in lex.ADVERBS | {"more"}:
        j += 1
    if tokens[i].word.endswith(" of") and (host := _host_of_all(tokens, i, j)):
        end = predicate(tokens, host, keep_places=True)
        return Scope((i + 1, end), _denied(tokens, text, host, end), (host, end))
    pair = _neither_of(tokens, i)
    return _nouns(tokens, text, i, j, _opens_clause(tokens, pair), _nothing_before(tokens, pair))


def _host_of_all(tokens: Sequence[Token], i: int, j: int) -> int:
    """Where the nouns at j end, if something is denied of all of them: "none of [the people] wear hats"; else 0."""
    end = noun_phrase(tokens, j)
    verb = is_auxiliary(tokens, end) or is_finite(tokens, end) or word(tokens, end) in lex.HAVING
    return end if tokens[i].word.split()[0] in ("none", "neither") and end > j and verb else 0


def _is_flag(tokens: Sequence[Token], i: int) -> bool:
    """Whether the cue at i is written as "--no", which tools take that draw pictures."""
    return i > 1 and tokens[i - 1].word == tokens[i - 2].word == "-" and tokens[i - 1].end == tokens[i].start


def _listed(tokens: Sequence[Token], text: str, i: int) -> Scope:
    """ "--no [cars, people]": all that is listed between commas, up to another flag."""
    end = next((k for k in range(i + 1, len(tokens)) if _is_flag(tokens, k)), len(tokens) + 2) - 2
    bounds = [i, *(k for k in range(i + 1, end) if tokens[k].word == ","), end]
    items = [(a + 1, b) for a, b in pairwise(bounds)]
    return Scope((i + 1, end), names(tokens, text, items), (i - 2, end))


def _of_pronoun(tokens: Sequence[Token], text: str, i: int) -> Scope:
    """ "nobody [is sitting on]", "no one [under it]", "none [of whom wear hats]"."""
    j = i + 1
    governed = (
        word(tokens, i - 1) in lex.PREPOSITIONS
    )  # "with no one in it | is empty": the verb is the host's
    if not (governed and is_auxiliary(tokens, j)):
        if bound_phrase(tokens, j) == j and (not breaks(tokens, j) or is_auxiliary(tokens, j)):
            j = predicate(tokens, j, _nothing_before(tokens, i))
        while belonging(tokens, j) > j:
            j = belonging(tokens, j)
    if tokens[i].word.startswith("none"):
        return Scope((i + 1, j), _denied(tokens, text, i + 1, j), (i, j))
    return Scope((i + 1, j), (lex.INDEFINITES.get(tokens[i].word, "people"),), (i, j))


def _denied(tokens: Sequence[Token], text: str, start: int, end: int) -> tuple[str, ...]:
    """What "none" denies: the object in "none (are) wearing hats", else the predicate."""
    while is_auxiliary(tokens, start):
        start += 1
    items = noun_list(tokens, start + 1)[0] if word(tokens, start) in lex.HAVING else []
    return names(tokens, text, items or [(start, end)])


def _of_verb_cue(tokens: Sequence[Token], text: str, i: int) -> Scope:
    """ "not [wearing a hat]", "n't [red]", "never [eats grass]", "not [a car]"."""
    j = i + 1
    while word(tokens, j) in lex.ADVERBS | {"be", "been", "being"}:
        j += 1
    while tokens[i].word == "never" and is_auxiliary(tokens, j):
        j += 1
    unseen = max(aside(tokens, j), j + (word(tokens, j) in lex.UNSEEN))
    # "not visible", "not in the picture": where the sentence names a subject, that is what is absent.
    subject = _subject(tokens, i) if unseen > j else None
    if subject:
        verbless = subject[1] == i
        items = _with_others(tokens, subject) if verbless or word(tokens, i - 1) in _PLURAL else [subject]
        first = items[0][0]
        end = predicate(tokens, j, _nothing_before(tokens, first))
        return Scope((i + 1, end), names(tokens, text, items), (first, end))
    if unseen > j or word(tokens, j) in lex.PREPOSITIONS:
        return _place(tokens, text, i, j)
    if word(tokens, j) in lex.HAVING or is_participle(tokens, j) or word(tokens, i - 1) in _TAKES_BARE_VERB:
        return _verb(tokens, text, i, j)
    return _nouns(tokens, text, i, j, subject=False, keep_places=_nothing_before(tokens, i))


def _nouns(tokens: Sequence[Token], text: str, i: int, j: int, subject: bool, keep_places: bool) -> Scope:
    """The scope of the cue at i over the nouns from j on, and what belongs to them."""
    items, end = noun_list(tokens, j)
    if items:
        end = attached(tokens, items, end, subject, keep_places)
    return Scope((i + 1, end), names(tokens, text, items), (i, end))


def _verb(tokens: Sequence[Token], text: str, i: int, j: int) -> Scope:
    """The scope over the verb at j: of "wearing a hat" the hat is absent, "eating grass" is so as a whole."""
    keep_places = _nothing_before(tokens, i)
    if word(tokens, j) in lex.HAVING:
        k = j + 1
        while word(tokens, k) in lex.HAVING:
            k += 1
        if noun_phrase(tokens, k) > k:
            return _nouns(tokens, text, i, k, subject=False, keep_places=keep_places)
    return _alternatives(tokens, text, i, predicate(tokens, j, keep_places))


def _place(tokens: Sequence[Token], text: str, i: int, j: int) -> Scope:
    """The scope over a place or a fixed phrase at j ("not by the bed", "not fully visible")."""
    end = max(aside(tokens, j), j + (word(tokens, j) in lex.UNSEEN))
    if end == j:
        while word(tokens, end) in lex.PREPOSITIONS:
            end += 1
        end = max(bound_phrase(tokens, j), noun_phrase(tokens, end))
    while word(tokens, end) in lex.ADVERBS:
        end += 1
    return _alternatives(tokens, text, i, end)


def _alternatives(tokens: Sequence[Token], text: str, i: int, end: int) -> Scope:
    """The scope from the cue to `end`, whose parts between "or" are absent one by one."""
    bounds = [i, *(k for k in range(i + 1, end) if word(tokens, k) == "or"), end]
    parts = [(a + 1, b) for a, b in pairwise(bounds)]
    return Scope((i + 1, end), names(tokens, text, parts), (i, end))


def _before(tokens: Sequence[Token], text: str, i: int) -> Scope:
    """ "with [cars] absent", "[cars and people] nowhere to be seen"."""
    end = aside(tokens, i + 1)
    subject = _subject(tokens, i)
    if not subject:
        return Scope((i + 1, i + 1), (), (i, end))
    items = _with_others(tokens, subject)
    return Scope((items[0][0], items[-1][1]), names(tokens, text, items), (items[0][0], end))


def _with_others(tokens: Sequence[Token], subject: Span) -> list[Span]:
    """A subject and those that are joined to it on its left: "[the cat] and [the dog] aren't here"."""
    items = [subject]
    while word(tokens, items[0][0] - 1) in {"and", "or"}:
        left = _subject(tokens, items[0][0] - 1)
        # "a tree and cars nowhere to be seen": an article of its own sets the first one apart; "a man sits and the
        # dogs aren't there": so does what it does.
        if (
            not left
            or (_has_article(tokens, left) and not _has_article(tokens, items[0]))
            or any(is_finite(tokens, k) or is_participle(tokens, k) for k in range(*left))
        ):
            break
        items.insert(0, left)
    return items


def _subject(tokens: Sequence[Token], i: int) -> Span | None:
    """The noun phrase that the word at i is said of: "whose [head] is not visible", "[cars] are absent"."""
    end = i
    while is_auxiliary(tokens, end - 1) or word(tokens, end - 1) in _PERFECT | lex.ADVERBS:
        end -= 1
    start = _phrase_start(tokens, end)
    # Without an auxiliary ("parts not shown") it is the host itself, unless "whose" or "with" leads to it and what is
    # joined to it, or they stand apart ("a street, cars not shown"). Tokenised captions have "who 's" for "whose".
    first = start
    while word(tokens, first - 1) in {"and", "or"}:
        first = _phrase_start(tokens, first - 1)
    led = word(tokens, first - 1) in {"whose", "with", "where"} or word(tokens, first - 2) == "who"
    cue = tokens[i].cue
    said = led or end < i or _apart(tokens, first, i) or cue is None or cue.family == "after"
    return (start, end) if start < end and said else None


def _phrase_start(tokens: Sequence[Token], end: int) -> int:
    """Where the phrase that ends before `end` begins."""
    while not breaks(tokens, end - 1):
        end -= 1
    return end


def _apart(tokens: Sequence[Token], start: int, i: int) -> bool:
    """Whether what starts at `start` and is denied at i is a clause of its own: after a comma, or up to one."""
    ends = i + 1
    while word(tokens, ends):
        ends += 1
    goes_on = ends < len(tokens) - 1 and tokens[ends].word == ","
    return tokens[start - 1].word == "," if start else goes_on


def _has_article(tokens: Sequence[Token], item: Span) -> bool:
    return word(tokens, item[0]) in lex.DETERMINERS


def _opens_clause(tokens: Sequence[Token], i: int) -> bool:
    """Whether the cue at i stands where a subject stands: first, after a mark, or after "which", "where"."""
    before = word(tokens, i - 1)
    return not before or before in lex.RELATIVES


def _neither_of(tokens: Sequence[Token], i: int) -> int:
    """Where the "neither" of a "nor" at i stands, as both share its place; i itself without one."""
    if tokens[i].word != "nor":
        return i
    return next((k for k in range(i - 1, max(-1, i - _FAR), -1) if tokens[k].word == "neither"), i)


def _nothing_before(tokens: Sequence[Token], i: int) -> bool:
    """Whether only words like "there are" stand before i, so that a place after it is all that stays."""
    for k in range(i - 1, max(-1, i - _FAR), -1):
        if tokens[k].word == ".":
            return True
        if tokens[k].is_word and tokens[k].word not in _EMPTY:
            return False
    return True
