"""The tie between a sub-network and its supernet: shared weights, one gradient, own statistics."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from mutualnet.bank import (
    BankKey,
    BNStatistics,
    MissingStatisticsError,
    write_statistics,
)
from mutualnet.channels import Index
from mutualnet.narrow import take

if TYPE_CHECKING:
    from mutualnet.supernet import Supernet

__all__ = [
    "GradientLock",
    "SharedLeaf",
    "SubnetTie",
    "ignore_layout_warning",
    "tie_of",
]


@contextmanager
def ignore_layout_warning() -> Any:
    """Silence PyTorch's note that a gradient which is a view has another layout than usual."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout")
        yield


class GradientLock:
    """Held while one gradient is added to the full model's, so that threads do not lose updates.

    It is taken and given back by two separate hooks. If a backward pass fails between them, its
    thread still owns the lock: its next hook goes on with it instead of waiting for itself.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None

    def acquire(self) -> None:
        """Wait for the lock, or keep it if this thread still has it."""
        if self._owner != threading.get_ident():
            self._lock.acquire()
            self._owner = threading.get_ident()

    def release(self) -> None:
        """Give the lock back; nothing happens if another thread has it."""
        if self._owner == threading.get_ident():
            self._owner = None
            self._lock.release()


class SharedLeaf:
    """One parameter of a sub-network, tied to the full parameter of the same name.

    Where the kept positions are a leading block in every dimension, the parameter is a view of the
    full one and its gradient a view of the full gradient. Elsewhere it is a gathered copy,
    refreshed before each forward pass; its gradient is added to the full one after each backward.
    """

    __slots__ = (
        "__weakref__",
        "_back",
        "_base",
        "_node",
        "_view",
        "attribute",
        "dims",
        "gathered",
        "leaf",
        "name",
        "owner",
        "pointer",
        "tie",
    )

    def __init__(
        self,
        name: str,
        owner: nn.Module,
        attribute: str,
        dims: dict[int, Index],
        tie: SubnetTie,
    ) -> None:
        self.name = name
        self.owner = owner
        self.attribute = attribute
        self.dims = dims
        self.tie = tie
        self.gathered = any(isinstance(index, np.ndarray) for index in dims.values())
        full = self.full
        self.leaf = nn.Parameter(take(full.detach(), dims), requires_grad=full.requires_grad)
        self._back = _BackReference(self)
        self.leaf._shared_leaf = self._back  # type: ignore[attr-defined]
        self.pointer = self.leaf.data_ptr() if self.gathered else full.data_ptr()
        self._base: Tensor | None = None
        self._view: Tensor | None = None
        self._node: Any = None
        if full.requires_grad:
            self._register()

    @property
    def full(self) -> nn.Parameter:
        """The full parameter, looked up anew: loading may have replaced it."""
        parameter = self.owner._parameters[self.attribute]
        assert parameter is not None  # the plan names only parameters that exist
        return parameter

    def _register(self) -> None:
        # The node's hook runs just before it accumulates, and only then: a tensor's hook would run
        # for autograd.grad() too, which accumulates nothing.
        node = get_gradient_edge(self.leaf).node
        if node is self._node:
            return
        node.register_prehook(self._back.before_accumulation)
        if self._node is None:
            self.leaf.register_post_accumulate_grad_hook(self._back.after_accumulation)
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
                leaf.data.copy_(take(full.detach(), self.dims))
                return False
        elif full.data_ptr() == self.pointer:
            return False
        self._move(full)
        return True

    def _move(self, full: nn.Parameter) -> None:
        self.release()
        self.leaf.data = take(full.detach(), self.dims)
        self.pointer = self.leaf.data_ptr()
        if full.requires_grad:
            self._register()  # another dtype or device has another accumulating node

    def moved_by_user(self) -> bool:
        """Whether somebody gave the sub-network's parameter another storage."""
        return self.leaf.data_ptr() != self.pointer

    def release(self) -> None:
        """Let go of the gradient view, which would keep a discarded full gradient alive."""
        self.leaf.grad = None
        self._base = self._view = None

    def _before_accumulation(self) -> None:
        if self.tie.is_cut:
            return
        self.tie.lock.acquire()
        try:
            self._bind()
        except BaseException:
            self.tie.lock.release()
            raise

    def _bind(self) -> None:
        """Make the leaf's gradient the place in the full gradient that it adds to."""
        full = self.full
        if full.grad is None:
            full.grad = torch.zeros_like(full)
        if self.gathered:
            self.leaf.grad = None  # what accumulates is this pass alone
        elif full.grad is not self._base:
            # First pass, or zero_grad() has set the full gradient to None since.
            self._base = full.grad
            self._view = take(full.grad, self.dims)
            self.leaf.grad = self._view
        elif self.leaf.grad is None:
            # The sub-network's own zero_grad(): its block of the gradient starts at zero.
            assert self._view is not None  # bound together with _base
            self._view.zero_()
            self.leaf.grad = self._view

    def _after_accumulation(self) -> None:
        if self.tie.is_cut:
            return
        leaf = self.leaf
        try:
            grad, full = leaf.grad, self.full
            assert grad is not None  # accumulation has just set both
            assert full.grad is not None
            if grad.requires_grad:
                leaf.grad = self._view  # as it was: this sum went elsewhere
                raise RuntimeError(
                    "backward(create_graph=True) through a sub-network must not be used: its "
                    "gradients are added in place and carry no graph. Call "
                    "torch.autograd.grad(loss, subnet.parameters(), create_graph=True)."
                )
            if self.gathered:
                self._scatter(full.grad, grad)
                leaf.grad = None
            elif grad is not self._view:
                # Something replaced the gradient between the two hooks: keep its value.
                assert self._view is not None
                self._view.copy_(grad)
                leaf.grad = self._view
        finally:
            self.tie.lock.release()

    def _scatter(self, target: Tensor, grad: Tensor) -> None:
        blocks = {d: i for d, i in self.dims.items() if isinstance(i, slice)}
        lists = {
            d: torch.from_numpy(i).to(grad.device)
            for d, i in self.dims.items()
            if isinstance(i, np.ndarray)
        }
        target = take(target, blocks)
        if len(lists) == 1:
            ((dim, index),) = lists.items()
            target.index_add_(dim, index, grad)
            return
        grid: list[Any] = [slice(None)] * target.dim()
        for number, (dim, index) in enumerate(sorted(lists.items())):
            shape = [1] * len(lists)
            shape[number] = -1
            grid[dim] = index.view(shape)
        target.index_put_(tuple(grid), target[tuple(grid)] + grad)


