"""Open a picture that somebody else made."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from negclip_core.errors import RequestError

__all__ = ["MOST_PIXELS", "SUFFIXES", "image_size", "open_image"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")  # of files that `open_image` reads

# Only what pictures come as: Pillow reads dozens of formats, and rarely used readers are where its holes were.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MOST_PIXELS = 90_000_000  # a file of a kilobyte may say that it has more, and take minutes and gigabytes
# Pillow warns at about as many, in two lines; here they are refused.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
_PAPER = (255, 255, 255)


def open_image(path: str | Path, content: BinaryIO | None = None) -> Image.Image:
    """The picture as RGB, upright; the first frame of an animation; what is transparent, on white.

    With `content` the picture is read from there, and `path` is only what it is called.

    Raises:
        RequestError: there is no such file, or it is not a picture in one of the formats read.
    """
    with _opened(path, content) as image:
        return _as_rgb(ImageOps.exif_transpose(image))


def image_size(path: str | Path, content: BinaryIO | None = None) -> tuple[int, int]:
    """Width and height in pixels as the file's head says them; no pixel is read. Raises as `open_image`."""
    with _opened(path, content) as image:
        return image.size


@contextmanager
def _opened(path: str | Path, content: BinaryIO | None) -> Iterator[Image.Image]:
    try:
        with Image.open(path if content is None else content, formats=_FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, more than {MOST_PIXELS:,}")
            yield image
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file; name a picture ({', '.join(_FORMATS)})") from error
    except UnidentifiedImageError as error:
        raise RequestError(
            f"{path}: expected a picture ({', '.join(_FORMATS)}), got something else"
        ) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RequestError(f"{path}: expected a picture ({', '.join(_FORMATS)}), got {error}") from error
    except MemoryError as error:  # a part of a damaged file may say that it has gigabytes
        raise RequestError(f"{path}: takes more memory than there is; save it anew, or smaller") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow would cut them off at 255
        import numpy as np

        image = Image.fromarray((np.asarray(image).astype(np.float32) / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        sheet = Image.new("RGB", image.size, _PAPER)
        sheet.paste(layer, mask=layer.getchannel("A"))
        return sheet
    return image.convert("RGB")
