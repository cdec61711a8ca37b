"""A mask drawn over its picture: the rest greyed and faded, the mask's edge traced."""

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

__all__ = ["tinted"]

_EDGE = (232, 62, 96)
_FADE = 0.55  # of what is not in the mask, towards white


def tinted(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """An RGB image, with what a mask bool [h, w] leaves out in pale grey, and a line around what it holds."""
    pixels = np.asarray(image).astype(np.float32)
    grey = np.asarray(ImageOps.grayscale(image)).astype(np.float32)[..., None]
    shown = np.where(mask[..., None], pixels, grey + _FADE * (255 - grey))
    width = max(1, round(max(image.size) / 256))
    edge = mask & ~ndimage.binary_erosion(mask, iterations=width, border_value=1)
    shown[edge] = _EDGE
    return Image.fromarray(shown.round().astype(np.uint8))
