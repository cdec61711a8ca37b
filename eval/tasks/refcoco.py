"""RefCOCO: the mask of "man on the left".

name: refcoco
kind: segmentation
measures: mIoU, cIoU, and the share of masks with an IoU of .5 to .9 and more; with and without negation
source: Yu et al., Modeling context in referring expressions, ECCV 2016; REFER's files
licence: as COCO's and RefCOCO's
needs: refcoco/refs(unc).p or refs(google).p with instances.json beside it, as REFER has them, and COCO's images
  below --data; --split test is testA and testB, which can be named alone
"""

from pathlib import Path

from eval.masks import measure, run
from eval.options import Options
from eval.refer_files import Referred, referred

__all__ = ["items", "measure", "run"]


def items(data: Path, options: Options) -> list[Referred]:
    """The expressions of a split."""
    return referred(data, ("refcoco/refs(unc).p", "refcoco/refs(google).p"), options)
