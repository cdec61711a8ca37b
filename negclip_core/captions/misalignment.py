"""Captions that deny what their picture shows, by COCO instances: an estimate of how misaligned negation is.

Only what can be decided is counted: a caption denies a whole category ("no cars", not "no parked cars") of the picture,
not of someone in it ("a man without a tie"), and the annotations cover its picture.
"""

import re
from collections.abc import Mapping
from typing import Any

from negclip_core.captions.annotated import Annotations
from negclip_core.language import Negation, parse
from negclip_core.negation import lexicon as lex

__all__ = ["Misalignment"]

_SAYS_THERE = {"is", "are", "was", "were", "have", "has", "had", "contain", "include", "show", "feature"}
_FILLING = re.compile(
    rf"\b(?:{'|'.join(lex.DATA['asides'])}|{'|'.join(lex.DETERMINERS | lex.UNSEEN | _SAYS_THERE | {'and', 'or'})})\b|,"
)
_OF_SOMEONE = re.compile(rf"\b(?:{'|'.join(lex.ANIMATE)})(?: (?:{'|'.join(lex.CARRIERS | lex.HAVING)}))* ?$")


class Misalignment:
    """Of the captions added, how many could be checked, and how many of those their picture contradicts.

    `unknown` are those that deny a category as well, but of a picture that the instances do not name.
    """

    def __init__(self, instances: Mapping[str, Any]) -> None:
        annotations = Annotations(instances)
        self._kinds, self._categories = annotations.kinds, annotations.names.same
        named = [image for image in instances["images"] if image.get("file_name")]
        self._images = {image["file_name"]: image["id"] for image in named}
        self._images |= {str(key): key for key in annotations.places}
        self.checked = self.contradicted = self.unknown = 0

    def add(self, text: str, image: str) -> None:
        """Check a caption against its image, named by id or file."""
        denied = self.denied(text)
        if not denied:
            return
        if image not in self._images:
            self.unknown += 1
            return
        self.checked += 1
        self.contradicted += not denied.isdisjoint(self._kinds.get(self._images[image], ()))

    def denied(self, text: str) -> set[str]:
        """The categories that a caption says its picture lacks."""
        negations = [n for n in parse(text).negations if _of_the_picture(text, n)]
        things = {thing.lower() for negation in negations for thing in negation.absent}
        return {self._categories[thing] for thing in things if thing in self._categories}


def _of_the_picture(text: str, negation: Negation) -> bool:
    """Whether nothing narrows what is absent, and nobody is said to lack it."""
    rest = negation.scope.lower()
    for thing in sorted(negation.absent, key=len, reverse=True):
        rest = rest.replace(thing.lower(), " ", 1)
    first = min(negation.cue_span[0], negation.scope_span[0])
    return not _FILLING.sub(" ", rest).strip() and not _OF_SOMEONE.search(text[:first].lower())
