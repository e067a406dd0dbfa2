"""The way from a narrow parameter's gradient to its place in the full parameter's gradient."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.weak import TensorWeakRef

from mutualnet.precision import is_channels_last
from mutualnet.supernet.channel_plan import Index
from mutualnet.supernet.narrow import take


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


class GradientRoute:
    """Adds what accumulates in one narrow parameter to the full parameter's gradient.

    Where the kept positions are a leading block in every dimension, the narrow gradient is a view
    of the full one and accumulates in place. Elsewhere each backward pass is scatter-added.

    The hooks of the parameter's accumulating node hold the route, and autograd's graph holds the
    node: the route must outlive a sub-network that is discarded between forward and backward pass.
    It refers to the parameter weakly, because the node holds the parameter where Python's collector
    does not see it; a strong reference would keep both for ever.

    Args:
        name: The parameter's, for messages.
        owner: Layer of the full model that has the full parameter.
        attribute: Its name in that layer.
        dims: Dimension to kept positions.
        lock: Shared by all sub-networks of one model.
    """

    _watching: ClassVar[bool] = False

    __slots__ = (
        "_base",
        "_parameter",
        "_view",
        "attribute",
        "dims",
        "is_cut",
        "is_gathered",
        "lock",
        "name",
        "owner",
    )

    def __init__(
        self,
        name: str,
        owner: nn.Module,
        attribute: str,
        dims: dict[int, Index],
        lock: GradientLock,
    ) -> None:
        self.name = name
        self.owner = owner
        self.attribute = attribute
        self.dims = dims
        self.lock = lock
        self.is_gathered = any(isinstance(index, np.ndarray) for index in dims.values())
        self.is_cut = False
        self._parameter: TensorWeakRef | None = None
        self._base: Tensor | None = None
        self._view: Tensor | None = None

    @property
    def full(self) -> nn.Parameter:
        """The full parameter, looked up anew: loading may have replaced it."""
        parameter = self.owner._parameters[self.attribute]
        assert parameter is not None  # the plan names only parameters that exist
        return parameter

    def start_at(self, parameter: nn.Parameter) -> None:
        """Bring gradients of this narrow parameter to the full one."""
        self._parameter = TensorWeakRef(parameter)
        parameter._gradient_route = self  # type: ignore[attr-defined]
        if not GradientRoute._watching:
            register_optimizer_step_pre_hook(_refuse_unfit)
            GradientRoute._watching = True

    @property
    def parameter(self) -> Tensor | None:
        """The narrow parameter, None once it is gone."""
        return None if self._parameter is None else self._parameter()

    def before_accumulation(self, grads: tuple[Tensor | None, ...]) -> None:
        """Hook of the accumulating node: it runs just before a gradient is added."""
        if self.is_cut or grads[0] is None:
            return
        self.lock.acquire()
        try:
            self._bind()
        except BaseException:
            self.lock.release()
            raise

    def _bind(self) -> None:
        """Make the parameter's gradient the place in the full gradient that it adds to."""
        parameter, full = self.parameter, self.full
        assert parameter is not None  # its accumulating node, which calls, holds it
        if full.grad is None:
            full.grad = torch.zeros_like(full)
        if self.is_gathered:
            parameter.grad = None  # what accumulates is this pass alone
        elif full.grad is not self._base:
            # First pass, or zero_grad() has set the full gradient to None since.
            self._base = full.grad
            self._view = take(full.grad, self.dims)
            parameter.grad = self._view
        elif parameter.grad is None:
            # The sub-network's own zero_grad(): its block of the gradient starts at zero.
            assert self._view is not None  # bound together with _base
            self._view.zero_()
            parameter.grad = self._view

    def after_accumulation(self, parameter: Tensor) -> None:
        """Hook of the parameter: it runs just after a gradient was added.

        Raises:
            RuntimeError: If the backward pass was to build a graph.
        """
        if self.is_cut:
            return
        try:
            grad, full = parameter.grad, self.full
            assert grad is not None  # accumulation has just set both
            assert full.grad is not None
            if grad.requires_grad:
                parameter.grad = self._view  # as it was: this sum went elsewhere
                raise RuntimeError(
                    "backward(create_graph=True) through a sub-network must not be used: its "
                    "gradients are added in place and carry no graph. Call "
                    "torch.autograd.grad(loss, subnet.parameters(), create_graph=True)."
                )
            if self.is_gathered:
                self._scatter(full.grad, grad)
                parameter.grad = None
            elif grad is not self._view:
                # Something replaced the gradient between the two hooks: keep its value.
                assert self._view is not None
                self._view.copy_(grad)
                parameter.grad = self._view
        finally:
            self.lock.release()

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
        grid = torch.meshgrid(
            *(
                lists.get(dim, torch.arange(size, device=grad.device))
                for dim, size in enumerate(target.shape)
            ),
            indexing="ij",
        )
        target.index_put_(grid, grad, accumulate=True)

    def release(self) -> None:
        """Let go of the gradient view, which would keep a discarded full gradient alive."""
        parameter = self.parameter
        if parameter is not None:
            parameter.grad = None
        self._base = self._view = None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(None), ()  # a pickled parameter is a plain one

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        return None


def _refuse_unfit(optimizer: Optimizer, *_: Any) -> None:
    """Stop an optimizer over a sub-network's parameters that it would step wrongly."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            route = getattr(parameter, "_gradient_route", None)
            if route is None or route.is_cut:
                continue
            if group.get("fused") and not _is_one_block(parameter):
                raise RuntimeError(
                    f"a fused optimizer must not hold {route.name!r} of a sub-network: it takes a "
                    "parameter for one block of memory, and a view into a wider one is not. Pass "
                    "foreach=True instead of fused=True, or optimize the supernet's parameters()."
                )
            if route.is_gathered:
                raise RuntimeError(
                    f"an optimizer must not hold {route.name!r} of a sub-network: behind a "
                    "concatenation it is a copy, and the step would be lost. Optimize the "
                    "supernet's parameters(), or extract() the sub-network first."
                )


def _is_one_block(parameter: nn.Parameter) -> bool:
    """Whether a parameter fills its memory without gaps."""
    return parameter.is_contiguous() or is_channels_last(parameter)
