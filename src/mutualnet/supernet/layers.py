"""The sizes that layers carry as attributes, such as a convolution's `out_channels`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

Vector = np.ndarray
"""(L,) identities along one dimension of a tensor."""


def is_producer(module: nn.Module) -> bool:
    """Whether a layer makes new channels."""
    return isinstance(module, (_ConvNd, nn.Linear, nn.RNNBase))


def made_dim(module: nn.Module) -> int:
    """The dimension of a layer's weight along which its new channels lie."""
    return 1 if isinstance(module, _ConvNd) and module.transposed else 0


def making_weights(module: nn.Module) -> list[tuple[Tensor, int]]:
    """Weights of a layer and the dimension along which its new channels lie, the likeliest first.

    Empty for modules that make none.
    """
    if isinstance(module, nn.RNNBase):
        # The rows of its gates are the hidden channels several times. Names of weights that are
        # computed have more to them.
        of_state = (w for name, w in module.named_parameters() if "weight_hh_l0" in name)
        states = module.proj_size or module.hidden_size
        return [(w, 1) for w in of_state if w.shape[1:] == (states,)]
    if not is_producer(module):
        return []
    # One level down if it is parametrized.
    return [(weight, made_dim(module)) for weight in module.parameters() if weight.dim() > 1]


def known_sizes(
    module: nn.Module,
    tensor: Callable[[str, int], Vector | None],
    taken: Callable[[int], Vector | None],
    made: Callable[[int], Vector | None],
) -> dict[tuple[str, int | None], Vector | None]:
    """Which attributes of a layer count which channels.

    Args:
        module: A layer of PyTorch's or of a class derived from one.
        tensor: Identities of a parameter or buffer (name, dimension); None if it has none there.
        taken: Identities of its input along a dimension.
        made: Identities of its output along a dimension.

    Returns:
        (attribute, item of it) to identities. Empty for modules that are not known.
    """
    if isinstance(module, _ConvNd):
        # The weight is known also where the layer itself is never called, as for a functional one;
        # what passes is known where the weight is computed.
        if module.groups > 1:
            entering, leaving = taken(1), made(1)
        else:
            entering = _either(tensor("weight", 1 - made_dim(module)), taken(1))
            leaving = _either(tensor("weight", made_dim(module)), made(1))
        blocks = None
        if module.groups > 1 and entering is not None:
            blocks = entering.reshape(module.groups, -1)[:, 0]
        return {("in_channels", None): entering, ("out_channels", None): leaving,
                ("groups", None): blocks}  # fmt: skip
    if isinstance(module, nn.Linear):
        return {
            ("in_features", None): _either(tensor("weight", 1), taken(-1)),
            ("out_features", None): _either(tensor("weight", 0), made(-1)),
        }
    if isinstance(module, (_BatchNorm, _InstanceNorm)):
        found = _either(tensor("weight", 0), tensor("running_mean", 0))
        return {("num_features", None): _either(found, taken(1))}
    if isinstance(module, nn.GroupNorm):
        entering = taken(1)
        blocks = None if entering is None else entering.reshape(module.num_groups, -1)[:, 0]
        return {("num_channels", None): entering, ("num_groups", None): blocks}
    if isinstance(module, nn.LayerNorm):
        count = len(module.normalized_shape)
        return {("normalized_shape", count - 1): _either(tensor("weight", count - 1), taken(-1))}
    if isinstance(module, nn.RNNBase):
        return {
            ("input_size", None): _either(tensor("weight_ih_l0", 1), taken(-1)),
            ("hidden_size", None): _either(tensor("weight_hh_l0", 1), made(-1)),
        }
    if isinstance(module, nn.PReLU):
        return {("num_parameters", None): tensor("weight", 0)}
    return {}


def _either(first: Vector | None, second: Vector | None) -> Vector | None:
    return second if first is None else first
