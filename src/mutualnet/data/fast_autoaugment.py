"""The augmentation policies that Fast AutoAugment found, as data, and what carries them out."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.resources import files

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

Operation = tuple[str, float, float]
"""Name, probability in [0, 1], level in [0, 1]."""

_GREY = (125, 123, 114)
"""Colour of a blanked square."""


def _affine(
    image: Tensor, *, angle: float = 0.0, move: tuple[int, int] = (0, 0), shear: tuple[float, float]
) -> Tensor:
    # Shears keep the upper left corner, turns the middle.
    centre = [0.0, 0.0] if any(shear) else None
    return v2.functional.affine(
        image, angle, list(move), 1.0, [math.degrees(math.atan(s)) for s in shear], center=centre
    )


def _cutout(image: Tensor, share: float) -> Tensor:
    height, width = image.shape[-2:]
    side = share * width
    if side <= 0:
        return image
    left, top = float(torch.rand(())) * width, float(torch.rand(())) * height
    x, y = max(0, int(left - side / 2)), max(0, int(top - side / 2))
    image = image.clone()
    hole = image[:, y : int(y + side) + 1, x : int(x + side) + 1]
    colour = torch.tensor(_GREY, dtype=image.dtype)[: len(image)]
    hole.copy_(colour.view(-1, 1, 1).expand_as(hole))
    return image


_F = v2.functional
# Operation: lowest and highest value, whether either sign is as likely, and what it does.
_OPERATIONS: dict[str, tuple[float, float, bool, Callable[[Tensor, float], Tensor]]] = {
    "ShearX": (-0.3, 0.3, True, lambda image, v: _affine(image, shear=(v, 0))),
    "ShearY": (-0.3, 0.3, True, lambda image, v: _affine(image, shear=(0, v))),
    "TranslateX": (
        -0.45,
        0.45,
        True,
        lambda image, v: _affine(image, move=(round(v * image.shape[-1]), 0), shear=(0, 0)),
    ),
    "TranslateY": (
        -0.45,
        0.45,
        True,
        lambda image, v: _affine(image, move=(0, round(v * image.shape[-2])), shear=(0, 0)),
    ),
    "Rotate": (-30.0, 30.0, True, lambda image, v: _affine(image, angle=v, shear=(0, 0))),
    "AutoContrast": (0.0, 1.0, False, lambda image, _: _F.autocontrast(image)),
    "Invert": (0.0, 1.0, False, lambda image, _: _F.invert(image)),
    "Equalize": (0.0, 1.0, False, lambda image, _: _F.equalize(image)),
    "Solarize": (0.0, 256.0, False, lambda image, v: _F.solarize(image, min(v, 255.0))),
    "Posterize": (4.0, 8.0, False, lambda image, v: _F.posterize(image, int(v))),
    "Contrast": (0.1, 1.9, False, _F.adjust_contrast),
    "Color": (0.1, 1.9, False, _F.adjust_saturation),
    "Brightness": (0.1, 1.9, False, _F.adjust_brightness),
    "Sharpness": (0.1, 1.9, False, _F.adjust_sharpness),
    "Cutout": (0.0, 0.2, False, _cutout),
}


class FastAutoAugment(nn.Module):
    """Apply one sub-policy, drawn for each image, of those that Fast AutoAugment published.

    Args:
        images: What they were searched on: `cifar10` or `imagenet`.

    Source: Lim et al. 2019, https://arxiv.org/abs/1905.00397; the sub-policies are the authors'
        published ones (MIT License), rounded to four digits.
    """

    def __init__(self, images: str) -> None:
        super().__init__()
        table = files("mutualnet.data") / "policies" / f"fast_autoaugment_{images}.csv"
        lines = [line for line in table.read_text().splitlines() if not line.startswith("#")]
        self.sub_policies = [_parse(line) for line in lines]

    def forward(self, image: Tensor) -> Tensor:
        """Map a uint8 image (C, H, W), or a PIL image, to one of the same kind."""
        is_picture = not isinstance(image, torch.Tensor)
        pixels = v2.functional.pil_to_tensor(image) if is_picture else image
        chosen = self.sub_policies[int(torch.randint(len(self.sub_policies), ()))]
        for name, probability, level in chosen:
            if float(torch.rand(())) > probability:
                continue
            low, high, has_sign, apply = _OPERATIONS[name]
            value = low + level * (high - low)
            if has_sign and float(torch.rand(())) < 0.5:
                value = -value
            pixels = apply(pixels, value)
        return v2.functional.to_pil_image(pixels) if is_picture else pixels


def _parse(line: str) -> tuple[Operation, ...]:
    words = line.split(",")
    return tuple(
        (words[i], float(words[i + 1]), float(words[i + 2])) for i in range(0, len(words), 3)
    )
