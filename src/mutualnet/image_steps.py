"""From an image to a network's input, as steps that can be written down, read back and taken.

Pillow and numpy do all of it, so that a device does what evaluation did without PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from PIL import Image, ImageOps

from mutualnet.image_files import to_rgb

_MAX_SIDE = 65_536
"""Most pixels of a side that a step may ask for; what Pillow can hold at all."""


class Step(Protocol):
    """One step: a function of the image so far."""

    name: ClassVar[str]

    def __call__(self, image: Any, /) -> Any:
        """The image after this step."""


@dataclass(frozen=True, kw_only=True)
class Decode:
    """A PIL image of any mode to 8 bits, upright."""

    name: ClassVar[str] = "decode"
    mode: str
    """`RGB`, or `L` for grey."""
    orientation: str = "exif"
    background: str = "white"
    """What transparent pixels show."""
    wide_values: str = "divided by 257"
    """What becomes of 16-bit values."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Map to an image of the mode."""
        image = to_rgb(image)
        return image if image.mode == self.mode else image.convert(self.mode)


@dataclass(frozen=True, kw_only=True)
class CropEnds:
    """Cut the ends of a long image equally; resizing a 1x5000 image would need gigabytes."""

    name: ClassVar[str] = "crop_ends"
    max_aspect: int = 2
    """Longest side over the shortest that is left."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Map to an image of bounded aspect."""
        width, height = image.size
        keep = self.max_aspect * min(width, height)
        if max(width, height) <= keep:
            return image
        left, top = max(0, (width - keep) // 2), max(0, (height - keep) // 2)
        return image.crop((left, top, left + min(width, keep), top + min(height, keep)))


@dataclass(frozen=True, kw_only=True)
class ResizeShortSide:
    """Resize with the aspect kept, by Pillow."""

    name: ClassVar[str] = "resize_short_side"
    size: int
    """Of the short side, in pixels; the long one is rounded down."""
    interpolation: str = "bilinear"
    antialias: bool = True

    def __call__(self, image: Image.Image) -> Image.Image:
        """Map to an image whose short side has the size."""
        short, long = sorted(image.size)
        if short == self.size:
            return image
        rest = int(self.size * long / short)
        size = (self.size, rest) if image.width <= image.height else (rest, self.size)
        return image.resize(size, _filter(self.interpolation))


@dataclass(frozen=True, kw_only=True)
class ResizeSides:
    """Resize with the aspect kept, by Pillow, so that neither side gets longer than it may."""

    name: ClassVar[str] = "resize_sides"
    short: int
    """Of the short side, in pixels, unless the long one would get too long."""
    long: int
    """Most pixels of the long side."""
    interpolation: str = "bilinear"
    antialias: bool = True

    def __call__(self, image: Image.Image) -> Image.Image:
        """Map to an image as large as the sides allow."""
        size = self.size_of(image.width, image.height)
        return image if size == image.size else image.resize(size, _filter(self.interpolation))

    def size_of(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the result, in pixels."""
        scale = min(self.short / min(width, height), self.long / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass(frozen=True, kw_only=True)
class CenterCrop:
    """Keep the central square; what an image lacks is black."""

    name: ClassVar[str] = "center_crop"
    size: int
    """Of the square's side, in pixels."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Map to a square."""
        missing = [max(0, self.size - side) for side in image.size]
        if any(missing):
            left, top = (side // 2 for side in missing)
            right, bottom = ((side + 1) // 2 for side in missing)
            image = ImageOps.expand(image, (left, top, right, bottom))
        left, top = (round((side - self.size) / 2) for side in image.size)
        return image.crop((left, top, left + self.size, top + self.size))


@dataclass(frozen=True, kw_only=True)
class ResizeCentralSquare:
    """Resize the largest central square, by Pillow's `ImageOps.fit`."""

    name: ClassVar[str] = "resize_central_square"
    size: int
    """Of the result's side, in pixels."""
    interpolation: str = "bilinear"

    def __call__(self, image: Image.Image) -> Image.Image:
        """Map to a square."""
        return ImageOps.fit(image, (self.size, self.size), _filter(self.interpolation))


@dataclass(frozen=True, kw_only=True)
class ToTensor:
    """Pixels as numbers 0-255."""

    name: ClassVar[str] = "to_tensor"
    layout: str = "CHW"

    def __call__(self, image: Image.Image) -> Any:
        """Map to uint8 (C, H, W)."""
        pixels = np.asarray(image, dtype=np.uint8)
        pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
        return np.array(pixels.transpose(2, 0, 1), order="C")  # a copy: Pillow's is read-only


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Resize numbers to a square, by the rule of PyTorch's `interpolate`."""

    name: ClassVar[str] = "resize"
    size: int
    """Of the result's side, in pixels."""
    align_corners: bool
    antialias: bool
    interpolation: str = "bilinear"

    @classmethod
    def between(cls, before: int, after: int) -> Self:
        """The rule by which a task scales a batch; only a strong reduction needs a filter."""
        shrinks = after < before
        return cls(size=after, align_corners=not shrinks, antialias=shrinks)

    def __call__(self, images: Any) -> Any:
        """Map (C, H, W) or (N, C, H, W) to floats of the size."""
        values = images.astype(np.float32)
        return resize_array(values, self.size, self.align_corners, self.antialias)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Whole numbers to floats in [0, 1]."""

    name: ClassVar[str] = "scale"
    divisor: int = 255

    def __call__(self, images: Any) -> Any:
        """Map uint8 to float32."""
        return images.astype(np.float32) / np.float32(self.divisor)


@dataclass(frozen=True, kw_only=True)
class Normalize:
    """Subtract the mean of each channel and divide by its standard deviation."""

    name: ClassVar[str] = "normalize"
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Any) -> Any:
        """Map floats to floats."""
        return (images - _per_channel(self.mean)) / _per_channel(self.std)


@dataclass(frozen=True, kw_only=True)
class ScaleAndNormalize:
    """Divide by 255, subtract the mean and divide by the standard deviation, in one go."""

    name: ClassVar[str] = "scale_and_normalize"
    mean: tuple[float, ...]
    """For values in [0, 1]."""
    std: tuple[float, ...]
    """For values in [0, 1]."""
    divisor: int = 255

    def __call__(self, images: Any) -> Any:
        """Map numbers 0-255 to floats."""
        mean, std = _per_channel(self.mean), _per_channel(self.std)
        return images.astype(np.float32) * (1 / (self.divisor * std)) - mean / std


@dataclass(frozen=True, kw_only=True)
class ResizeToConfiguration:
    """Resize normalised images to the resolution of a sub-network.

    Source: Yang et al. 2020, https://arxiv.org/abs/1909.12978: all sizes of a step come from one
        crop, by bilinear interpolation with aligned corners.
    """

    name: ClassVar[str] = "resize_to_configuration"
    interpolation: str = "bilinear"
    align_corners: bool = True
    antialias: bool = False

    def __call__(self, images: Any, side: int) -> Any:
        """Map (C, H, W) or (N, C, H, W) to squares; equal sizes pass through."""
        return resize_array(images, side, self.align_corners, self.antialias)


@dataclass(frozen=True, kw_only=True)
class ShrinkToConfiguration:
    """Shrink a normalised image with the aspect kept until its short side is a sub-network's."""

    name: ClassVar[str] = "shrink_to_configuration"
    interpolation: str = "bilinear"
    align_corners: bool = False
    antialias: bool = True

    def __call__(self, image: Any, side: int) -> Any:
        """Map (C, H, W) to one that is not larger; a short side up to `side` passes through."""
        height, width = image.shape[-2:]
        size = shrunk_size(height, width, side)
        return resize_array(image, size, self.align_corners, self.antialias)


@dataclass(frozen=True, kw_only=True)
class TaskScaling:
    """Stands for what a task of the user's own makes of a batch, which only its code knows."""

    name: ClassVar[str] = "task_scaling"
    task: str
    """`package.module:function` that makes the task."""

    def __call__(self, images: Any, side: int) -> Any:
        """Refuse.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{self.task} scales by a rule of its own: call the task's scale()")


STEPS: tuple[type, ...] = (
    Decode,
    CropEnds,
    ResizeShortSide,
    ResizeSides,
    CenterCrop,
    ResizeCentralSquare,
    ToTensor,
    Resize,
    Scale,
    Normalize,
    ScaleAndNormalize,
)
"""What an image can go through before its last step."""
LAST_STEPS: tuple[type, ...] = (ResizeToConfiguration, ShrinkToConfiguration, TaskScaling)
_FIXED = ("orientation", "background", "wide_values", "layout", "divisor")
"""What a step tells for the reader: it has one value only."""


@dataclass(frozen=True)
class ImageSteps:
    """All that an image goes through before a network sees it, in order."""

    steps: tuple[Step, ...]
    last: Any = ResizeToConfiguration()
    """What brings the result to the resolution of a sub-network."""
    kinds: ClassVar[tuple[type, ...]] = STEPS
    last_kinds: ClassVar[tuple[type, ...]] = LAST_STEPS

    def __call__(self, image: Image.Image, resolution: int | None = None) -> Any:
        """Map a PIL image of any mode or size to normalised floats (C, H, W).

        Args:
            image: As `PIL.Image.open` gives it.
            resolution: Of the sub-network that will see it, in pixels; None for the top one.

        Raises:
            ValueError: If the image cannot be converted, or a task of the user's own scales.
        """
        for step in self.steps:
            image = step(image)
        return image if resolution is None else self.last(image, resolution)

    def to_values(self) -> list[dict[str, Any]]:
        """Every step with its numbers, as plain values."""
        return [{"step": step.name, **asdict(step)} for step in (*self.steps, self.last)]  # type: ignore[call-overload]

    @classmethod
    def from_values(cls, values: Sequence[Mapping[str, Any]]) -> Self:
        """Read back what `to_values` wrote.

        Raises:
            ValueError: If a step is unknown, lacks a number or has one that it cannot have.
        """
        if not isinstance(values, list) or not values:
            raise ValueError(f"preprocessing must be a list of steps, got {values!r:.80}")
        *steps, last = values
        return cls(tuple(_read(s, cls.kinds) for s in steps), _read(last, cls.last_kinds))


def shrunk_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width of an image when its short side is brought down to some pixels."""
    scale = min(1.0, short_side / min(height, width))
    return round(height * scale), round(width * scale)


def resize_array(
    images: np.ndarray, size: int | tuple[int, int], align_corners: bool, antialias: bool
) -> np.ndarray:
    """Resize bilinearly by the rules of `torch.nn.functional.interpolate`.

    Args:
        images: float32 (..., H, W).
        size: Height and width of the result, or the side of a square, in pixels; equal sizes pass
            through.
        align_corners: Whether the corners' pixels keep their places, rather than the corners.
        antialias: Whether to average over what a pixel of the result covers.
    """
    height, width = images.shape[-2:]
    new_height, new_width = (size, size) if isinstance(size, int) else size
    if (height, width) == (new_height, new_width):
        return images
    rows = _weights(height, new_height, align_corners, antialias)
    columns = _weights(width, new_width, align_corners, antialias)
    return np.ascontiguousarray(rows @ images @ columns.T)


@lru_cache(maxsize=64)
def _weights(before: int, after: int, align_corners: bool, antialias: bool) -> np.ndarray:
    """(after, before): the share of every pixel in each pixel of the result; rows sum to 1."""
    if align_corners:
        centers = np.arange(after) * ((before - 1) / (after - 1) if after > 1 else 0.0)
    else:
        centers = (np.arange(after) + 0.5) * (before / after) - 0.5
    reach = max(1.0, before / after) if antialias else 1.0
    if not antialias:
        centers = centers.clip(0, before - 1)
    shares = 1 - np.abs(np.arange(before) - centers[:, None]) / reach
    shares = shares.clip(0)
    return (shares / shares.sum(1, keepdims=True)).astype(np.float32)


def _per_channel(values: Sequence[float]) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)[:, None, None]


def _filter(name: str) -> Image.Resampling:
    return Image.Resampling[name.upper()]


def _read(values: Any, kinds: Sequence[type]) -> Any:
    known = {kind.name: kind for kind in kinds}  # type: ignore[attr-defined]
    if not isinstance(values, Mapping) or values.get("step") not in known:
        raise ValueError(f"a step of preprocessing must be {', '.join(known)}, got {values!r:.80}")
    kind = known[values["step"]]
    given = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in values.items()
        if key != "step"
    }
    allowed = {f.name: f for f in fields(kind)}
    for key, value in given.items():
        if key not in allowed:
            raise ValueError(f"the step {values['step']} has no {key}")
        if key in _FIXED and value != allowed[key].default:
            raise ValueError(
                f"{key} of {values['step']} must be {allowed[key].default}, got {value!r:.80}"
            )
        _check(values["step"], key, value)
    for key, field in allowed.items():
        if field.default is MISSING and key not in given:
            raise ValueError(f"the step {values['step']} is not whole (it needs {key})")
    step = kind(**given)
    if getattr(step, "antialias", False) and getattr(step, "align_corners", False):
        raise ValueError(f"the step {values['step']} cannot average and align corners at once")
    return step


def _check(step: str, key: str, value: Any) -> None:
    """Refuse what a step cannot have; what follows must not depend on a stranger's file."""
    problem = None
    if key in ("size", "short", "long", "max_aspect"):
        is_count = isinstance(value, int) and not isinstance(value, bool)
        if not is_count or not 1 <= value <= _MAX_SIDE:
            problem = f"a whole number from 1 to {_MAX_SIDE}"
    elif key in ("mean", "std"):
        numbers = value if isinstance(value, tuple) else ()
        are_finite = all(
            isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
            for v in numbers
        )
        if not numbers or not are_finite or (key == "std" and min(numbers) <= 0):
            problem = "finite numbers, one for each channel" + (", > 0" if key == "std" else "")
    elif key in ("antialias", "align_corners"):
        problem = None if isinstance(value, bool) else "true or false"
    elif key == "interpolation":
        problem = None if value == "bilinear" else "bilinear"
    elif key == "mode":
        problem = None if value in ("RGB", "L") else "RGB or L"
    elif not isinstance(value, str | int):
        problem = "text"
    if problem is not None:
        raise ValueError(f"{key} of {step} must be {problem}, got {value!r:.80}")
