"""How each type of layer is narrowed: which parameters and attributes its channels size."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm


@dataclass(frozen=True)
class AxisKind:
    """How one side of a layer type is narrowed."""

    parameter_dims: tuple[tuple[str, int], ...]
    attributes: tuple[tuple[str, int], ...]


def axis_kind(module: nn.Module, side: str) -> AxisKind | None:
    """Parameters and attributes that one side ("in" or "out") of a layer sizes; None if unknown."""
    if isinstance(module, _ConvNd):
        out_dim, in_dim = (1, 0) if module.transposed else (0, 1)
        if module.groups > 1:  # in and out are one axis, cut between the groups
            per_group = module.out_channels // module.groups
            names = (("out_channels", 1), ("in_channels", 1), ("groups", per_group))
            return AxisKind((("weight", 0), ("bias", 0)), names)
        if side == "out":
            return AxisKind((("weight", out_dim), ("bias", 0)), (("out_channels", 1),))
        return AxisKind((("weight", in_dim),), (("in_channels", 1),))
    if isinstance(module, nn.Linear):
        if side == "out":
            return AxisKind((("weight", 0), ("bias", 0)), (("out_features", 1),))
        return AxisKind((("weight", 1),), (("in_features", 1),))
    if isinstance(module, (_BatchNorm, _InstanceNorm)):
        tensors = ("weight", "bias", "running_mean", "running_var")
        return AxisKind(tuple((name, 0) for name in tensors), (("num_features", 1),))
    if isinstance(module, nn.GroupNorm):
        per_group = module.num_channels // module.num_groups
        counts = (("num_channels", 1), ("num_groups", per_group))
        return AxisKind((("weight", 0), ("bias", 0)), counts)
    if isinstance(module, nn.PReLU):
        if module.num_parameters == 1:
            return AxisKind((), ())
        return AxisKind((("weight", 0),), (("num_parameters", 1),))
    if isinstance(module, nn.LayerNorm):
        dim = len(module.normalized_shape) - 1
        return AxisKind((("weight", dim), ("bias", dim)), (("normalized_shape", 1),))
    return None


def grouped_step(module: nn.Module) -> int:
    """Channels that a layer computes together, 1 for most."""
    if isinstance(module, _ConvNd):
        return module.out_channels // module.groups if module.groups > 1 else 1
    if isinstance(module, nn.GroupNorm):
        return module.num_channels // module.num_groups
    return 1


def is_one_axis(module: nn.Module) -> bool:
    """Whether the input and the output of a layer are the same channels."""
    if isinstance(module, _ConvNd):
        return module.groups > 1
    return not isinstance(module, nn.Linear)


def is_sized(module: nn.Module) -> bool:
    """Whether something of a layer has as many entries as there are channels."""
    return axis_kind(module, "out") is not None or bool(list(module.parameters(recurse=False)))
