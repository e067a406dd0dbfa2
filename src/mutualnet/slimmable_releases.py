"""Checkpoints that the authors of slimmable networks published, under the names of networks here.

Their codes share two layouts. `features.N.body.K` is MobileNet v1, v2 or ResNet of MutualNet,
GradAug, US-Net and S-Net; `blockS.layer.I` is the wide residual network of the first two. Here they
are timm's `mobilenetv1_100`, `mobilenetv2_100` and `resnet50`, and `WideResNet`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from mutualnet.messages import shorten

logger = logging.getLogger(__name__)

_BLOCK = "{block}"
"""Stands for the path of a block: the N-th of the network, counted through its stages."""


@dataclass(frozen=True)
class _Layout:
    """One kind of network, there and here."""

    name: str
    networks: str
    """Those that it fits, for people."""
    has: str
    """A tensor by which a network here is known as one."""
    has_not: str
    """A tensor that it must not have; empty for none."""
    block: str
    """Pattern of its blocks' paths: stage and number."""
    rules: tuple[tuple[str, str], ...]
    """Layers of the release as patterns, and what each is called here; the first that matches."""
    classifier: str


def _body(first: int | str, names: Mapping[int, str]) -> tuple[tuple[str, str], ...]:
    """Numbered layers of the body of some blocks."""
    return tuple(
        (rf"features\.({first})\.body\.{number}", f"{_BLOCK}.{name}")
        for number, name in names.items()
    )


_SEPARABLE = {0: "conv_dw", 1: "bn1", 3: "conv_pw", 4: "bn2"}
_INVERTED = {0: "conv_pw", 1: "bn1", 3: "conv_dw", 4: "bn2", 6: "conv_pwl", 7: "bn3"}
_BOTTLENECK = {0: "conv1", 1: "bn1", 3: "conv2", 4: "bn2", 6: "conv3", 7: "bn3"}
_MOBILE_STEM = ((r"features\.0\.0", "conv_stem"), (r"features\.0\.1", "bn1"))
_FIRST, _OTHERS = 1, r"(?!0)\d+"

_V1 = _Layout(
    name="MobileNet v1",
    networks="timm:mobilenetv1_100",
    has="conv_stem.weight",
    has_not="conv_head.weight",
    block=r"blocks\.(\d+)\.(\d+)\.",
    rules=(*_MOBILE_STEM, *_body(_OTHERS, _SEPARABLE), (r"classifier\.0", "classifier")),
    classifier="classifier",
)
_V2 = _Layout(
    name="MobileNet v2",
    networks="timm:mobilenetv2_100",
    has="conv_head.weight",
    has_not="",
    block=r"blocks\.(\d+)\.(\d+)\.",
    rules=(
        *_MOBILE_STEM,
        *_body(_FIRST, _SEPARABLE),  # it does not expand
        *_body(_OTHERS, _INVERTED),
        (r"features\.\d+\.0", "conv_head"),
        (r"features\.\d+\.1", "bn2"),
        (r"classifier\.0", "classifier"),
    ),
    classifier="classifier",
)
_RESNET = _Layout(
    name="ResNet",
    networks="timm:resnet50, timm:resnet101 or timm:resnet152",
    has="layer1.0.conv3.weight",
    has_not="",
    block=r"layer(\d+)\.(\d+)\.",
    rules=(
        (r"features\.0\.0", "conv1"),
        (r"features\.0\.1", "bn1"),
        *_body(_OTHERS, _BOTTLENECK),
        (rf"features\.({_OTHERS})\.shortcut\.([01])", rf"{_BLOCK}.downsample.\2"),
        (r"classifier\.0", "fc"),
    ),
    classifier="fc",
)
_WIDE = _Layout(
    name="wide residual network",
    networks="wrn28_10 or another WideResNet",
    has="stage1.0.norm1.weight",
    has_not="",
    block=r"stage(\d+)\.(\d+)\.",
    rules=(
        (r"conv1", "stem"),
        (r"block([123])\.layer\.(\d+)\.bn([12])", r"stage\1.\2.norm\3"),
        (r"block([123])\.layer\.(\d+)\.conv([12])", r"stage\1.\2.conv\3"),
        (r"block([123])\.layer\.(\d+)\.convShortcut", r"stage\1.\2.shortcut"),
        (r"bn1", "norm"),
        (r"fc", "head"),
    ),
    classifier="head",
)
_LAYOUTS = (_V1, _V2, _RESNET, _WIDE)


def is_release(keys: Iterable[str]) -> bool:
    """Whether names are those of the authors' codes; no network here has such.

    Args:
        keys: Of a checkpoint, without DataParallel's `module.`
    """
    return _layout_of(set(keys)) is not None


def _layout_of(keys: set[str]) -> _Layout | None:
    if any(re.match(r"block[123]\.layer\.\d+\.conv1\.weight", key) for key in keys):
        return _WIDE
    if not any(re.match(r"features\.\d+\.body\.\d+\.", key) for key in keys):
        return None
    if any(re.match(rf"features\.{_OTHERS}\.0\.weight", key) for key in keys):
        return _V2  # the last convolution
    return _RESNET if any(".body.6." in key for key in keys) else _V1


