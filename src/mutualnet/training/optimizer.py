"""The optimizer of a recipe: which parameters decay, and which learn at a lower rate."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

import torch
from timm.optim import (
    create_optimizer_v2,
    get_optimizer_class,
    get_optimizer_info,
    list_optimizers,
)
from torch import nn

from mutualnet.config import OptimizerConfig
from mutualnet.messages import first_line

_LOOKAHEAD = "lookahead_"
"""Before the name of any other, timm's factory puts Lookahead around it."""


def parameter_groups(
    model: nn.Module,
    config: OptimizerConfig,
    *,
    initialized: Collection[nn.Parameter] = (),
    init_lr_mult: float = 1.0,
    layer_shares: Mapping[nn.Parameter, float] | None = None,
    spared: Collection[nn.Parameter] = (),
) -> list[dict[str, Any]]:
    """Split a model's parameters by weight decay, and by their share of the learning rate.

    Args:
        model: Its parameters that require a gradient are split.
        config: Weight decay and its exceptions.
        initialized: Parameters with values from elsewhere, which learn at a lower rate.
        init_lr_mult: Their share of the learning rate. With 0 they stay as they are.
        layer_shares: Share of the learning rate by layer; what is not there has all of it.
        spared: More parameters without decay, unless all decay.

    Source: the MutualNet and US-Net recipes: no decay for BN, biases and depthwise convolutions
        (weights of four dimensions with one input channel). Those over frames, of five dimensions,
        decay as in the recipe of X3D.
    """
    old, more = ({id(p) for p in parameters} for parameters in (initialized, spared))
    shares = layer_shares or {}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        is_depthwise = parameter.dim() == 4 and parameter.shape[1] == 1
        is_spared = parameter.dim() < 2 or is_depthwise or id(parameter) in more
        rate = init_lr_mult if id(parameter) in old else 1.0
        rate *= shares.get(parameter, 1.0)
        # A frozen layer must not decay either.
        is_spared = rate == 0 or (is_spared and not config.decay_all)
        decay = 0.0 if is_spared else config.weight_decay
        groups.setdefault((decay, rate), []).append(parameter)
    own: dict[str, Any] = {"lr": config.lr}
    if _has_momentum(config.name):
        own["momentum"] = config.momentum
    if config.name == "sgd":
        own["nesterov"] = config.nesterov
    return [
        {"params": parameters, **own, "weight_decay": decay, "lr_mult": rate}
        for (decay, rate), parameters in groups.items()
    ]


