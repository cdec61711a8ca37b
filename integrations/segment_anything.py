"""Segment Anything beside a text: sharpen a heat map into a mask, or propose masks for a text to choose from.

*refine*: CLIPSeg's heat map -> a box and a point for each of its regions -> SAM's mask of it -> the same once more with
that mask as a prompt (Zhang et al. 2023, "PerSAM", section 3.2).
*propose*: SAM's masks of all that is in the image -> each cut out, alone and with what is around it -> CLIP's choice
(cropping and blurring: Subramanian et al. 2022, "ReCLIP"; a mask's thing with and without its context: Yu et al. 2023,
"Zero-shot referring image segmentation with global-local context features").
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from negclip_core.clip import Clip

if TYPE_CHECKING:
    from segment_anything.modeling import Sam
    from torch import Tensor

__all__ = ["Look", "Region", "choose", "cut_outs", "regions", "without_doubles"]

_SMALLER = 0.25  # a region with less of the heat than this share of the hottest one's is noise
_PASSES = 2
_POINTS_A_SIDE = 16
# Below SAM's own .88 and .95: a text chooses among the proposals, so that a poor one costs less than a missing one.
_LEAST_IOU, _LEAST_STABILITY = 0.6, 0.8
_MARGIN = 0.15  # of a box, around a cut-out
_BLUR = 0.08  # of a cut-out's longer side


@dataclass(frozen=True)
class Region:
    """A connected part of a heat map above the threshold, as SAM's prompts; pixels, x before y."""

    box: tuple[float, float, float, float]  # left, top, right, bottom
    peak: tuple[float, float]
    mask: np.ndarray  # bool [h, w]


def regions(heat: np.ndarray, threshold: float) -> list[Region]:
    """The hot parts of a heat map float [h, w] in [0, 1], hottest first; none where nothing reaches `threshold`."""
    labels, count = ndimage.label(heat >= threshold)
    if not count:
        return []
    mass = ndimage.sum_labels(heat, labels, range(1, count + 1))
    found = []
    for index in np.argsort(-mass, kind="stable"):
        if mass[index] < _SMALLER * mass.max():
            break
        rows, columns = ndimage.find_objects(labels, index + 1)[index]
        mask = labels == index + 1
        y, x = np.unravel_index(np.argmax(np.where(mask, heat, -1)), heat.shape)
        box = (float(columns.start), float(rows.start), float(columns.stop), float(rows.stop))
        found.append(Region(box, (float(x) + 0.5, float(y) + 0.5), mask))
    return found


class Look:
    """An image that SAM has encoded, to be asked about as often as need be."""

    def __init__(self, model: "Sam", image: Image.Image) -> None:
        """Encode an RGB image."""
        from segment_anything import SamPredictor

        self._model, self._pixels = model, np.asarray(image)
        self._predictor = SamPredictor(model)
        self._predictor.set_image(self._pixels)

    def refine(self, heat: np.ndarray, threshold: float) -> np.ndarray:
        """SAM's mask bool [h, w] of what a heat map float [h, w] marks; empty where that reaches no `threshold`.

        Of the masks that SAM offers for a region, the one that agrees best with the heat map is taken.
        """
        found = np.zeros(heat.shape, dtype=bool)
        for region in regions(heat, threshold):
            before = None
            for _ in range(_PASSES):
                masks, quality, logits = self._predictor.predict(
                    point_coords=np.array([region.peak]), point_labels=np.array([1]), box=np.array(region.box),
                    mask_input=before,
                )  # fmt: skip
                agreement = [_overlap(mask, region.mask) for mask in masks]
                best = int(np.argmax(np.array(agreement) + 1e-3 * quality))
                before = logits[best][None]
            found |= masks[best]
        return found

    @cached_property
    def proposals(self) -> list[np.ndarray]:
        """Masks bool [h, w] of the things in the image, found from a grid of points, without doubles."""
        from segment_anything import SamAutomaticMaskGenerator, automatic_mask_generator

        # torchvision's is compiled, and missing where torchvision was built for CUDA and torch for the CPU.
        automatic_mask_generator.batched_nms = without_doubles
        generator = SamAutomaticMaskGenerator(
            self._model, points_per_side=_POINTS_A_SIDE, pred_iou_thresh=_LEAST_IOU, stability_score_thresh=_LEAST_STABILITY,
        )  # fmt: skip
        return [each["segmentation"] for each in generator.generate(self._pixels)]


def without_doubles(boxes: "Tensor", scores: "Tensor", groups: "Tensor", iou_threshold: float) -> "Tensor":
    """Which boxes are left, best first, when each leaves out the worse ones of its group that overlap it too much.

    As torchvision's `batched_nms`, in plain PyTorch.

    Args:
        boxes: float [n, 4], left, top, right, bottom; `scores` and `groups` are [n].

    Returns:
        int64 [kept], rows of `boxes`.
    """
    import torch
    from torchvision.ops import box_iou

    order = scores.argsort(descending=True, stable=True)
    boxes, groups = boxes[order].float(), groups[order]
    doubles = (box_iou(boxes, boxes) > iou_threshold) & (groups[:, None] == groups)
    left = torch.ones(len(order), dtype=torch.bool, device=order.device)
    for row in range(len(order)):
        if left[row]:
            left[row + 1 :] &= ~doubles[row, row + 1 :]
    return order[left]


def _overlap(mask: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union."""
    return float((mask & other).sum() / max(1, (mask | other).sum()))


def cut_outs(image: Image.Image, masks: Sequence[np.ndarray]) -> Iterator[tuple[Image.Image, Image.Image]]:
    """For each mask, its thing with a margin: with the background blurred, and as it stands in the image."""
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        width, height = columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]
        box = (
            max(0, round(columns[0] - _MARGIN * width)),
            max(0, round(rows[0] - _MARGIN * height)),
            min(image.width, round(columns[-1] + 1 + _MARGIN * width)),
            min(image.height, round(rows[-1] + 1 + _MARGIN * height)),
        )
        around = image.crop(box)
        blurred = around.filter(ImageFilter.GaussianBlur(_BLUR * max(around.size)))
        alone = Image.composite(around, blurred, Image.fromarray(mask).crop(box))
        yield alone, around


def choose(clip: Clip, image: Image.Image, masks: Sequence[np.ndarray], texts: "Tensor") -> "Tensor":
    """How well each mask fits each text: cosines float [texts, masks], the mean over both cut-outs.

    Args:
        texts: unit-length embeddings float [texts, d] of `clip`'s space, from the text tower of one's choice.
    """
    both = list(cut_outs(image, masks))
    alone, around = (clip.encode_image([pair[i] for pair in both]) for i in (0, 1))
    return texts @ (alone + around).T / 2
