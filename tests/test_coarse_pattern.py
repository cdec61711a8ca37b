"""The coarse pattern lets no text with a cue go, however odd its letters, spaces and marks, and most others."""

import json
import random
import re
from pathlib import Path

import numpy as np
import polars as pl

from negclip_core.captions import phrasings
from negclip_core.captions.phrasings import templates
from negclip_core.negation.coarse import coarse_pattern
from negclip_core.negation.cues import find_cues
from negclip_core.negation.lexicon import DATA
from negclip_core.world.language import caption
from negclip_core.world.negation import negated_prompt
from negclip_core.world.scenes import sample_scene


def _missed(texts: list[str]) -> list[str]:
    """Those with a cue that the coarse pattern lets go."""
    passed = pl.Series(texts).str.contains(coarse_pattern())
    return [text for text, passes in zip(texts, passed, strict=True) if find_cues(text) and not passes]


def test_no_cue_is_missed_in_known_texts() -> None:
    rng = np.random.default_rng(0)
    folder = Path(__file__).parent / "language_cases"
    lines = [line for path in folder.glob("*.txt") for line in path.read_text("utf-8").splitlines()]
    texts = [line.split("|")[0] for line in lines]
    families = json.loads((Path(phrasings.__file__).parent / "phrasings.json").read_text("utf-8"))
    for family in families.keys() - {"families", "counterparts"}:
        for split in ("train", "validation", "test"):
            less = [re.sub(r"\{(a_)?less\w*\}", "hatless", t) for t in templates(family, split)]
            texts += [re.sub(r"\{\w+\}", "hat", re.sub(r"\{\w*free\}", "hat-free", t)) for t in less]
    texts += [negated_prompt(rng, "test").prompt for _ in range(300)]
    assert sum(bool(find_cues(text)) for text in texts) > 900
    assert _missed(texts) == []


def test_no_cue_is_missed_among_scraps() -> None:
    rng = random.Random(0)
    cues = " ".join(cue for patterns in DATA["cues"].values() for cue in patterns)
    words = re.findall("[a-z]+", cues)
    words += [word for name in ("triggers", "affix_bases", "negatable_auxiliaries") for word in DATA[name]]
    words += ["é", "\u0301", "狗", "a"]
    marks = [" ", " ", " ", "  ", "", "\t", "\x1c", "\xa0", "-", " - ", "/", " / ", "'", "’", " ' ", ",", "."]
    folded = {"i": "\u0130\u0131", "s": "\u017f", "k": "\u212a"}  # which Python takes for i, s and k
    texts = []
    for _ in range(60_000):
        text = "".join(rng.choice(words) + rng.choice(marks) for _ in range(rng.randint(1, 5)))
        text = text.upper() if rng.random() < 0.1 else text
        texts.append(
            re.sub("[isk]", lambda m: rng.choice(folded[m[0]]) if rng.random() < 0.3 else m[0], text)
            if rng.random() < 0.2
            else text
        )
    assert sum(bool(find_cues(text)) for text in texts) > 10_000
    assert _missed(texts) == []


def test_the_parser_is_spared_plain_captions() -> None:
    rng = np.random.default_rng(1)
    texts = pl.Series([caption(sample_scene(rng), rng) for _ in range(300)])
    assert texts.str.contains(coarse_pattern()).sum() == 0
