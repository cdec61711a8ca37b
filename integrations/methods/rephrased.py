"""What is denied is said anew, in the words that text encoders know best, and NegationCLIP reads that.

"a park with dogs nowhere to be seen" and "a park devoid of dogs" become "a park with no dogs": the parser knows more
phrasings than a text tower has met in training. A prompt that says nothing else, or denies what is no thing ("not
smiling"), stays as it is.
"""

from negclip_core.language import Parse, parse
from negclip_core.negation.lexicon import ING_NOUNS

SWAPS_TEXT_ENCODER = True
NEEDS_GUIDANCE = False


def arguments(prompt: str) -> dict[str, str]:
    parsed = parse(prompt)
    return {"prompt": _rephrased(parsed) if _denies_things(parsed) else prompt}


def _denies_things(parsed: Parse) -> bool:
    """Whether the prompt denies things only, and says something else as well."""
    named = [thing for negation in parsed.negations for thing in negation.absent]
    doings = [thing for thing in named if thing.endswith("ing") and thing not in ING_NOUNS]
    return bool(parsed.affirmative and named and not doings and all(each.absent for each in parsed.negations))


def _rephrased(parsed: Parse) -> str:
    rest = parsed.affirmative.rstrip(".")
    things = " and ".join(f"no {thing}" for thing in parsed.negative_prompt.split(", "))
    return f"{rest} {'and' if ' with ' in f' {rest} ' else 'with'} {things}"
