"""Turn an image file of any kind into an upright 8-bit RGB image."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image, ImageOps

_ORIENTATION = 0x0112
"""EXIF tag that says how a camera was held."""
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000")
"""Formats of pixels alone. Others start programs, as PostScript does, whatever a file is called."""


def read_image(path: str | os.PathLike[str]) -> Image.Image:
    """Decode an image file completely; the first frame of an animation.

    Raises:
        ValueError: If it has more pixels than `PIL.Image.MAX_IMAGE_PIXELS`.
        Exception: Whatever Pillow's decoders raise on a broken file (OSError, SyntaxError,
            ValueError, struct.error and more).
    """
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]  # older Pillow has no AVIF
    with Image.open(path, formats=formats) as image:
        _check_size(image)
        image.load()
        return to_rgb(image)


def _check_size(image: Image.Image) -> None:
    # Pillow only warns up to twice its limit. One rule is easier to state, and to make an error of
    # the warning would do so in all threads.
    width, height = image.size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise ValueError(
            f"an image must have at most {limit} pixels, got {width} x {height}. Make it smaller."
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a PIL image of any mode to 8-bit RGB, upright by its EXIF orientation.

    Transparent pixels show white. 16-bit values are divided by 257.

    Raises:
        TypeError: If image is not a PIL image.
        ValueError: If the mode has no conversion, or values are not finite.
    """
    if not isinstance(image, Image.Image):
        raise TypeError(
            f"image must be a PIL image, got {type(image).__name__}. "
            "Open a file with PIL.Image.open, an array with PIL.Image.fromarray."
        )
    image = _upright(image)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_8_bit(image)
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    return image if image.mode == "RGB" else image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:
        # Broken EXIF data raises anything from struct.error to KeyError; the pixels are fine.
        return image


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale grey values of 16 or 32 bits or floats to 0-255; one of them may be transparent."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("pixel values must be finite")
    highest = values.max(initial=0)
    if image.mode == "F" and highest <= 1:
        values *= 255
    elif image.mode.startswith("I;16") or highest > 255:
        values /= 257
    grey = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    colour = image.info.get("transparency")
    if not isinstance(colour, int):
        return grey
    opacity = np.where(np.asarray(image) == colour, 0, 255).astype(np.uint8)
    return Image.merge("LA", (grey, Image.fromarray(opacity)))
