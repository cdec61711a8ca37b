"""gRefCOCO: expressions that mean one thing, several, or nothing at all.

name: grefcoco
kind: segmentation
measures: gIoU, cIoU, N-acc (nothing meant, nothing found), T-acc (something meant, something found), and the area under
  the ROC curve of the hottest pixel for telling the two apart; with and without negation
main: giou
source: Liu et al., GRES: generalized referring expression segmentation, CVPR 2023
licence: as COCO's and gRefCOCO's
needs: grefs(unc).json with instances.json beside it, and COCO's train2014 images below --data
"""

from pathlib import Path

from eval.masks import measure, run
from eval.options import Options
from eval.refer_files import Referred, referred

__all__ = ["items", "measure", "run"]


def items(data: Path, options: Options) -> list[Referred]:
    """The expressions of a split."""
    return referred(data, ("grefs(unc).json", "grefs.json"), options)