def renamed_release(
    state: Mapping[str, Tensor], network: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A release's tensors under the names of a network here.

    Nothing is matched by its position. BN layers of a release hold a list, an entry for each width:
    the full width's is taken. The others are for narrower networks, which get statistics of their
    own by calibration here; they are left out, and the log says how many there were. A classifier
    for another number of classes is left out too, as for other weights. Counts of batches
    (`num_batches_tracked`), which change no output, may be absent.

    Args:
        state: Names as in the file, without DataParallel's `module.`
        network: The `state_dict()` of the network that they are for.

    Raises:
        ValueError: If the network is of another kind, or a tensor of either is missing or left
            over, or has another shape.

    Source: names and shapes in the code of MutualNet (https://arxiv.org/abs/1909.12978), GradAug
        (https://arxiv.org/abs/2006.07989), US-Net (https://arxiv.org/abs/1903.05134) and slimmable
        networks (https://arxiv.org/abs/1812.08928).
    """
    layout = _layout_of(set(state))
    assert layout is not None  # or it is none of theirs
    if layout.has not in network or layout.has_not in network:
        raise ValueError(
            f"they are a {layout.name} of the slimmable networks' releases, for {layout.networks}, "
            f"but the network has {shorten(list(network), 2)}"
        )
    blocks = _blocks(layout, network)
    found, unknown = {}, []
    for key, value in _full_width(state).items():
        layer, _, last = key.rpartition(".")
        name = _renamed(layer, layout, blocks)
        if name is None or f"{name}.{last}" not in network:
            unknown.append(key)
        else:
            found[f"{name}.{last}"] = value
    missing = [
        name for name in network if name not in found and not name.endswith("num_batches_tracked")
    ]
    for what, names in (("has no place for", unknown), ("also needs", missing)):
        if names:
            raise ValueError(f"as a {layout.name} of theirs the network {what} {shorten(names)}")
    _check_shapes(found, network, layout)
    return found


def _blocks(layout: _Layout, network: Iterable[str]) -> list[str]:
    """Paths of a network's blocks in their order."""
    matches = filter(None, (re.match(layout.block, name) for name in network))
    paths = {(int(m[1]), int(m[2])): m[0].removesuffix(".") for m in matches}
    return [paths[place] for place in sorted(paths)]


def _renamed(layer: str, layout: _Layout, blocks: list[str]) -> str | None:
    for pattern, name in layout.rules:
        match = re.fullmatch(pattern, layer)
        if match is None:
            continue
        if _BLOCK not in name:
            return match.expand(name)
        number = int(match[1])  # the stem is number 0
        return (
            match.expand(name.replace(_BLOCK, blocks[number - 1]))
            if number <= len(blocks)
            else None
        )
    return None


def _full_width(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with plain BN layers, of the full width.

    Raises:
        ValueError: If no entry, or more than one, is as wide as the network in all lists.
    """
    entry = re.compile(r"(.+)\.bn\.(\d+)\.(\w+)")
    plain: dict[str, Tensor] = {}
    lists: dict[str, dict[int, dict[str, Tensor]]] = {}
    for key, value in state.items():
        match = entry.fullmatch(key)
        if match is None:
            plain[key] = value
        else:
            lists.setdefault(match[1], {}).setdefault(int(match[2]), {})[match[3]] = value
    if not lists:
        return plain
    full: set[int] = set.intersection(*(_widest(path, lists, plain) for path in lists))
    if len(full) != 1:
        raise ValueError(
            "one entry of their BN lists must be as wide as the network in every layer, but "
            f"{len(full)} are"
        )
    (number,) = full
    others = {other for entries in lists.values() for other in entries} - full
    own_weights = any("weight" in entries[number] for entries in lists.values())
    if others:
        logger.info(
            "BN %s of %d narrower widths in the file are left out",
            "weights and statistics" if own_weights else "statistics",
            len(others),
        )
    for path, entries in lists.items():
        for last, value in entries[number].items():
            plain[f"{path}.{last}"] = value
    return plain


def _widest(
    path: str, lists: Mapping[str, dict[int, dict[str, Tensor]]], plain: Mapping[str, Tensor]
) -> set[int]:
    """Entries of one layer that have all of its channels."""
    sizes = {
        number: max(value.numel() for value in entry.values())
        for number, entry in lists[path].items()
    }
    weight = plain.get(f"{path}.weight")
    most = max(sizes.values()) if weight is None else weight.numel()
    return {number for number, size in sizes.items() if size == most}


def _check_shapes(found: dict[str, Tensor], network: Mapping[str, Tensor], layout: _Layout) -> None:
    """Refuse other shapes, but leave a classifier for other classes out."""
    wrong = [name for name, value in found.items() if value.shape != network[name].shape]
    heads = [f"{layout.classifier}.{last}" for last in ("weight", "bias")]
    if wrong and all(
        name in heads and found[name].shape[1:] == network[name].shape[1:] for name in wrong
    ):
        for name in heads:
            del found[name]
        return
    if wrong:
        name = next((name for name in wrong if name not in heads), wrong[0])
        more = f", and {len(wrong) - 1} more tensors differ" if len(wrong) > 1 else ""
        raise ValueError(
            f"{name} must be {tuple(network[name].shape)} as in the network, but the file has "
            f"{tuple(found[name].shape)}{more}"
        )
