"""What timm's networks say of their layers: which come first, and what is not to decay."""

from __future__ import annotations

from fnmatch import fnmatch

from timm.optim import param_groups_layer_decay
from torch import nn

from mutualnet.supernet import Supernet


def layer_shares(supernet: Supernet, decay: float) -> dict[str, float]:
    """Share of the learning rate of every parameter, by the layer that it belongs to.

    The last layer has 1, and each one before it `decay` times that of the next. BN weights that a
    width has for itself go with the layer that they are of.

    Args:
        supernet: Its model says which layers it has, by timm's `group_matcher`.
        decay: In (0, 1].

    Returns:
        Shares by the names of the supernet's parameters.

    Raises:
        ValueError: If the model does not say.

    Source: Clark et al. 2020, https://arxiv.org/abs/2003.10555, appendix A; timm's groups.
    """
    model = supernet.model
    if not callable(getattr(model, "group_matcher", None)):
        raise ValueError(
            f"layer_decay needs a network that tells its layers by timm's group_matcher, but "
            f"{type(model).__name__} has none. Set optimizer.layer_decay=null, or take a network "
            "of timm's."
        )
    # timm would also leave parameters out whose rate is low; ours only asks for rates.
    shares = {
        parameter: float(group["lr_scale"])
        for group in param_groups_layer_decay(model, layer_decay=decay)
        for parameter in group["params"]
    }
    named = dict(model.named_parameters())
    found = {f"model.{name}": shares[p] for name, p in named.items() if p in shares}
    if supernet.own_norms is not None:
        for name, source in supernet.own_norms.sources().items():
            found[f"own_norms.{name}"] = shares.get(named[source], 1.0)
    return found


def spared_names(model: nn.Module) -> list[str]:
    """Parameters that a network of timm's wants no weight decay for, such as position embeddings.

    Args:
        model: Asked for its `no_weight_decay`; most networks have none.
    """
    says = getattr(model, "no_weight_decay", None)
    patterns = says() if callable(says) else ()
    return [name for name, _ in model.named_parameters() if any(fnmatch(name, p) for p in patterns)]
