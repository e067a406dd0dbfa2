"""From channels that were followed to groups: what is kept or dropped together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from mutualnet.supernet.capture import Capture
from mutualnet.supernet.channel_group import ChannelGroup
from mutualnet.supernet.channel_ids import ChannelIds, Labels, axes_of
from mutualnet.supernet.channel_plan import (
    Axis,
    ChannelPlan,
    Inelastic,
    Segment,
    SizeAttribute,
)
from mutualnet.supernet.channel_rules import PLAIN, ChannelRule
from mutualnet.supernet.layers import making_weights
from mutualnet.supernet.sizes import Number, SizeVector, attribute_vectors


def _arrays(captures: Iterable[Capture]) -> list[np.ndarray]:
    """Every array of identities that was seen, once."""
    found: dict[int, np.ndarray] = {}
    for seen in captures:
        for operation in seen.operations:
            for labels in (*operation.inputs, *operation.outputs):
                for ids in labels:
                    found.setdefault(id(ids), ids)
    return list(found.values())


def make_rectangular(captures: Sequence[Capture]) -> None:
    """See that every tensor stays a box: along one of its dimensions only channels may be dropped.

    Where `view` has split channels into rows and columns that nothing ties, whole columns are kept
    or dropped, or whole rows where there are more of them.
    """
    ids = captures[0].ids
    grids = [a for a in _arrays(captures) if len(axes_of(a)) > 1]
    changed = True
    while changed:
        changed = False
        for grid in grids:
            units = ids.units(grid)
            varying = [axis for axis in axes_of(grid) if (units != units.take([0], axis)).any()]
            if len(varying) > 1:
                free = max(varying, key=lambda axis: (grid.shape[axis], axis))
                ids.tie(grid, [axis for axis in varying if axis != free])
                changed = True


def _signatures(ids: ChannelIds, captures: Sequence[Capture]) -> np.ndarray:
    """(len(ids),) a number per unit; units with the same one are always found together."""
    random = np.random.default_rng(0)
    signature = np.zeros(len(ids), dtype=np.uint64)
    known: set[bytes] = set()
    for array in _arrays(captures):
        units = ids.units(array)
        seen = units.tobytes()
        if seen in known:  # most arrays repeat, and `unique` is slow
            continue
        units = np.unique(units)
        units = units[units >= 0]
        content = units.tobytes()
        if len(units) and content not in known:
            signature[units] += random.integers(1, 2**63, dtype=np.uint64)
        known |= {seen, content}
    return signature


@dataclass
class _Layer:
    """A layer, or a module with a bare parameter, and the channels that it makes."""

    name: str
    made: np.ndarray
    """(channels,) their identities."""


@dataclass
class _Groups:
    """Groups of units, and where each unit stands in its own."""

    groups: list[ChannelGroup] = field(default_factory=list)
    group_of: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    channel_of: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


@dataclass
class Choices:
    """What trials of narrower networks have shown about a model."""

    links: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    """Pairs of channels, of one length, of which the same share must stay."""
    least: int = 1
    """Blocks of channels that stay in every group."""
    constants: frozenset[Number] = frozenset()
    """Attributes that stay as they are, although they are equal to the size of something."""


def build_plan(
    model: nn.Module,
    captures: Sequence[Capture],
    rules: Mapping[str, ChannelRule],
    choices: Choices,
    batch_size: int,
) -> ChannelPlan:
    """The plan that the followed channels make.

    Args:
        model: The copy that was followed.
        captures: Its passes, of one set of identities.
        rules: How many channels a group keeps, by patterns of layer names.
        choices: What trials of narrower networks have shown.
        batch_size: Of the input that was followed.
    """
    ids = captures[0].ids
    labels = captures[0].tensors
    layers = _layers(model, labels)
    found = _form_groups(model, captures, layers, rules, choices.least)
    axes = _AxisMaker(ids, found)
    tensors: dict[str, dict[int, Axis]] = {}
    # Under all names of what is shared: loading with assign=True, for one, parts it.
    for name, tensor in (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ):
        for array in labels.get(id(tensor), ()):
            dim = axes_of(array)[0]
            axis = axes.axis(array.reshape(-1))
            if axis is not None:
                tensors.setdefault(name, {})[dim] = axis
    attributes: dict[str, tuple[SizeAttribute, ...]] = {}
    for path, vectors in attribute_vectors(model, captures, batch_size).items():
        kind = type(model.get_submodule(path))
        vectors = [v for v in vectors if (kind, v.name) not in choices.constants]
        known = tuple(_size_attributes(vectors, axes))
        if known:
            attributes[path] = known
    return ChannelPlan(
        groups=tuple(found.groups),
        tensors=tensors,
        attributes=attributes,
        inelastic=_inelastic(ids, layers),
        links=_links(ids, found, choices.links),
    )


def _layers(model: nn.Module, labels: Mapping[int, Labels]) -> list[_Layer]:
    found = []
    for name, module in model.named_modules():
        for weight, dim in making_weights(module):
            made = next(
                (a.reshape(-1) for a in labels.get(id(weight), ()) if axes_of(a) == (dim,)), None
            )
            if made is not None:
                found.append(_Layer(name, made))
                break
    return found


_Makers = dict[int, list[tuple[_Layer, np.ndarray]]]
"""By signature: the layers that make these channels, and at which of their outputs."""


def _makers(
    ids: ChannelIds, signature: np.ndarray, layers: Sequence[_Layer], others: Sequence[_Layer]
) -> _Makers:
    """Who makes the channels of each signature: layers, and only where there are none, others."""
    makers: _Makers = defaultdict(list)
    made_by_layers: set[int] = set()
    for candidates in (layers, others):
        for layer in candidates:
            units = ids.units(layer.made)
            codes = np.where(units >= 0, signature[units], 0)
            for code in dict.fromkeys(codes[units >= 0].tolist()):
                if code not in made_by_layers:
                    makers[code].append((layer, np.flatnonzero(codes == code)))
        made_by_layers = set(makers)
    return makers


def _first_uses(
    ids: ChannelIds, signature: np.ndarray, model: nn.Module, labels: Mapping[int, Labels]
) -> dict[int, int]:
    """Number of the first module that holds channels of each signature."""
    found: dict[int, int] = {}
    for number, module in enumerate(model.modules()):
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            for array in labels.get(id(tensor), ()):
                units = np.unique(ids.units(array))
                for code in np.unique(signature[units[units >= 0]]).tolist():
                    found.setdefault(code, number)
    return found


def _form_groups(
    model: nn.Module,
    captures: Sequence[Capture],
    layers: Sequence[_Layer],
    rules: Mapping[str, ChannelRule],
    least: int,
) -> _Groups:
    """Groups in the order in which the model's modules first hold their channels."""
    ids, labels = captures[0].ids, captures[0].tensors
    signature = _signatures(ids, captures)
    bare = [
        _Layer(name.rpartition(".")[0], array.reshape(-1))
        for name, parameter in model.named_parameters()
        for array in labels.get(id(parameter), ())
    ]
    makers = _makers(ids, signature, layers, bare)
    order = {name: number for number, (name, _) in enumerate(model.named_modules())}
    first_use = _first_uses(ids, signature, model, labels)
    in_order = np.concatenate(
        [np.zeros(0, dtype=np.int64), *(ids.units(array).reshape(-1) for array in ids.ordered)]
    )
    result = _Groups(
        group_of=np.full(len(ids) + 1, -1), channel_of=np.zeros(len(ids) + 1, dtype=np.int64)
    )
    for code in sorted(makers, key=lambda c: (first_use.get(c, 0), order[makers[c][0][0].name])):
        layer, positions = makers[code][0]
        units = ids.units(layer.made[positions])
        distinct, first, times = np.unique(units, return_index=True, return_counts=True)
        distinct = distinct[np.argsort(first)]
        is_even = len(set(times.tolist())) == 1
        step = int(times[0]) if is_even else 1
        size = len(distinct) * step
        if len(distinct) < 2:
            ids.freeze(distinct, f"its {len(positions)} channels must stay together")
            continue
        names = tuple(dict.fromkeys(maker.name for maker, _ in makers[code]))
        result.group_of[distinct] = len(result.groups)
        result.channel_of[distinct] = np.arange(len(distinct)) * step
        result.groups.append(
            ChannelGroup(
                name=_unique_name(layer.name, result.groups),
                size=size,
                layers=names,
                step=step,
                rule=_rule_of(names, rules),
                least=least,
                is_ordered=bool(np.isin(distinct, in_order).any()),
                whole=len(layer.made) if len(layer.made) > len(positions) and is_even else None,
            )
        )
    loose = np.unique(ids.units(np.arange(len(ids))))
    loose = loose[loose >= 0]
    ids.freeze(loose[result.group_of[loose] < 0], "no layer makes them")
    return result


