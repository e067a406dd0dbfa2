"""Which attributes of a model's modules count channels, found by where their values appear."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import nn

from mutualnet.supernet.capture import Capture, along, support
from mutualnet.supernet.channel_ids import ChannelIds, Labels
from mutualnet.supernet.layers import known_sizes

_OF_SPACE = re.compile(
    "kernel|stride|pad|dilat|window|block_size|halo|height|patch|img|image|resolution|pool|grid"
    "|spatial|depth|layers|length|area|head_dim|dim_head|per_head"
)
"""Names of attributes that count pixels, layers or what is inside of a head."""

_OF_CHANNELS = re.compile(
    "chan|chs?$|feat|plane|filter|dim|embed|hidden|inner|head|group|normalized_shape|input_size"
    "|num_parameters"
)
"""Names of attributes that say that they count channels, or blocks of them."""

Number = tuple[type[nn.Module], str]
"""An attribute of a class of modules."""


class NamedSize(Protocol):
    """An attribute that seems to count channels."""

    @property
    def name(self) -> str:
        """Of the attribute."""


@dataclass(frozen=True, kw_only=True)
class SizeVector:
    """An attribute and the channels that it counts."""

    name: str
    item: int | None
    """Which number, where the attribute is a tuple or a list."""
    ids: np.ndarray
    """(value of the attribute,) their identities."""


def attribute_vectors(
    model: nn.Module,
    captures: Sequence[Capture],
    batch: int,
) -> dict[str, list[SizeVector]]:
    """The size attributes of every module, by its full name.

    PyTorch's own layers are known. Of any other module, an integer that equals the size of a
    dimension with channels, in an operation that it runs or in what goes in or out, seems to count
    them; `doubtful_numbers` may do so by chance.

    Args:
        model: The model that was followed.
        captures: Its passes.
        batch: Images in the batch that was followed.
    """
    run: dict[str, list[tuple[tuple[int, ...], Labels]]] = defaultdict(list)
    splits: dict[str, list[list[np.ndarray]]] = defaultdict(list)
    for seen in captures:
        for operation in seen.operations:
            for shape, labels in zip(operation.shapes, operation.outputs, strict=True):
                if labels:
                    run[operation.module].append((shape, labels))
            if "split" in operation.name and operation.outputs:
                parts = [_widest(labels) for labels in operation.outputs]
                if all(part is not None for part in parts):
                    splits[operation.module].append([p for p in parts if p is not None])
        for passed in (seen.entered, seen.left):
            for name, tensors in passed.items():
                run[name].extend(tensors)
    identities = captures[0].tensors
    found: dict[str, list[SizeVector]] = {}
    for path, module in model.named_modules():
        owned = {**module._parameters, **module._buffers}

        def tensor(name: str, dim: int, tensors: dict[str, Any] = owned) -> np.ndarray | None:
            array = support(identities.get(id(tensors.get(name)), ()), dim)
            return None if array is None else array.reshape(-1)

        def taken(dim: int, path: str = path) -> np.ndarray | None:
            return _first_along(captures[0].entered.get(path, ()), dim)

        def made(dim: int, path: str = path) -> np.ndarray | None:
            return _first_along(captures[0].left.get(path, ()), dim)

        known = known_sizes(module, tensor, taken, made)
        vectors = [
            SizeVector(name=name, item=item, ids=ids)
            for (name, item), ids in known.items()
            if ids is not None and len(ids) == _value(module, name, item)
        ]
        names = {name for name, _ in known}
        vectors += _guess(
            module, names, run.get(path, ()), splits.get(path, ()), captures[0].ids, batch
        )
        if vectors:
            found[path] = vectors
    return found


def doubtful_numbers(
    model: nn.Module, attributes: Mapping[str, Sequence[NamedSize]]
) -> list[Number]:
    """Those of some attributes whose names do not say that they count channels.

    Args:
        model: That the attributes are of.
        attributes: By the modules' full names.
    """
    found = [
        (type(model.get_submodule(path)), attribute.name)
        for path, known in attributes.items()
        for attribute in known
        if not _OF_CHANNELS.search(attribute.name)
    ]
    return list(dict.fromkeys(found))


def _value(module: nn.Module, name: str, item: int | None) -> int:
    value = getattr(module, name)
    return int(value if item is None else value[item])


def _first_along(passed: Sequence[tuple[tuple[int, ...], Labels]], dim: int) -> np.ndarray | None:
    if not passed:
        return None
    shape, labels = passed[0]
    return along(shape, labels, dim % len(shape))


def _widest(labels: Labels) -> np.ndarray | None:
    array = next(iter(labels), None)
    return None if array is None or array.size != max(array.shape) else array.reshape(-1)


def _numbers(module: nn.Module, known: set[str]) -> dict[int, list[tuple[str, int | None]]]:
    """Integers above 1 among a module's plain attributes, by value."""
    found: dict[int, list[tuple[str, int | None]]] = defaultdict(list)
    for name, value in module.__dict__.items():
        is_pixels = name == "width" and "height" in module.__dict__
        if name.startswith("_") or name in known or is_pixels or _OF_SPACE.search(name):
            continue
        if type(value) is int and value > 1:
            found[value].append((name, None))
        elif type(value) in (tuple, list) and 0 < len(value) <= 16:
            for item, number in enumerate(value):
                if type(number) is int and number > 1:
                    found[number].append((name, item))
    return found


def _guess(
    module: nn.Module,
    known: set[str],
    seen: Iterable[tuple[tuple[int, ...], Labels]],
    splits: Iterable[Sequence[np.ndarray]],
    known_ids: ChannelIds,
    batch: int,
) -> list[SizeVector]:
    numbers = _numbers(module, known)
    if not numbers:
        return []
    found: dict[tuple[str, int | None], SizeVector] = {}
    for parts in splits:  # a tuple of sizes goes with the parts in their order
        lengths = [len(part) for part in parts]
        for name, value in module.__dict__.items():
            if type(value) in (tuple, list) and list(value) == lengths:
                for place, ids in enumerate(parts):
                    found.setdefault((name, place), SizeVector(name=name, item=place, ids=ids))
    for ids in _vectors(seen, numbers, batch):
        units = known_ids.units(ids)
        if (units == units[0]).all():  # it counts the same at every width
            continue
        for name, item in numbers[len(ids)]:
            found.setdefault((name, item), SizeVector(name=name, item=item, ids=ids))
    return list(found.values())


def _vectors(
    seen: Iterable[tuple[tuple[int, ...], Labels]], sizes: Container[int], batch: int
) -> Iterable[np.ndarray]:
    """Identities along every dimension of some sizes, also where the batch is merged with it."""
    for shape, labels in seen:
        for dim, size in enumerate(shape):
            for length in {size, size // batch}:
                if length not in sizes or size % length:
                    continue
                ids = along(shape, labels, dim)
                if ids is not None and np.array_equal(np.tile(ids[:length], size // length), ids):
                    yield ids[:length]
