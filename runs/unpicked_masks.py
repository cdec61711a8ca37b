"""Twenty pairs of masks that nobody picked: the first held-out drawings of which something negated can be said.

    python runs/unpicked_masks.py OUT.png

Each pair is what vanilla marks on the left and what NegationCLIP marks on the right, by CLIPSeg alone, its expression below.
"""

import sys
from pathlib import Path

import numpy as np
from pair_sheet import pair_sheet
from PIL import Image

from integrations.referring import Finder
from negclip_core.clip import load_clip
from negclip_core.world.drawing import draw
from negclip_core.world.referring import referring
from pipelines.miniature.data import scene
from pipelines.overlay import tinted
from pipelines.pictures import write_png
from pipelines.segmenter import load_segmenter

_PAIRS = 20


def main(out: Path) -> None:
    """Find what the expressions mean and write the sheet."""
    segmenter = load_segmenter("miniature/clipseg", "cpu", quiet=True)
    arms = (
        Finder("vanilla", segmenter, None),
        Finder("negationclip", segmenter, load_clip("miniature/negationclip")),
    )
    rng = np.random.default_rng(0)
    texts: list[str] = []
    pictures: list[Image.Image] = []
    number = 0
    while len(texts) < _PAIRS:
        drawn = scene("test", number)
        number += 1
        said = [referring(drawn, index, rng, "test", negated=True) for index in range(len(drawn.things))]
        phrase = next((each for each in said if each is not None), None)
        if phrase is None:
            continue
        texts.append(phrase.text)
        pictures.append(Image.fromarray(draw(drawn).image))
    columns = []
    for arm in arms:
        with arm.reading():
            found = [arm.find(*each)[0][0] for each in zip(pictures, ([t] for t in texts), strict=True)]
        columns.append([tinted(*each) for each in zip(pictures, found, strict=True)])
    write_png(pair_sheet(texts, columns), out, {"model": "miniature/clipseg", "expressions": texts})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
