"""RefCOCOg (negated): the masks of those of its expressions that deny something, "the bench with no one on it".

name: refcocog-negated
kind: segmentation
measures: mIoU, cIoU, and the share of masks with an IoU of .5 to .9 and more; by family where the file has families
source: Park et al., Know "No" Better, ICCV 2025; chosen from RefCOCOg's by negclip_core.language, by the ids in its records
licence: as COCO's and RefCOCOg's
needs: refcocog_negated.json, or RefCOCOg's refs(umd).p or refs(google).p, with instances.json beside it, and COCO's
  images below --data
"""

from dataclasses import replace
from pathlib import Path

from eval.masks import measure, run
from eval.options import Options
from eval.refer_files import Referred, referred
from negclip_core.errors import RequestError

__all__ = ["items", "measure", "run"]


def items(data: Path, options: Options) -> list[Referred]:
    """The negated expressions of a split; a limit counts them. Raises RequestError where there is none."""
    patterns = ("refcocog_negated.json", "refcocog/refs(umd).p", "refcocog/refs(google).p")
    found = [item for item in referred(data, patterns, replace(options, limit=None)) if item.negated]
    if not found:
        raise RequestError(f"{data}: no expression of the split {options.split!r} denies anything")
    return found[: options.limit]
