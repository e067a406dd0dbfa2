"""The auxiliary classifiers that the papers give their networks."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, TypeAlias

from mutualnet.heads.auxiliary import Head
from mutualnet.heads.blocks import Blocks

Heads: TypeAlias = dict[str, Head]
Variant: TypeAlias = Literal["standard", "narrow", "apfc"]
"""As published; with half the channels; or a 4x4 average pool and a linear layer, which come after
BN and ReLU where the network has pre-activation."""


def wide_resnet_heads(depth: int, width_factor: int) -> Heads:
    """C2 after stage 2, C3 after stage 1 and C4 after the stem of WRN-d-k.

    Args:
        depth: d = 6n + 4.
        width_factor: k.

    Source: Yao and Sun 2020, https://arxiv.org/abs/2008.07816, tables 1-6, for WRN-28-4 and
        WRN-28-10; other depths have as many blocks in proportion.
    """
    n = (depth - 4) // 6
    first, second, third = (16 * width_factor * 2**stage for stage in range(3))
    half = max(1, n // 2)
    blocks = partial(Blocks, "pre_activation")
    return {
        "C2": Head(after="stage2", blocks=(blocks(2 * third, n, 2),), norm=True),
        "C3": Head(
            after="stage1", blocks=(blocks(second, n, 2), blocks(third, half, 2)), norm=True
        ),
        "C4": Head(
            after="stem",
            blocks=(blocks(first, n), blocks(second, half, 2), blocks(third, half, 2)),
            norm=True,
        ),
    }


def cifar_resnet_heads(depth: int, *, bottleneck: bool = False, uniform: bool = False) -> Heads:
    """C2 after stage 2 and C3 after stage 1 of CIFAR's ResNets.

    Args:
        depth: 6n + 2, or 9n + 2 with bottlenecks.
        bottleneck: Whether the network is made of bottlenecks.
        uniform: Whether all three convolutions of a head's bottleneck have its full channels.

    Source: as `wide_resnet_heads`, for ResNet-110 and ResNet-164.
    Differs: For ResNet-164 the table prints the same channels for all three convolutions, which
        would make C2 thirty times its network. The default is a bottleneck as in the network, with
        which C2 is three times its network, as it is elsewhere; `uniform` is as printed.
    """
    n = (depth - 2) // (9 if bottleneck else 6)
    half = max(1, n // 2)
    _, second, third = (16 * 2**stage * (4 if bottleneck else 1) for stage in range(3))
    kind = "pre_activation_bottleneck" if bottleneck else "basic"
    blocks = partial(Blocks, kind, expansion=1.0 if uniform else None)
    return {
        "C2": Head(after="stage2", blocks=(blocks(2 * third, n, 2),), norm=bottleneck),
        "C3": Head(
            after="stage1",
            blocks=(blocks(second, half, 2), blocks(third, half, 2)),
            norm=bottleneck,
        ),
    }


def cifar_densenet_heads(depth: int = 40, growth: int = 12) -> Heads:
    """C2 after stage 2 and C3 after stage 1 of CIFAR's DenseNets; each begins with a transition.

    Args:
        depth: 3n + 4.
        growth: Channels that each layer adds.

    Source: as `wide_resnet_heads`, for DenseNet-40-12.
    """
    n = (depth - 4) // 3
    blocks = partial(Blocks, "dense")
    return {
        "C2": Head(after="stage2", blocks=(blocks(3 * growth, n, 2),), norm=True),
        "C3": Head(
            after="stage1",
            blocks=(blocks(growth, n, 2), blocks(growth, max(1, n // 2), 2)),
            norm=True,
        ),
    }


def mobilenet_v1_cifar_heads(*, num_repeats: int = 3) -> Heads:
    """C2 after the eleventh and C3 after the fifth depthwise layer of CIFAR's MobileNet v1.

    Args:
        num_repeats: Blocks of 512 channels in C3 after its first.

    Source: as `wide_resnet_heads`, for MobileNet.
    Differs: The table can be read as five repeats; three are what the authors trained.
    """
    blocks = partial(Blocks, "depthwise")
    return {
        "C2": Head(after="blocks.3", blocks=(blocks(2048, 2, 2),)),
        "C3": Head(after="blocks.2", blocks=(blocks(512, 1 + num_repeats, 2), blocks(1024, 2, 2))),
    }


def _resnet18_heads() -> Heads:
    blocks = partial(Blocks, "basic")
    return {
        "C2": Head(after="layer3", blocks=(blocks(1024, 2, 2),)),
        "C3": Head(after="layer2", blocks=(blocks(256, 1, 2), blocks(512, 2, 2))),
    }


def _resnet50_heads() -> Heads:
    blocks = partial(Blocks, "bottleneck")
    return {
        "C2": Head(after="layer3", blocks=(blocks(4096, 3, 2),)),
        "C3": Head(after="layer2", blocks=(blocks(1024, 3, 2), blocks(2048, 2, 2))),
    }


def _mobilenet_v2_heads(block13: str, block16: str) -> Heads:
    return {
        "C2": Head(after=block16, blocks=(Blocks("inverted", 480), Blocks("pointwise", 1920))),
        "C3": Head(
            after=block13,
            blocks=(
                Blocks("inverted", 160, 3, 2),
                Blocks("inverted", 320, expansion=3),
                Blocks("pointwise", 1280),
            ),
        ),
    }


HEAD_PRESETS: dict[str, Callable[[], Heads]] = {
    **{
        f"wrn{d}_{k}": partial(wide_resnet_heads, d, k)
        for d, k in ((16, 1), (16, 2), (16, 4), (28, 4), (28, 10))
    },
    **{f"resnet{d}_cifar": partial(cifar_resnet_heads, d) for d in (20, 32, 56, 110)},
    "resnet164_cifar": partial(cifar_resnet_heads, 164, bottleneck=True),
    "densenet40_12": cifar_densenet_heads,
    "mobilenet_v1_cifar_8x8": mobilenet_v1_cifar_heads,
    "resnet18": _resnet18_heads,
    "resnet50": _resnet50_heads,
    "mobilenetv2_100": partial(_mobilenet_v2_heads, "blocks.4", "blocks.5"),
    "torchvision:mobilenet_v2": partial(_mobilenet_v2_heads, "features.13", "features.16"),
}
"""Heads by the network's name."""


