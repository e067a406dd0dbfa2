"""The same recipe for other epochs, another optimizer, learning rate, network or method."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TypeVar

from mutualnet.config.method import MethodConfig
from mutualnet.config.model import ModelConfig
from mutualnet.config.optimizer import OptimizerConfig
from mutualnet.config.recipe import Recipe
from mutualnet.methods import METHODS, Method
from mutualnet.numbers import check_countable


def with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """A recipe for another number of epochs, with milestones at the same shares of them.

    Warm-up keeps its length, up to a quarter of a short run or its share of it before.

    Args:
        recipe: Kept as it is.
        epochs: Passes over the images, >= 1.

    Raises:
        ValueError: If that is out of range.
    """
    check_countable("epochs", epochs)
    peers = tuple(
        peer
        if peer.optimizer is None
        else replace(peer, optimizer=_with_epochs(peer.optimizer, epochs))
        for peer in recipe.peers
    )
    return replace(recipe, optimizer=_with_epochs(recipe.optimizer, epochs), peers=peers)


def _with_epochs(config: OptimizerConfig, epochs: int) -> OptimizerConfig:
    share = epochs / config.epochs
    milestones = tuple(max(1, round(epoch * share)) for epoch in config.milestones)
    longest = max(0.25, config.warmup_epochs / config.epochs) * epochs
    warmup = min(config.warmup_epochs, longest)
    return replace(config, epochs=epochs, warmup_epochs=warmup, milestones=milestones)


def with_lr(recipe: Recipe, lr: float) -> Recipe:
    """A recipe for another highest learning rate, of all its networks.

    Raises:
        ValueError: If its networks have different ones, or `lr` is not positive.
    """
    _check_one("--lr", "optimizer.lr", [f"{optimizer.lr:g}" for optimizer in recipe.optimizers])
    peers = tuple(
        peer if peer.optimizer is None else replace(peer, optimizer=replace(peer.optimizer, lr=lr))
        for peer in recipe.peers
    )
    return replace(recipe, optimizer=replace(recipe.optimizer, lr=lr), peers=peers)


def with_optimizer(recipe: Recipe, name: str) -> Recipe:
    """A recipe for another optimizer; arguments and momentum of the old one go with it.

    Args:
        recipe: Kept as it is. Its learning rate and weight decay stay, those of all its networks.
        name: As in `optimizer.name`.
    """
    peers = tuple(
        peer
        if peer.optimizer is None
        else replace(peer, optimizer=_with_optimizer_name(peer.optimizer, name))
        for peer in recipe.peers
    )
    return replace(recipe, optimizer=_with_optimizer_name(recipe.optimizer, name), peers=peers)


def _with_optimizer_name(config: OptimizerConfig, name: str) -> OptimizerConfig:
    if name == config.name:
        return config
    momentum, nesterov = OptimizerConfig.momentum, OptimizerConfig.nesterov
    return replace(config, name=name, kwargs={}, momentum=momentum, nesterov=nesterov)


def with_model(recipe: Recipe, name: str, *, other_init: Collection[str] = ()) -> Recipe:
    """A recipe for another network; constructor arguments and heads of the old one go with it.

    Args:
        recipe: Kept as it is. Peers of the same name as its network become the new one too.
        name: As in `model.name`.
        other_init: Keys, such as `model.init`, that get another value after this.

    Raises:
        ValueError: If its networks are different ones, or it starts from weights of the old one.
    """
    _check_one("--model", "model.name", [model.name for model in recipe.models])
    keys = ["model.init", *(f"peers.{index}.model.init" for index in range(len(recipe.peers)))]
    models = [
        _with_name(model, name, None if key in other_init else key)
        for model, key in zip(recipe.models, keys, strict=True)
    ]
    peers = tuple(
        replace(peer, model=model) for peer, model in zip(recipe.peers, models[1:], strict=True)
    )
    return replace(recipe, model=models[0], peers=peers)


def _with_name(config: ModelConfig, name: str, init_key: str | None) -> ModelConfig:
    """Another network; the key of its `init`, None where that is about to change."""
    if name == config.name:
        return config
    if config.init is not None and init_key is not None:
        raise ValueError(
            f"--model {name} cannot start from {config.init}, which the recipe has for "
            f"{config.name}. Add --set {init_key}=null, or weights of its own in place of null."
        )
    return replace(config, name=name, kwargs={}, heads=None)


def _check_one(option: str, key: str, values: list[str]) -> None:
    if len(set(values)) > 1:
        raise ValueError(
            f"{option} must fit every network, but the recipe's have {', '.join(values)}. Change "
            f"them one by one: --set {key}=... peers.0.{key}=..."
        )


def with_method(
    recipe: Recipe,
    name: str | None = None,
    *,
    width_range: tuple[float, float] | None = None,
    resolutions: tuple[int, ...] | None = None,
    depths: tuple[float, ...] | None = None,
    frames: tuple[int, ...] | None = None,
) -> Recipe:
    """A recipe for another method, with the space that this method trains and its schedule.

    The learning rate's schedule changes where it was the one of the method before. A recipe's
    number of random sub-networks goes with a method that draws none.

    Args:
        recipe: Kept as it is.
        name: A key of `mutualnet.METHODS`; None for the recipe's own.
        width_range: In place of the recipe's.
        resolutions: In place of the recipe's.
        depths: In place of the recipe's.
        frames: In place of the recipe's.

    Raises:
        ValueError: If there is no such method, or a value is out of range.
    """
    name = recipe.method.name if name is None else name
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {name!r}")
    method = _with_method_name(recipe.method, name)
    before, after = recipe.method.value, method.value
    peers = tuple(
        replace(peer, optimizer=_with_schedule(peer.optimizer, before, after))
        for peer in recipe.peers
    )
    return replace(
        recipe,
        method=method,
        space=after.space(
            recipe.space,
            width_range=width_range,
            resolutions=resolutions,
            depths=depths,
            frames=frames,
            before=before,
        ),
        optimizer=_with_schedule(recipe.optimizer, before, after),
        peers=peers,
    )


def _with_method_name(config: MethodConfig, name: str) -> MethodConfig:
    """A number of random sub-networks goes where the method draws none."""
    num_random = config.num_random if METHODS[name].rule.num_random else None
    return replace(config, name=name, num_random=num_random)


_Optimizer = TypeVar("_Optimizer", OptimizerConfig, OptimizerConfig | None)


def _with_schedule(config: _Optimizer, before: Method, after: Method) -> _Optimizer:
    if config is None or config.schedule != before.schedule:
        return config
    return replace(config, schedule=after.schedule)


def with_teaching(recipe: Recipe, name: str) -> Recipe:
    """A recipe whose networks learn from each other in another way.

    Args:
        recipe: Kept as it is.
        name: A method of `TeachingConfig`; with `independent` nobody teaches another network.

    Raises:
        ValueError: If there is no such way.
    """
    return replace(recipe, teaching=replace(recipe.teaching, method=name))