def _groups_of(ids: ChannelIds, found: _Groups, vector: np.ndarray) -> list[int]:
    """Numbers of the groups along some identities, in their order."""
    units = ids.units(vector)
    groups = np.where(units >= 0, found.group_of[units], -1)
    return [int(g) for g in dict.fromkeys(groups.tolist()) if g >= 0]


def _links(
    ids: ChannelIds, found: _Groups, pairs: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[tuple[int, ...], ...]:
    """Sets of linked groups, the first of each in front."""
    leader = list(range(len(found.groups)))

    def root(number: int) -> int:
        while leader[number] != number:
            number = leader[number]
        return number

    for a, b in pairs:
        first, second = _groups_of(ids, found, a), _groups_of(ids, found, b)
        if len(first) == len(second):
            together = list(zip(first, second, strict=True))
        else:  # all of them keep one share
            together = [(first[0], other) for other in (*first[1:], *second)] if first else []
        for x, y in together:
            low, high = sorted((root(x), root(y)))
            leader[high] = low
    sets: dict[int, list[int]] = defaultdict(list)
    for number in range(len(leader)):
        sets[root(number)].append(number)
    return tuple(tuple(members) for members in sets.values() if len(members) > 1)


def _unique_name(name: str, groups: Sequence[ChannelGroup]) -> str:
    """Several groups may share their first layer: `stem`, `stem#2`, ..."""
    taken = {group.name for group in groups}
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}#{number}"
    return candidate


