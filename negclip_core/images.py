"""Open a picture that somebody else made."""

from pathlib import Path

from PIL import Image, ImageOps

from negclip_core.errors import RequestError

__all__ = ["open_image"]

# Only what pictures come as: Pillow reads dozens of formats, and rarely used readers are where its holes were.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")


def open_image(path: str | Path) -> Image.Image:
    """The picture as RGB, upright.

    Raises:
        RequestError: there is no such file, or it is not a picture in one of the formats read.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file; name a picture ({', '.join(_FORMATS)})") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RequestError(f"{path}: expected a picture ({', '.join(_FORMATS)}), got {error}") from error
