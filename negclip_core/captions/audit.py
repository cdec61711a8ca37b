"""How much negation a corpus of captions holds: counts that grow with each batch.

What is a negation is `negclip_core.negation.cues.find_cues`'s to say; this file only counts.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from negclip_core.captions.corpus import Batch
from negclip_core.captions.misalignment import Misalignment
from negclip_core.negation.cues import Cue, find_cues

__all__ = ["Audit"]

_EXAMPLES = 3  # kept of each cue
_AROUND = 60  # characters kept on either side of an example's cue
_TIGHT = re.compile(r"\s*(['/-])\s*")


@dataclass
class Audit:
    """Counts over captions.

    `negation_words` are cues, each counted as one word. `cues` counts the captions that hold a cue, by the cue as
    written, in lower case. `examples` keeps the first few captions of each cue, shortened.
    """

    captions: int = 0
    blank: int = 0
    words: int = 0
    with_negation: int = 0
    negation_words: int = 0
    cues: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    misalignment: Misalignment | None = None

    def add(self, batch: Batch) -> None:
        """Count a batch, in the order of the corpus."""
        self.captions += batch.captions
        self.blank += batch.blank
        self.words += batch.words
        for text, image in batch.suspects:
            if cues := find_cues(text):
                self._add(text, cues)
                if self.misalignment is not None:
                    self.misalignment.add(text, image)

    def _add(self, text: str, cues: list[Cue]) -> None:
        self.with_negation += 1
        self.negation_words += len(cues)
        for name, cue in {_name(text[slice(*cue.span)]): cue for cue in reversed(cues)}.items():
            self.cues[name] += 1
            if len(self.examples[name]) < _EXAMPLES:
                self.examples[name].append(_around(text, cue.span))


def _name(cue: str) -> str:
    """The cue as usually written: "n't" for "N ’ t", "no sign of" for "no  sign of"."""
    return " ".join(_TIGHT.sub(r"\1", cue.lower().replace("\u2019", "'")).split())


def _around(text: str, span: tuple[int, int]) -> str:
    """The text on one line, cut to what stands around the span."""
    start, end = max(0, span[0] - _AROUND), span[1] + _AROUND
    cut = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{cut}{'…' if end < len(text) else ''}"
