"""Initial weights as the papers' code draws them, for any network."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from mutualnet.messages import shorten

logger = logging.getLogger(__name__)


def _mutualnet(layer: nn.Module, weight: Tensor) -> None:
    """By fan-out; a depthwise convolution counts all of its channels, not the one it writes to."""
    if isinstance(layer, _ConvNd):
        fan_out = layer.out_channels * math.prod(layer.kernel_size)
        nn.init.normal_(weight, std=math.sqrt(2 / fan_out))
    elif isinstance(layer, nn.Linear):
        nn.init.normal_(weight, std=0.01)
    else:
        nn.init.ones_(weight)


def _dcm(layer: nn.Module, weight: Tensor) -> None:
    """By fan-in, linear layers too; weights of BN between 0 and 1."""
    if isinstance(layer, _BatchNorm):
        nn.init.uniform_(weight)
    else:
        nn.init.kaiming_normal_(weight)


WEIGHT_INITS: dict[str, Callable[[nn.Module, Tensor], None]] = {
    "mutualnet": _mutualnet,
    "dcm": _dcm,
}
"""What draws the weight of a convolution, a linear layer or a BN layer, by the paper's name."""


def init_weights(model: nn.Module, name: str) -> None:
    """Draw new weights for every convolution, linear and BN layer; their biases become 0.

    Parameters of other layers keep their values and are named in the log.

    | name | convolution | linear layer | weight of BN |
    |---|---|---|---|
    | `mutualnet` | N(0, 2 / (k k C_out)), depthwise too | N(0, 0.01²) | 1 |
    | `dcm` | N(0, 2 / (k k C_in / groups)) | N(0, 2 / C_in) | U(0, 1) |

    Args:
        model: Changed in place. The numbers come from torch's generator.
        name: A key of `WEIGHT_INITS`.

    Raises:
        ValueError: If there is no such name, or the model has no layer of these kinds.

    Source: the code of Yang et al. 2020, https://arxiv.org/abs/1909.12978, for its networks on
        ImageNet, and of slimmable networks (Yu et al. 2019, https://arxiv.org/abs/1812.08928);
        the code of Yao and Sun 2020, https://arxiv.org/abs/2008.07816, for its wide residual
        networks.
    """
    if name not in WEIGHT_INITS:
        raise ValueError(f"weight_init must be one of {', '.join(WEIGHT_INITS)}, got {name!r}")
    drawn: set[str] = set()
    with torch.no_grad():
        for path, layer in model.named_modules():
            if not isinstance(layer, _ConvNd | nn.Linear | _BatchNorm):
                continue
            own = dict(layer.named_parameters(recurse=False))
            if "weight" in own:
                WEIGHT_INITS[name](layer, own["weight"])
            if "bias" in own:
                nn.init.zeros_(own["bias"])
            drawn.update(f"{path}.{key}".lstrip(".") for key in own if key in ("weight", "bias"))
    left = [key for key, _ in model.named_parameters() if key not in drawn]
    if not drawn:
        raise ValueError(
            f"weight_init={name} draws weights of convolutions, linear and BN layers, but "
            f"{type(model).__name__} has none. Set model.weight_init=default."
        )
    if left:
        logger.info("weight_init=%s draws all but %s", name, shorten(left))
