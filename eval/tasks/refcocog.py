"""RefCOCOg: the mask of "the man in the red jacket".

name: refcocog
kind: segmentation
measures: mIoU, cIoU, and the share of masks with an IoU of .5 to .9 and more; with and without negation
source: Mao et al., Generation and comprehension of unambiguous object descriptions, CVPR 2016; REFER's files
licence: as COCO's and RefCOCOg's
needs: refs(umd).p or refs(google).p with instances.json beside it, as REFER has them, and COCO's images below --data
"""

from pathlib import Path

from eval.masks import measure, run
from eval.options import Options
from eval.refer_files import Referred, referred

__all__ = ["items", "measure", "run"]


def items(data: Path, options: Options) -> list[Referred]:
    """The expressions of a split."""
    return referred(data, ("refcocog/refs(umd).p", "refcocog/refs(google).p", "refcocog.json"), options)
