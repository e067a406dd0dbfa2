"""A picture with a line of text on it."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont


def with_caption(image: Image.Image, text: str) -> Image.Image:
    """A picture with a line of text in its upper left corner, white on black."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    size, margin = max(9, image.height // 16), max(2, image.height // 60)
    font = ImageFont.load_default(size)
    left, top, right, bottom = draw.textbbox((margin, margin), text, font=font)
    while right > image.width - margin and size > 6:
        size -= 1
        font = ImageFont.load_default(size)
        left, top, right, bottom = draw.textbbox((margin, margin), text, font=font)
    box = (left - margin, top - margin, right + margin, bottom + margin)
    draw.rectangle(box, fill="black")
    draw.text((margin, margin), text, font=font, fill="white")
    return image
