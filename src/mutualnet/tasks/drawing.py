"""A picture with the objects that were found on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""Orange, sky blue, bluish green, yellow, blue, vermilion, reddish purple.

Source: Okabe and Ito 2008, https://jfly.uni-koeln.de/color/, distinct to colour-blind people.
"""
_SHORT_SIDE = 600
"""Smaller pictures are enlarged to about this, so that lines and text do not hide objects."""
_LONG_SIDE = 3000
"""Pictures are not enlarged to more than this."""
_OPACITY = 0.45
"""Of a mask."""
_TEXT_HEIGHT = 13
"""In pixels of the enlarged picture."""


@dataclass(frozen=True, kw_only=True)
class FoundObject:
    """One detection, in pixels of the picture."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom."""
    label: int
    """Number of its class, which decides the colour."""
    name: str
    """Of its class."""
    score: float
    """In [0, 1]."""
    mask: np.ndarray | None = None
    """bool (H, W)."""


def draw_objects(picture: Image.Image, objects: Sequence[FoundObject]) -> Image.Image:
    """Draw boxes, masks, names and scores on a copy of a picture.

    Classes differ in colour; where all objects are of one class, objects do. A name is left out
    where it would hide another one, or is much wider than its object; the score alone may fit.

    Args:
        picture: RGB.
        objects: In any order; of two names that collide, that of the higher score is drawn.

    Returns:
        An RGB picture, enlarged by a whole number if it was small.
    """
    scale = max(1, min(round(_SHORT_SIDE / min(picture.size)), _LONG_SIDE // max(picture.size)))
    result = picture.resize(
        (picture.width * scale, picture.height * scale), Image.Resampling.LANCZOS
    )
    ordered = sorted(objects, key=lambda found: found.score, reverse=True)
    is_one_class = len({found.label for found in ordered}) == 1
    colours = [
        COLOURS[(place if is_one_class else found.label - 1) % len(COLOURS)]
        for place, found in enumerate(ordered)
    ]
    masks = [
        (found.mask, colour)
        for found, colour in zip(ordered, colours, strict=True)
        if found.mask is not None
    ]
    for mask, colour in sorted(masks, key=lambda pair: -int(pair[0].sum())):
        result = _fill(result, mask, colour, scale)
    draw = ImageDraw.Draw(result)
    width = max(1, min(result.size) // 300)
    for found, colour in zip(ordered, colours, strict=True):
        corners = tuple(value * scale for value in found.box)
        # A dark edge around the line keeps it visible on light ground, and a light line on dark.
        draw.rectangle(corners, outline=(0, 0, 0), width=width + 2)
        inner = (corners[0] + 1, corners[1] + 1, corners[2] - 1, corners[3] - 1)
        if inner[2] > inner[0] and inner[3] > inner[1]:
            draw.rectangle(inner, outline=colour, width=width)
    taken: list[tuple[float, float, float, float]] = []
    font = ImageFont.load_default(_TEXT_HEIGHT)
    for found, colour in zip(ordered, colours, strict=True):
        _write(draw, found, colour, scale, font, taken)
    return result


def _fill(
    picture: Image.Image, mask: np.ndarray, colour: tuple[int, int, int], scale: int
) -> Image.Image:
    """Lay a colour over what a mask covers."""
    opacity = Image.fromarray(np.uint8(255 * _OPACITY) * mask.astype(np.uint8))
    opacity = opacity.resize((opacity.width * scale, opacity.height * scale))
    return Image.composite(Image.new("RGB", picture.size, colour), picture, opacity)


def _write(
    draw: ImageDraw.ImageDraw,
    found: FoundObject,
    colour: tuple[int, int, int],
    scale: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Write name and score above a box, or inside of it at the top of the picture."""
    left, top, right, _ = (value * scale for value in found.box)
    percent = f"{100 * found.score:.0f}"
    for text in (f"{found.name} {percent} %", percent):
        width = draw.textlength(text, font=font) + 4
        if width > 1.5 * (right - left):
            continue
        height = _TEXT_HEIGHT + 4
        y = top - height if top >= height else top
        x = max(0.0, min(left, draw.im.size[0] - width))
        place = (x, y, x + width, y + height)
        if any(_overlap(place, other) for other in taken):
            continue
        taken.append(place)
        draw.rectangle(place, fill=colour)
        brightness = np.dot(colour, (0.299, 0.587, 0.114))
        draw.text((x + 2, y + 1), text, fill="black" if brightness > 110 else "white", font=font)
        return


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
