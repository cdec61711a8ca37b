"""Precision and recall of what `negclip parse` calls absent, by cue; prints the tables of docs/results/language.md.

    python runs/language_figures.py

The cases are those of tests/language_cases. A case belongs to the cue whose words are in it, by the plain list below, not
by what the parser found; texts with the words of several cues are a row of their own. Texts without a negation that look as if they
had one count against precision where something is found in them.
"""

import re
from collections import Counter, defaultdict
from pathlib import Path

from eval.statistics import share
from negclip_core.language import parse

_CASES = Path(__file__).parents[1] / "tests" / "language_cases"
# Looked for in this order; what one has found is hidden from the next: "no one" is no "no".
_CUES = {
    "no one, nobody": r"\bno one\b|\bnobody\b|\bnot a soul\b",
    "nothing": r"\bnothing\b",
    "neither, nor, none": r"\bneither\b|\bnor\b|\bnone\b",
    "never": r"\bnever\b",
    "without": r"\bwithout\b|\bw/o\b|\bsans\b|\bminus\b",
    "instead of, except, but": r"\binstead of\b|\bexcept\b|\bother than\b|\bbut not\b",
    "-less, -free": r"[a-z]-?(?:less|free)\b",
    "free of, empty of": r"\b(?:free|empty|clear|bare|devoid) of\b",
    "lack": r"\black\w*",
    "missing, absent, nowhere": r"\bmissing\b|\babsent\b|\babsence\b|\bnowhere\b",
    "n't": r"n ?['’] ?t\b",
    "not": r"\bnot\b|\bcannot\b",
    "no": r"\bno\b|\bzero\b|\bnary\b",
}


def _cue(text: str) -> str:
    found, rest = [], text.lower()
    for name, words in _CUES.items():
        rest, count = re.subn(words, "_", rest)
        found += [name] if count else []
    return found[0] if len(found) == 1 else "several" if found else "none of these"


def _cases(name: str) -> list[tuple[str, Counter[str]]]:
    lines = (_CASES / f"{name}.txt").read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line and line[0] != "#"]
    return [(row[0], Counter(filter(None, "".join(row[1:2]).split("; ")))) for row in rows]


def _cell(right: int, n: int) -> str:
    if not n:
        return "| | "
    found = share(right, n)
    return f"| {found.value:.3f} [{found.low:.3f}, {found.high:.3f}] | {n} "


def table(cases: list[tuple[str, Counter[str]]]) -> list[str]:
    """A Markdown table: for each cue, of the absent things found how many are right, of the right ones how many are found."""
    right, found, wanted = (defaultdict[str, int](int) for _ in range(3))
    for text, things in cases:
        said = Counter(thing for negation in parse(text).negations for thing in negation.absent)
        for cue in ("all", _cue(text)):
            right[cue] += (said & things).total()
            found[cue] += said.total()
            wanted[cue] += things.total()
    lines = ["| cue | precision | found | recall | annotated |", "|---|---|---|---|---|"]
    for cue in sorted(found.keys() | wanted.keys(), key=lambda cue: -wanted[cue]):
        lines.append(f"| {cue} {_cell(right[cue], found[cue])}{_cell(right[cue], wanted[cue])}|")
    return lines


def main() -> None:
    """Print a table for the held-out cases and one for those that the rules were written against."""
    for title, names in {"Held out": ["held_out"], "Tuned on": ["tuned", "affirmative"]}.items():
        cases = [case for name in names for case in _cases(name)]
        print(f"## {title} ({len(cases)} texts)\n")
        print("\n".join(table(cases)), end="\n\n")


if __name__ == "__main__":
    main()
