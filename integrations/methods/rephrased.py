"""What is denied is said anew, in the words that text encoders know best, and NegationCLIP reads that.

"a park with dogs nowhere to be seen, at night" and "a park devoid of dogs, at night" become "a park with no dogs, at night":
the parser knows more phrasings than a text tower has met in training. A prompt stays as it is where it says nothing else,
where what it denies is no thing ("not smiling", "not on the sofa"), and where a word or a weight would be lost.
"""

import re
from itertools import groupby

from negclip_core.language import Parse, parse
from negclip_core.negation import lexicon as lex
from negclip_core.negation.phrases import may_be_participle

SWAPS_TEXT_ENCODER = True
NEEDS_GUIDANCE = False

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
# What leads to a negation, or goes on with it, and says nothing by itself.
_EMPTY = (
    lex.DETERMINERS | lex.PRONOUNS | lex.POSSESSIVES | lex.PREPOSITIONS | lex.CONJUNCTIONS | lex.RELATIVES | lex.CARRIERS
    | lex.HAVING | lex.POSTPOSED | lex.INDEFINITES.keys() | {word for aside in lex.DATA["asides"] for word in _WORD.findall(aside)}
)  # fmt: skip
_JOINING = lex.DETERMINERS | lex.POSSESSIVES | lex.PREPOSITIONS | lex.CONJUNCTIONS
_BEFORE_NOUNS = _JOINING | {"of"}
_BEHIND_NOUNS = _JOINING | lex.RELATIVES | lex.CARRIERS | lex.FINITE_VERBS | lex.PARTICIPLES
_NO_NOUNS = lex.PREPOSITIONS | lex.ADVERBS | lex.BARE_VERBS | lex.POSTPOSED | {"get"}


def arguments(prompt: str) -> dict[str, str]:
    parsed = parse(prompt)
    if not _denies_things(parsed):
        return {"prompt": prompt}
    rephrased = _rephrased(parsed)
    return {"prompt": prompt if _loses_a_word(parsed, rephrased) else rephrased}


def _denies_things(parsed: Parse) -> bool:
    """Whether the prompt denies things only, and says something else as well."""
    named = [thing for negation in parsed.negations for thing in negation.absent]
    things = not any(_is_no_thing(thing.lower().split()[0]) for thing in named)
    return bool(
        _WORD.search(parsed.affirmative)
        and named
        and things
        and all(each.absent for each in parsed.negations)
    )


def _is_no_thing(first: str) -> bool:
    """Whether what is denied begins with a verb, "visible", "on" or "fully", and so is no thing."""
    return may_be_participle(first) or first in _NO_NOUNS


def _rephrased(parsed: Parse) -> str:
    """The affirmative rest, with each thing denied where the prompt denies it."""
    rest = parsed.affirmative.rstrip(".")
    places = [
        (_place(parsed.text[: min(each.cue_span[0], each.scope_span[0])], rest), each.absent)
        for each in parsed.negations
    ]
    text, done, told = "", 0, set[str]()
    for place, group in groupby(sorted(places, key=lambda each: each[0]), key=lambda each: each[0]):
        things = [
            thing for thing in dict.fromkeys(t for _, absent in group for t in absent) if thing not in told
        ]
        text, done = text + rest[done:place], place
        told.update(things)
        if things:
            clause = re.split(r"[,.;:]", rest[:place])[-1]
            joined = "and" if " with " in f" {clause} " else "with"
            text += f" {joined} " + " and ".join(f"no {thing}" for thing in things)
    return text + rest[done:]


def _place(before: str, rest: str) -> int:
    """Where in the rest to deny what the prompt denies after `before`: there, if that is behind a noun and more can follow."""
    said, words = [_plain(word) for word in _WORD.findall(before)], list(_WORD.finditer(rest))

    def ends(count: int) -> bool:
        """Whether a clause ends behind that many words."""
        return count == len(words) or bool(rest[words[count - 1].end() : words[count].start()].strip())

    count = position = 0
    while count < len(words) and (word := _plain(words[count].group())) in said[position:]:
        position, count = said.index(word, position) + 1, count + 1
    if count and _plain(words[count - 1].group()) in _BEFORE_NOUNS:
        # "a | carless street": behind the noun, which is still to come
        count = next(
            (k for k in range(count + 1, len(words)) if ends(k) or _goes_on(words[k].group())), len(words)
        )
    # "a beach with two dogs | and no people", not "a beach | with no people with two dogs"
    here = count and (
        ends(count) or (_goes_on(words[count].group()) and _plain(words[count].group()) != "with")
    )
    if not here:
        count = next((k for k in range(max(count, 1), len(words)) if ends(k)), len(words))
    return words[count - 1].end()


def _plain(word: str) -> str:
    return "a" if word.lower() == "an" else word.lower()


def _goes_on(word: str) -> bool:
    """Whether a word that follows a noun is no part of its phrase."""
    word = word.lower()
    return word in _BEHIND_NOUNS or (word.endswith("ing") and may_be_participle(word))


def _loses_a_word(parsed: Parse, text: str) -> bool:
    """Whether a word of the prompt that says something, or a number, is neither in a negation's cue nor in the text."""
    left = parsed.text
    for start, end in sorted((each.cue_span for each in parsed.negations), reverse=True):
        left = f"{left[:start]} {left[end:]}"
    kept = {_stem(word) for word in _WORD.findall(text.lower())}
    return any(word not in _EMPTY and _stem(word) not in kept for word in _WORD.findall(left.lower()))


def _stem(word: str) -> str:
    return word.rstrip("s")
