"""Several nouns under one cue ("cars, people or dogs"), and what belongs to them ("sitting on it")."""

from collections.abc import Sequence

from negclip_core.negation import lexicon as lex
from negclip_core.negation.phrases import (
    belonging,
    bound_phrase,
    is_auxiliary,
    is_finite,
    is_participle,
    noun_phrase,
    predicate,
    surface,
    word,
)
from negclip_core.negation.tokens import Span, Token

_JOINING = frozenset({"and", "or"})


def names(tokens: Sequence[Token], text: str, items: Sequence[Span]) -> tuple[str, ...]:
    """The items as absent things; empty ones are left out."""
    return tuple(filter(None, (surface(tokens, text, a, b) for a, b in items)))


def noun_list(tokens: Sequence[Token], i: int) -> tuple[list[Span], int]:
    """The noun phrases from i on that one cue covers, and where they end; none and i where no noun stands."""
    end = noun_phrase(tokens, i)
    if end == i:
        return [], i
    items = [(i, end)]
    while True:
        between, k = _after_commas(tokens, end)
        if word(tokens, k) not in _JOINING:
            return items, end
        after = _joined(tokens, items[-1], k + 1)
        if after == k + 1:
            return items, end
        items += [*between, (k + 1, after)]
        end = after


def _after_commas(tokens: Sequence[Token], end: int) -> tuple[list[Span], int]:
    """The bare nouns between commas from `end` on, and where a closing "and" or "or" would stand.

    They count only if that word is there: "no cars, people or dogs" lists, "no cars, quiet street" does not.
    """
    between: list[Span] = []
    k = end
    while k < len(tokens) and tokens[k].word == ",":
        if word(tokens, k + 1) in _JOINING:
            return between, k + 1
        after = noun_phrase(tokens, k + 1)
        if after == k + 1 or word(tokens, k + 1) in lex.DETERMINERS:
            break
        between.append((k + 1, after))
        k = after
    return between, k


def _joined(tokens: Sequence[Token], last: Span, k: int) -> int:
    """The end of the noun phrase at k if it goes on a list whose latest item is `last`, else k."""
    end = noun_phrase(tokens, k)
    if end == k or word(tokens, k - 1) == "or":
        return end
    article = word(tokens, k) in lex.DETERMINERS
    animate = word(tokens, end - 1) in lex.ANIMATE
    # After "and" the second one may well be there: "no cars and a tree", "no cars and people walking",
    # "without a hat and a woman", "no hat and a dog is".
    there = (
        (article and word(tokens, last[0]) not in lex.DETERMINERS)
        or (article and animate and word(tokens, last[1] - 1) not in lex.ANIMATE)
        or (animate and is_participle(tokens, end) and bound_phrase(tokens, end + 1) == end + 1)
        or is_auxiliary(tokens, end)
    )
    return k if there else end


def attached(
    tokens: Sequence[Token], items: Sequence[Span], end: int, subject: bool, keep_places: bool
) -> int:
    """Where the scope ends once what belongs to the absent things is taken in: "people | sitting on it".

    `subject`: the nouns may have a finite verb ("no cars | can be seen"); `keep_places` as in `predicate`.
    """
    animate = word(tokens, items[-1][1] - 1) in lex.ANIMATE
    while True:
        further = belonging(tokens, end)
        if further == end:
            further = _verbal(tokens, end, animate, subject, keep_places)
        if further == end:
            return end
        end = further


def _verbal(tokens: Sequence[Token], i: int, animate: bool, subject: bool, keep_places: bool) -> int:
    """The end of the adjective, participle or finite verb at i that is said of the absent things, or i."""
    w = word(tokens, i)
    opens_place = w in lex.PREPOSITIONS and noun_phrase(tokens, i + 1) > i + 1
    if w in lex.POSTPOSED and not opens_place:
        return predicate(tokens, i, keep_places) if w.endswith("ing") else i + 1
    if is_participle(tokens, i):
        pointing_back = predicate(tokens, i, keep_places=True)
        if word(tokens, pointing_back - 1) in lex.PRONOUNS:
            return pointing_back
        # "without a hat | riding a horse" is said of the man, "no people | riding a horse" of the people.
        return predicate(tokens, i, keep_places) if animate or keep_places else i
    if subject and (is_auxiliary(tokens, i) or is_finite(tokens, i) or w in {"can", "has", "have"}):
        return predicate(tokens, i, keep_places)
    return i
