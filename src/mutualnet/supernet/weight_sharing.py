"""The tie between a sub-network and its supernet: shared weights, one gradient, own statistics."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from mutualnet.supernet.bn_bank import (
    HOW_TO_CALIBRATE,
    BankKey,
    BNBank,
    BNStatistics,
    MissingStatisticsError,
    write_statistics,
)
from mutualnet.supernet.narrow import take
from mutualnet.supernet.shared_gradients import GradientRoute


class SharedLeaf:
    """One parameter of a sub-network, tied to the full parameter of the same name.

    Where the kept positions are a leading block in every dimension, the parameter is a view of the
    full one. Elsewhere it is a gathered copy, refreshed before each forward pass.

    Args:
        route: The way its gradients take to the full parameter's.
    """

    __slots__ = ("_node", "leaf", "pointer", "route")

    def __init__(self, route: GradientRoute) -> None:
        full = route.full
        self.route = route
        self.leaf = nn.Parameter(take(full.detach(), route.dims), requires_grad=full.requires_grad)
        route.start_at(self.leaf)
        self.pointer = self.leaf.data_ptr() if route.is_gathered else full.data_ptr()
        self._node: Any = None
        if full.requires_grad:
            self._register()

    @property
    def name(self) -> str:
        """The parameter's name in the model."""
        return self.route.name

    @property
    def full(self) -> nn.Parameter:
        """The full parameter, looked up anew: loading may have replaced it."""
        return self.route.full

    @property
    def gathered(self) -> bool:
        """Whether the parameter is a copy, because what it keeps is not a leading block."""
        return self.route.is_gathered

    def _register(self) -> None:
        # The node's hook runs just before it accumulates, and only then: a tensor's hook would run
        # for autograd.grad() too, which accumulates nothing.
        node = get_gradient_edge(self.leaf).node
        if node is self._node:
            return
        node.register_prehook(self.route.before_accumulation)
        if self._node is None:
            self.leaf.register_post_accumulate_grad_hook(self.route.after_accumulation)
        self._node = node

    def refresh(self) -> bool:
        """Follow the full parameter: its storage, its `requires_grad`, its values.

        Returns:
            Whether the full parameter had been moved or converted.
        """
        leaf, full = self.leaf, self.full
        if leaf.requires_grad is not full.requires_grad:
            leaf.requires_grad_(full.requires_grad)
            if full.requires_grad:
                self._register()
        if self.gathered:
            if leaf.dtype == full.dtype and leaf.device == full.device:
                leaf.data.copy_(take(full.detach(), self.route.dims))
                return False
        elif full.data_ptr() == self.pointer:
            return False
        self._move(full)
        return True

    def _move(self, full: nn.Parameter) -> None:
        self.release()
        self.leaf.data = take(full.detach(), self.route.dims)
        self.pointer = self.leaf.data_ptr()
        if full.requires_grad:
            self._register()  # another dtype or device has another accumulating node

    def moved_by_user(self) -> bool:
        """Whether somebody gave the sub-network's parameter another storage."""
        return self.leaf.data_ptr() != self.pointer

    def release(self) -> None:
        """Let go of the gradient view, which would keep a discarded full gradient alive."""
        self.route.release()

    def cut(self) -> None:
        """Leave gradients where they accumulate: in the sub-network's own parameter."""
        self.release()
        self.route.is_cut = True


class FullNetwork(Protocol):
    """What a sub-network needs to know of its supernet."""

    model: nn.Module
    bank: BNBank

    def statistics(self, key: BankKey) -> BNStatistics | None:
        """Fresh BN statistics of a sub-network, None if there are none."""
        ...

    def weights_changed(self) -> None:
        """Declare all BN statistics stale."""
        ...


