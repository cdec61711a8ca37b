"""PhraseCut: the mask of "walking people", all of them.

name: phrasecut
kind: segmentation
measures: mIoU, cIoU, and the share of masks with an IoU of .5 to .9 and more; with and without negation
source: Wu et al., PhraseCut: language-based image segmentation in the wild, CVPR 2020
licence: as Visual Genome's (CC BY 4.0)
needs: refer_test.json (or refer_val.json, for --split validation), image_data_split.json, and images named by their id
  below --data
"""

from pathlib import Path
from typing import Any

from eval.choice import sampled
from eval.data import MALFORMED, as_size, as_text, find_file, find_image, read_json
from eval.masks import measure, run
from eval.options import Options
from eval.refer_files import Referred
from negclip_core.errors import RequestError
from negclip_core.language import has_negation

__all__ = ["items", "measure", "run"]

_SHORT = {"validation": "val"}


def items(data: Path, options: Options) -> list[Referred]:
    """The phrases of a split. Raises RequestError for files of another form."""
    path = find_file(data, f"refer_{_SHORT.get(options.split, options.split)}.json")
    try:
        sizes = {
            image["image_id"]: as_size(image)
            for image in read_json(find_file(path.parent, "image_data_split.json"))
        }
        rows = sampled(read_json(path), options.limit, options.seed)
        return [_item(data, row, sizes[row["image_id"]]) for row in rows]
    except MALFORMED as error:
        raise RequestError(
            f"{path}: not a list of task_id, image_id, phrase, Polygons whose images image_data_split.json knows ({error!r})"
        ) from error


def _item(data: Path, row: dict[str, Any], size: tuple[int, int]) -> Referred:
    """An instance is a list of polygons, a polygon a list of [x, y]."""
    outlines = [[[float(side) for point in polygon for side in point] for polygon in instance]
                for instance in row["Polygons"]]  # fmt: skip
    phrase = row["phrase"]
    negated = has_negation(phrase)
    return Referred(as_text(row["task_id"]), find_image(data, f"{row['image_id']}.jpg"), phrase,
                    "negated" if negated else "affirmative", negated, size, tuple(outlines))  # fmt: skip
