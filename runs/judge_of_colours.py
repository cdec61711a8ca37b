"""How right the miniature's judge is about coloured things ("red car") on held-out drawings. Prints precision and recall.

    python runs/judge_of_colours.py 300

Coloured people are left out: no prompt of `geneval` asks for one.
"""

import sys

import numpy as np

from eval.judges.miniature import MiniatureJudge, scene_labels
from eval.statistics import share
from negclip_core.models import resolve
from negclip_core.world.catalog import COLOURS
from negclip_core.world.drawing import draw
from pipelines.miniature.data import SIZE, scene


def main(count: int) -> None:
    """Ask the judge for every coloured thing in each of `count` drawings of the test split."""
    judge = MiniatureJudge.load(resolve("miniature/judge"))
    labels = [name for name in judge.labels if name.split()[0] in COLOURS and not name.endswith("person")]
    scenes = [scene("test", index) for index in range(count)]
    said = judge.answers(
        np.stack([draw(each, SIZE, instances=False).image for each in scenes]), [labels] * count
    )
    there = [scene_labels(each) for each in scenes]
    claimed = [label in true for own, true in zip(said, there, strict=True) for label in labels if own[label]]
    found = [
        bool(own[label]) for own, true in zip(said, there, strict=True) for label in labels if label in true
    ]
    for name, rows in (("precision", claimed), ("recall", found)):
        estimate = share(sum(rows), len(rows))
        print(f"{name:9s} {estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]  n {len(rows)}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