class SubnetTie:
    """What a sub-network does before each forward pass to stay one with its supernet.

    Copies and pickles of a sub-network are cut loose: they are ordinary modules.
    """

    def __init__(self, supernet: FullNetwork, key: BankKey, label: str) -> None:
        self.supernet: FullNetwork | None = supernet
        self.key = key
        self.label = label
        self.leaves: list[SharedLeaf] = []
        self.norms: list[Any] = []
        self._loaded: BNStatistics | None = None

    @property
    def is_cut(self) -> bool:
        """Whether the sub-network has become an ordinary module of its own."""
        return self.supernet is None

    def attach(self, module: nn.Module, norms: list[Any]) -> None:
        """Hook into the sub-network whose leaves were made for this tie."""
        self.norms = norms
        module._subnet_tie = self  # type: ignore[assignment]
        module.register_forward_pre_hook(self.before_forward)
        module.register_state_dict_post_hook(self.compact)
        module.register_load_state_dict_pre_hook(self.before_load)

    def rename(self, key: BankKey, label: str) -> None:
        """Use the same module for another resolution."""
        self.key, self.label, self._loaded = key, label, None

    def before_forward(self, module: nn.Module, args: Any) -> None:
        """Follow the full weights; in eval mode make sure of the BN statistics."""
        if self.supernet is None:
            return
        if any(shared.moved_by_user() for shared in self.leaves):
            self.cut()
            warnings.warn(
                f"sub-network {self.label} was moved or converted and no longer shares weights "
                "with its supernet. Move the supernet instead, or extract() for a copy.",
                stacklevel=3,
            )
            return
        with torch.inference_mode(False), torch.no_grad():  # what is made here may train later
            has_moved = False
            for shared in self.leaves:
                has_moved |= shared.refresh()
            if has_moved:
                self._move_buffers(module, self.supernet.model)
        if any(not norm.training for norm in self.norms):
            self._load_statistics(self.supernet)

    def _move_buffers(self, module: nn.Module, model: nn.Module) -> None:
        """Give the sub-network's own buffers the full ones' dtype and device."""
        known = dict(model.named_modules())
        for path, narrow in module.named_modules():
            full = known[path]
            for name, buffer in narrow._buffers.items():
                like = full._buffers[name]
                if buffer is not None and like is not None:
                    narrow._buffers[name] = buffer.to(like.device, like.dtype)

    def _load_statistics(self, supernet: FullNetwork) -> None:
        statistics = supernet.statistics(self.key)
        if statistics is None:
            reason = "stale BN statistics: weights changed since calibration"
            if self.key not in supernet.bank:
                reason = "no BN statistics"
            raise MissingStatisticsError(
                f"sub-network {self.label} must be calibrated before it runs in eval mode, got "
                f"{reason}. Call {HOW_TO_CALIBRATE}."
            )
        if statistics is not self._loaded:
            write_statistics(self.norms, statistics)
            # Statistics that are the model's own move with training: read again next time.
            self._loaded = statistics if self.key in supernet.bank else None

    def before_load(self, module: nn.Module, *_: Any) -> None:
        """Loading into views changes the shared weights; into copies it would be lost.

        Raises:
            RuntimeError: If the sub-network holds gathered copies.
        """
        if self.supernet is None:
            return
        for shared in self.leaves:
            if shared.gathered:
                raise RuntimeError(
                    f"a state must not be loaded into sub-network {self.label}: behind a "
                    f"concatenation {shared.name!r} is a copy, and its new values would be lost. "
                    "Load into the supernet's model, or extract() the sub-network first."
                )
        self.supernet.weights_changed()

    def release_gradients(self) -> None:
        """Let go of the full gradients' views once a step has used them."""
        for shared in self.leaves:
            shared.release()

    def cut(self) -> None:
        """Make the sub-network an ordinary module: nothing of it reaches the supernet any more."""
        self.supernet = None
        for shared in self.leaves:
            shared.cut()

    @staticmethod
    def compact(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        """Give `state_dict()` tensors of their own instead of views into the full weights."""
        for name, value in state.items():
            if name.startswith(prefix) and isinstance(value, Tensor) and not value.requires_grad:
                state[name] = value.clone(memory_format=torch.contiguous_format)

    @staticmethod
    def _loose() -> SubnetTie:
        tie = SubnetTie.__new__(SubnetTie)
        tie.supernet, tie.leaves, tie.norms, tie._loaded = None, [], [], None
        tie.label = "copy"
        return tie

    def __deepcopy__(self, memo: dict[int, Any]) -> SubnetTie:
        return self._loose()

    def __reduce__(self) -> tuple[Callable[[], SubnetTie], tuple[()]]:
        return SubnetTie._loose, ()


def tie_of(subnet: nn.Module) -> SubnetTie:
    """The tie of a module that `Supernet.subnet()` made.

    Raises:
        TypeError: If the module is not a sub-network.
    """
    tie = getattr(subnet, "_subnet_tie", None)
    if not isinstance(tie, SubnetTie):
        raise TypeError(
            f"expected a sub-network that Supernet.subnet() made, got {type(subnet).__name__}"
        )
    return tie