def make_optimizer(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer that timm's factory makes by its name.

    Args:
        groups: From `parameter_groups`, of one network or of several.
        config: Of the first network; the others' name and arguments are the same.

    Raises:
        ValueError: If one optimizer cannot serve networks with different learning rates.
    """
    arguments = {key: _as_tuple(value) for key, value in config.kwargs.items()}
    if config.name == "sgd":
        arguments["nesterov"] = config.nesterov
    if "deterministic" in _arguments(config.name):  # draws then are the same in all processes
        arguments.setdefault("deterministic", True)
    optimizer = create_optimizer_v2(
        groups, opt=config.name, lr=config.lr, momentum=config.momentum, **arguments
    )
    # This decay is a share of the highest rate, of which these optimizers know one.
    if optimizer.defaults.get("corrected_weight_decay") and len({g["lr"] for g in groups}) > 1:
        raise ValueError(
            f"networks with different learning rates need an optimizer {config.name} each: set "
            "teaching.optimizers=each"
        )
    return optimizer


def _as_tuple(value: Any) -> Any:
    """YAML has lists where optimizers have tuples."""
    return tuple(value) if isinstance(value, list) else value


def check_optimizer(config: OptimizerConfig, device: torch.device) -> None:
    """Refuse an optimizer that cannot be made, or cannot take a step, before anything is loaded.

    Args:
        config: Its name and its arguments.
        device: Where it will train.

    Raises:
        ValueError: If timm's factory does not know the name, the optimizer has no such argument, or
            refuses its value. It says which there are.
    """
    arguments = _arguments(config.name)
    for key in config.kwargs:
        if key not in arguments:
            raise ValueError(
                f"optimizer.kwargs must be arguments of {config.name}, which has no {key}. It has "
                f"{', '.join(arguments)}."
            )
    usual = {field.name: field.default for field in fields(OptimizerConfig)}
    unused = [] if _has_momentum(config.name) else ["momentum"]
    for key in (*unused, *([] if config.name == "sgd" else ["nesterov"])):
        if getattr(config, key) != usual[key]:
            raise ValueError(
                f"{config.name} does not have the optimizer.{key} of sgd, got "
                f"{getattr(config, key)}. Leave it at {usual[key]}, as --optimizer {config.name} "
                f"does; optimizer.kwargs can have {', '.join(arguments)}."
            )
    _try(config, device)


def _base_name(name: str) -> str:
    return name.removeprefix(_LOOKAHEAD)


def _has_momentum(name: str) -> bool:
    return bool(get_optimizer_info(_base_name(name)).has_momentum)


def _arguments(name: str) -> list[str]:
    """What an optimizer takes besides what has a key of its own.

    Raises:
        ValueError: If there is no such optimizer, or it does not run here.
    """
    # Others need CUDA and a package, and those of second order a graph of every backward pass.
    every = [str(other) for other in list_optimizers()]
    known = [other for other in every if _runs_anywhere(other)]
    base = _base_name(name)
    if base not in every:
        close = difflib.get_close_matches(base.lower(), known, n=3)
        hint = f"Did you mean {', '.join(close)}? " if close else ""
        raise ValueError(
            f"optimizer.name must be one of timm's, got {name!r}. {hint}There are "
            f"{', '.join(known)}; and {_LOOKAHEAD}NAME for each."
        )
    info = get_optimizer_info(base)
    if info.second_order:
        raise ValueError(
            f"{name} needs second derivatives, which steps of sub-networks do not keep. Choose "
            f"another optimizer: {', '.join(known)}."
        )
    try:
        found = inspect.signature(get_optimizer_class(base, bind_defaults=False)).parameters
    except (AssertionError, ImportError) as error:
        raise ValueError(f"{name} cannot be made on this machine ({first_line(error)})") from None
    # timm drops these two on the way to optimizers that it says have none.
    dropped = [*([] if info.has_eps else ["eps"]), *([] if info.has_betas else ["betas"])]
    elsewhere = ["params", "lr", "weight_decay", "momentum", *dropped]
    if base == "sgd":
        elsewhere.append("nesterov")
    return [key for key in found if key not in elsewhere]


def _runs_anywhere(name: str) -> bool:
    info = get_optimizer_info(name)
    return not isinstance(info.opt_class, str) and not info.second_order


def _try(config: OptimizerConfig, device: torch.device) -> None:
    """Take a step with a small layer: optimizers refuse values when made, or at the first step."""
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            layer = nn.Linear(2, 2, device=device)
            optimizer = make_optimizer(parameter_groups(layer, config), config)
            for parameter in layer.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
    except Exception as error:  # each has its own way to refuse
        raise ValueError(
            f"{config.name} must be made with optimizer.kwargs={config.kwargs}, but refuses "
            f"({first_line(error)})"
        ) from None


def set_learning_rate(groups: list[dict[str, Any]], rate: float) -> None:
    """Set the learning rate of some of an optimizer's groups, each by its share."""
    for group in groups:
        group["lr"] = rate * group.get("lr_mult", 1.0)


def keep_frozen(groups: list[dict[str, Any]]) -> None:
    """Take the gradients of parameters away that are to stay: a rate of 0 moves some (MADGRAD)."""
    for group in groups:
        if group.get("lr_mult") == 0:
            for parameter in group["params"]:
                parameter.grad = None


def forget_momentum(
    optimizer: torch.optim.Optimizer, fresh: Mapping[str, Any], network: int
) -> None:
    """Reset what an optimizer remembers of one network, as if it had not been updated before.

    Args:
        optimizer: Of one network or of several. Its learning rates stay.
        fresh: A deep copy of its `state_dict()` before the first step: some optimizers count steps
            in groups.
        network: Whose groups; they have its number under `network`.
    """
    state = optimizer.state_dict()
    groups = state["param_groups"]
    for index, group in enumerate(groups):
        if group["network"] == network:
            groups[index] = {**fresh["param_groups"][index], "lr": group["lr"]}
            for parameter in group["params"]:
                state["state"].pop(parameter, None)
                if parameter in fresh["state"]:  # some remember something from the start
                    state["state"][parameter] = copy.deepcopy(fresh["state"][parameter])
    optimizer.load_state_dict(state)
