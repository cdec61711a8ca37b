"""The parser's words, read once from lexicon.json: adding a word there changes no code."""

import json
from pathlib import Path
from typing import Any

DATA: dict[str, Any] = json.loads((Path(__file__).parent / "lexicon.json").read_text(encoding="utf-8"))


def words(name: str) -> frozenset[str]:
    """The word list of that name in lexicon.json."""
    return frozenset(DATA[name])


DETERMINERS = words("determiners")
PRONOUNS = words("pronouns")
POSSESSIVES = words("possessives")
PREPOSITIONS = words("prepositions")
CONJUNCTIONS = words("conjunctions")
RELATIVES = words("relatives")
AUXILIARIES = words("be_and_modals")
HAVING = words("having")
ADVERBS = words("adverbs")
POSTPOSED = words("postposed")
UNSEEN = words("unseen")
ANIMATE = words("animate")
BODY_PARTS = words("body_parts")
ING_NOUNS = words("ing_nouns")
ED_WORDS = words("ed_words")
PARTICIPLES = words("participles")
FINITE_VERBS = words("finite_verbs")
BARE_VERBS = words("bare_verbs")
BARE_PLURALS = words("bare_plurals")
CARRIERS = words("carriers") | AUXILIARIES | ADVERBS
INDEFINITES: dict[str, str] = DATA["indefinites"]
