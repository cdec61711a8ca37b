"""Whether a caption was rewritten well: a negation is there, what it denies is what is absent, the rest survived."""

import re
from collections.abc import Collection

from negclip_core.language import parse

__all__ = ["denied", "failure"]

_LOST = 5  # one content word in so many may be lost
_NEW = 3  # content words that may come in: "in sight", "anywhere to be seen"
_LONGER = 14  # words that a caption may grow by
_FUNCTION = (
    "a an the this that these those there here it its is are was were be been being has have had do does did of in on at "
    "to by for with from and or nor but not no none nobody neither never without any some one who which while as into "
    "onto up down over near his her their he she they him them isn aren doesn don didn t s can cannot"
)
_FUNCTION_WORDS = frozenset(_FUNCTION.split())


def failure(text: str, caption: str, absent: Collection[Collection[str]], kept: str | None = None) -> str:
    """Why `text` does not say of `caption` that things are absent, as its counts name it; "" where it does.

    `absent` has for each thing all its names in lower case, `kept` what is to survive where it is not the whole caption.
    """
    kept = caption if kept is None else kept
    negations = parse(text).negations
    if not negations:
        return "no negation"
    found = denied(text, caption)
    if any(not any(_names(thing, forms) for thing in found) for forms in absent):
        return "does not deny what is absent"
    said = set(_stems(caption))
    joined = not any(re.search(r"\b(?:or|nor)\b", negation.scope) for negation in negations)
    for thing in found:
        # "a man without a hat and a dog" is of a man and a dog, though it may be read otherwise.
        listed = joined and set(_stems(thing)) <= said
        if not listed and not any(_names(thing, forms) for forms in absent):
            return "denies something else"
    words, new = _stems(kept), set(_stems(text)) - said
    lost = [word for word in words if word not in _stems(text)]
    if len(lost) > len(words) // _LOST:
        return "lost the caption"
    named = {stem for forms in absent for form in forms for stem in _stems(form)}
    if len(new - named) > _NEW:
        return "says more than the caption"
    return "too long" if len(text.split()) > len(caption.split()) + _LONGER else ""


def denied(text: str, caption: str) -> list[str]:
    """What a text says is absent, in lower case, beyond what the caption already said so."""
    before = {thing.lower() for each in parse(caption).negations for thing in each.absent}
    found = [thing.lower() for each in parse(text).negations for thing in each.absent]
    return [thing for thing in dict.fromkeys(found) if thing not in before]


def _names(thing: str, forms: Collection[str]) -> bool:
    """Whether a denied thing is one of these: "cars", "visible cars", "the red one"; not "car park"."""
    words = thing.removesuffix(" one").split()
    return any(words[-len(form.split()) :] == form.split() for form in forms)


def _stems(text: str) -> list[str]:
    """The content words, without the endings that a rewriting may change."""
    words = re.findall(r"[^\W\d_]+|\d+", text.lower())
    return [re.sub(r"(?:ing|es|s)$", "", word) or word for word in words if word not in _FUNCTION_WORDS]