def head_preset(
    model_name: str, names: Sequence[str] = ("C2", "C3"), variant: Variant = "standard"
) -> Heads:
    """The heads of a network, by its name.

    Args:
        model_name: As in `create_model`, such as `wrn28_10` or `timm:resnet50`.
        names: Which of them; the paper's Q is their number: C2, then C3, then C4.
        variant: As published, or one of the simpler ones they are compared with.

    Returns:
        Descriptions by name.

    Raises:
        ValueError: If the network has no preset, or not these heads.
    """
    library, _, short = model_name.rpartition(":")
    preset = HEAD_PRESETS.get(model_name)
    if preset is None and library in ("", "timm", "torchvision"):
        preset = HEAD_PRESETS.get(short)
    if preset is None:
        close = difflib.get_close_matches(short, HEAD_PRESETS, n=2, cutoff=0.6)
        hint = (
            f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(HEAD_PRESETS)}."
        )
        raise ValueError(
            f"network {model_name} has no auxiliary heads of its own. {hint} Or describe some: "
            "model.heads=package.module:function, which returns mutualnet.heads.Head by name."
        )
    heads = preset()
    absent = [name for name in names if name not in heads]
    if absent:
        raise ValueError(f"heads of {model_name} must be among {', '.join(heads)}, got {absent[0]}")
    return {name: as_variant(heads[name], variant) for name in names}


def as_variant(head: Head, variant: Variant) -> Head:
    """The same head as published, with half the channels, or as a pool and a linear layer.

    Raises:
        ValueError: If there is no such variant.
    """
    if variant not in _VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(_VARIANTS)}, got {variant!r}")
    return _VARIANTS[variant](head)


def _narrow(head: Head) -> Head:
    blocks = tuple(replace(part, channels=part.channels // 2) for part in head.blocks)
    return replace(head, blocks=blocks)


_VARIANTS: dict[str, Callable[[Head], Head]] = {
    "standard": lambda head: head,
    "narrow": _narrow,
    "apfc": lambda head: replace(head, blocks=(), pool=4),
}
