"""How often the miniature's judge and a person agree on generated pictures. Prints precision, recall, false alarms, kappa.

    python runs/judge_against_people.py docs/results/labelled/labels.json

The labels were given by looking at enlarged pictures, without knowing the prompt or the judge's verdict; what could not
be told was left open, and is not counted.
"""

import sys
from pathlib import Path

import numpy as np

from eval.agreement import agreement
from eval.judges.labels import LabelFile
from eval.judges.miniature import MiniatureJudge
from eval.statistics import share
from negclip_core.images import open_image
from negclip_core.models import resolve
from pipelines.miniature.judge import against_people


def _answers(labels: Path, judge: MiniatureJudge) -> list[tuple[bool, bool]]:
    """What the judge and a person say of each label of each picture that the person could tell."""
    file = LabelFile.read(labels)
    pictures = np.stack([np.asarray(open_image(labels.parent / name)) for name in file.images.values()])
    people = [file.answers[key] for key in file.images]
    said = judge.answers(pictures, [list(own) for own in people])
    return [
        (bool(verdicts[label]), there)
        for verdicts, own in zip(said, people, strict=True)
        for label, there in own.items()
        if there is not None
    ]


def main(labels: Path) -> None:
    """Print a line for all labels together, one for each label, and how far the two agree."""
    judge = MiniatureJudge.load(resolve("miniature/judge"))
    found = against_people(labels, judge)
    for name, row in {"all": found["all"], **found["labels"]}.items():
        line = (
            f"{name:12s} n {row['n']:4d}  present {row['present']:3d}  false alarms {row['false_alarms']:.3f}"
        )
        if row["present"]:
            recall = share(round(row["recall"] * row["present"]), row["present"])
            line += f"  precision {row['precision']:.3f}"
            line += f"  recall {recall.value:.3f} [{recall.low:.3f}, {recall.high:.3f}]"
        print(line)
    both = agreement(_answers(labels, judge))
    print(
        f"same answer {both['same']:.3f}  kappa {both['kappa']:.3f} [{both['low']:.3f}, {both['high']:.3f}]  n {both['n']}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