def _rule_of(producers: Sequence[str], rules: Mapping[str, ChannelRule]) -> ChannelRule:
    for pattern, rule in rules.items():
        if any(re.fullmatch(pattern, name) for name in producers):
            return rule
    return PLAIN


class _AxisMaker:
    """Makes axes of identities, one for all that are equal."""

    def __init__(self, ids: ChannelIds, groups: _Groups) -> None:
        self._ids = ids
        self._groups = groups
        self._known: dict[bytes, Axis | None] = {}

    def axis(self, vector: np.ndarray) -> Axis | None:
        """The axis of some identities; None if none of them is elastic."""
        units = self._ids.units(vector)
        content = units.tobytes()
        if content not in self._known:
            self._known[content] = self._make(units)
        return self._known[content]

    def _make(self, units: np.ndarray) -> Axis | None:
        groups = np.where(units >= 0, self._groups.group_of[units], -1)
        channels = self._groups.channel_of[units]
        segments = []
        for group in np.unique(groups[groups >= 0]).tolist():
            positions = np.flatnonzero(groups == group)
            segments.append(Segment(group=group, positions=positions, channels=channels[positions]))
        return Axis(size=len(units), segments=tuple(segments)) if segments else None


def _size_attributes(vectors: Sequence[SizeVector], axes: _AxisMaker) -> Iterable[SizeAttribute]:
    for vector in vectors:
        axis = axes.axis(vector.ids)
        if axis is not None:
            yield SizeAttribute(name=vector.name, item=vector.item, axis=axis)


def _inelastic(ids: ChannelIds, layers: Sequence[_Layer]) -> tuple[Inelastic, ...]:
    """Layers whose channels all stay, those that are tied in one entry."""
    found: dict[bytes, tuple[list[str], str]] = {}
    for layer in layers:
        if ids.is_fixed(layer.made).all():
            key = ids.find(layer.made).tobytes()
            reason = ids.reason(int(layer.made[0]))
            found.setdefault(key, ([], reason))[0].append(layer.name)
    return tuple(Inelastic(layers=tuple(names), reason=why) for names, why in found.values())
