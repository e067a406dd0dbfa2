"""From an image file to a network's input, as steps that can be written down and read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import v2

from mutualnet.data.convert import to_rgb


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
        mode = v2.InterpolationMode(self.interpolation)
        return v2.functional.resize(image, [self.size], mode, antialias=self.antialias)


@dataclass(frozen=True, kw_only=True)
class CenterCrop:
    """Keep the central square."""

    name: ClassVar[str] = "center_crop"
    size: int
    """Of the square's side, in pixels."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Map to a square."""
        return v2.functional.center_crop(image, [self.size, self.size])


@dataclass(frozen=True, kw_only=True)
class ResizeCentralSquare:
    """Resize the largest central square, by Pillow's `ImageOps.fit`."""

    name: ClassVar[str] = "resize_central_square"
    size: int
    """Of the result's side, in pixels."""
    interpolation: str = "bilinear"

    def __call__(self, image: Image.Image) -> Image.Image:
        """Map to a square."""
        mode = Image.Resampling[self.interpolation.upper()]
        return ImageOps.fit(image, (self.size, self.size), mode)


@dataclass(frozen=True, kw_only=True)
class ToTensor:
    """Pixels as numbers 0-255."""

    name: ClassVar[str] = "to_tensor"
    layout: str = "CHW"

    def __call__(self, image: Image.Image) -> Tensor:
        """Map to uint8 (C, H, W)."""
        return v2.functional.pil_to_tensor(image)


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Resize numbers to a square, by PyTorch's `interpolate`."""

    name: ClassVar[str] = "resize"
    size: int
    """Of the result's side, in pixels."""
    align_corners: bool
    antialias: bool
    interpolation: str = "bilinear"

    @classmethod
    def between(cls, before: int, after: int) -> Resize:
        """The rule by which a task scales a batch; only a strong reduction needs a filter."""
        shrinks = after < before
        return cls(size=after, align_corners=not shrinks, antialias=shrinks)

    def __call__(self, images: Tensor) -> Tensor:
        """Map (C, H, W) or (N, C, H, W) to floats of the size."""
        return _interpolate(
            images.float(), self.size, self.interpolation, self.align_corners, self.antialias
        )


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Whole numbers to floats in [0, 1]."""

    name: ClassVar[str] = "scale"
    divisor: int = 255

    def __call__(self, images: Tensor) -> Tensor:
        """Map uint8 to float32."""
        return v2.functional.to_dtype(images, torch.float32, scale=True)


@dataclass(frozen=True, kw_only=True)
class Normalize:
    """Subtract the mean of each channel and divide by its deviation."""

    name: ClassVar[str] = "normalize"
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Map floats to floats."""
        return v2.functional.normalize(images, list(self.mean), list(self.std))


@dataclass(frozen=True, kw_only=True)
class ScaleAndNormalize:
    """Divide by 255, subtract the mean and divide by the deviation, in one go."""

    name: ClassVar[str] = "scale_and_normalize"
    mean: tuple[float, ...]
    """For values in [0, 1]."""
    std: tuple[float, ...]
    """For values in [0, 1]."""
    divisor: int = 255

    def __call__(self, images: Tensor) -> Tensor:
        """Map numbers 0-255 to floats."""
        std, mean = torch.tensor(self.std).view(-1, 1, 1), torch.tensor(self.mean).view(-1, 1, 1)
        return images.float() * (1 / (self.divisor * std)) - mean / std


@dataclass(frozen=True, kw_only=True)
class ResizeToConfiguration:
    """Resize normalised images to the resolution of a sub-network, on their device.

    Source: Yang et al. 2020, https://arxiv.org/abs/1909.12978: all sizes of a step come from one
        crop, by bilinear interpolation with aligned corners.
    """

    name: ClassVar[str] = "resize_to_configuration"
    interpolation: str = "bilinear"
    align_corners: bool = True
    antialias: bool = False

    def __call__(self, images: Tensor, side: int) -> Tensor:
        """Map (C, H, W) or (N, C, H, W) to squares; equal sizes pass through."""
        return _interpolate(images, side, self.interpolation, self.align_corners, self.antialias)