class _BackReference:
    """From a parameter to its `SharedLeaf`, weakly and only in this process.

    The leaf's accumulating node holds the parameter where Python's collector does not see it, so a
    strong reference back would keep both for ever. A pickled parameter is a plain one.
    """

    __slots__ = ("_reference",)

    def __init__(self, shared: SharedLeaf) -> None:
        self._reference = weakref.ref(shared)

    def __call__(self) -> SharedLeaf | None:
        return self._reference()

    def before_accumulation(self, grads: tuple[Tensor | None, ...]) -> None:
        """Hook of the accumulating node."""
        shared = self()
        if shared is not None and grads[0] is not None:
            shared._before_accumulation()

    def after_accumulation(self, _: Tensor) -> None:
        """Hook of the leaf."""
        shared = self()
        if shared is not None:
            shared._after_accumulation()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(None), ()

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        return None


class SubnetTie:
    """What a sub-network does before each forward pass to stay one with its supernet.

    Copies and pickles of a sub-network are cut loose: they are ordinary modules.
    """

    def __init__(self, supernet: Supernet, key: BankKey, label: str) -> None:
        self.supernet: Supernet | None = supernet
        self.key = key
        self.label = label
        self.lock = supernet.gradient_lock
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
        has_moved = False
        for shared in self.leaves:
            has_moved |= shared.refresh()
        if has_moved:
            self._move_buffers(module, self.supernet.model)
        if any(not norm.training for norm in self.norms):
            self._load_statistics(self.supernet)

    def _move_buffers(self, module: nn.Module, model: nn.Module) -> None:
        """Give the sub-network's own buffers the full ones' dtype and device."""
        for narrow, full in zip(module.modules(), model.modules(), strict=True):
            for name, buffer in narrow._buffers.items():
                like = full._buffers[name]
                if buffer is not None and like is not None:
                    narrow._buffers[name] = buffer.to(like.device, like.dtype)

    def _load_statistics(self, supernet: Supernet) -> None:
        statistics = supernet.statistics(self.key)
        if statistics is None:
            reason = "stale BN statistics: weights changed since calibration"
            if self.key not in supernet.bank:
                reason = "no BN statistics"
            raise MissingStatisticsError(
                f"sub-network {self.label} must be calibrated before it runs in eval mode, got "
                f"{reason}. Call mutualnet.calibrate.calibrate(supernet, batches, subnets)."
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
            shared.release()

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
        tie.label, tie.lock = "copy", GradientLock()
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
