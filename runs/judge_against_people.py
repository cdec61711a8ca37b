"""How often the miniature's judge and a person agree on generated pictures. Prints precision, recall, false alarms.

    python runs/judge_against_people.py docs/results/labelled/labels.json

The labels were given by looking at enlarged pictures, without knowing the prompt or the judge's verdict; what could not
be told was left open, and is not counted.
"""

import sys
from pathlib import Path

from eval.judges.miniature import MiniatureJudge
from eval.statistics import share
from negclip_core.models import resolve
from pipelines.miniature.judge import against_people


def main(labels: Path) -> None:
    """Print a line for all labels together, and one for each label."""
    found = against_people(labels, MiniatureJudge.load(resolve("miniature/judge")))
    for name, row in {"all": found["all"], **found["labels"]}.items():
        line = (
            f"{name:12s} n {row['n']:4d}  present {row['present']:3d}  false alarms {row['false_alarms']:.3f}"
        )
        if row["present"]:
            recall = share(round(row["recall"] * row["present"]), row["present"])
            line += f"  precision {row['precision']:.3f}"
            line += f"  recall {recall.value:.3f} [{recall.low:.3f}, {recall.high:.3f}]"
        print(line)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