@dataclass(frozen=True, kw_only=True)
class TaskScaling:
    """Stands for what a task of the user's own makes of a batch, which only its code knows."""

    name: ClassVar[str] = "task_scaling"
    task: str
    """`package.module:function` that makes the task."""

    def __call__(self, images: Tensor, side: int) -> Tensor:
        """Refuse.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{self.task} scales by a rule of its own: call the task's scale()")


def _interpolate(
    images: Tensor, side: int, mode: str, align_corners: bool, antialias: bool
) -> Tensor:
    if images.shape[-2:] == (side, side):
        return images
    batch = images if images.dim() == 4 else images[None]
    batch = F.interpolate(
        batch, (side, side), mode=mode, align_corners=align_corners, antialias=antialias
    )
    return batch if images.dim() == 4 else batch[0]


_STEPS: dict[str, type] = {
    kind.name: kind
    for kind in (
        Decode,
        CropEnds,
        ResizeShortSide,
        CenterCrop,
        ResizeCentralSquare,
        ToTensor,
        Resize,
        Scale,
        Normalize,
        ScaleAndNormalize,
    )
}
_FIXED = ("orientation", "background", "wide_values", "layout", "divisor")
"""What a step tells for the reader: it has one value only."""
_LAST: dict[str, type] = {kind.name: kind for kind in (ResizeToConfiguration, TaskScaling)}


@dataclass(frozen=True)
class Preprocessing:
    """All that an image goes through before a network sees it, in order."""

    steps: tuple[Step, ...]
    last: ResizeToConfiguration | TaskScaling = ResizeToConfiguration()
    """What brings the result to the resolution of a sub-network."""

    def __call__(self, image: Image.Image, resolution: int | None = None) -> Tensor:
        """Map a PIL image of any mode or size to normalised floats (C, H, W).

        Args:
            image: As `PIL.Image.open` gives it.
            resolution: Of the sub-network that will see it, in pixels; None for the top one.

        Raises:
            ValueError: If the image cannot be converted, or a task of the user's own scales.
        """
        for step in self.steps:
            image = step(image)
        assert isinstance(image, Tensor)
        return image if resolution is None else self.last(image, resolution)

    def to_values(self) -> list[dict[str, Any]]:
        """Every step with its numbers, as plain values."""
        return [{"step": step.name, **asdict(step)} for step in (*self.steps, self.last)]  # type: ignore[arg-type]

    @classmethod
    def from_values(cls, values: Sequence[Mapping[str, Any]]) -> Preprocessing:
        """Read back what `to_values` wrote.

        Raises:
            ValueError: If a step is unknown, lacks a number or has one that it does not know.
        """
        if not isinstance(values, list) or not values:
            raise ValueError(f"preprocessing must be a list of steps, got {values!r:.80}")
        *steps, last = values
        return cls(tuple(_read(step, _STEPS) for step in steps), _read(last, _LAST))


def _read(values: Any, kinds: Mapping[str, type]) -> Any:
    if not isinstance(values, Mapping) or values.get("step") not in kinds:
        raise ValueError(f"a step of preprocessing must be {', '.join(kinds)}, got {values!r:.80}")
    kind = kinds[values["step"]]
    given = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in values.items()
        if key != "step"
    }
    known = {f.name: f.default for f in fields(kind)}
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"the step {values['step']} has no {key}")
        if key in _FIXED and value != known[key]:
            raise ValueError(f"{key} of {values['step']} must be {known[key]}, got {value!r:.80}")
    try:
        return kind(**given)
    except TypeError as error:
        raise ValueError(f"the step {values['step']} is not whole ({error})") from None
