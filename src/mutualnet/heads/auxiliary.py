"""Auxiliary classifiers at inner layers of any network: stored apart, gone after training."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mutualnet.heads.blocks import Blocks
from mutualnet.models.building_blocks import draw_weights
from mutualnet.module_state import kept_running_statistics, mode_of
from mutualnet.teaching import OUTPUT


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """One auxiliary classifier: where it reads, and what it is made of.

    Its blocks should lower the resolution as often as the layers that it stands beside. They end
    in a global average pool and a linear layer.

    Raises:
        ValueError: If a value is of another kind, or the size of the pooled map is below 1.
    """

    after: str
    """Path of the module whose output it reads, such as `stage1`."""
    blocks: tuple[Blocks, ...] = ()
    norm: bool = False
    """Whether BN and ReLU come before the pool, as networks with pre-activation need."""
    pool: int = 1
    """Side of the pooled map, 1 for a global pool."""

    def __post_init__(self) -> None:
        if not isinstance(self.after, str):
            raise ValueError(f"after must be the path of a module, got {self.after!r}")
        if not isinstance(self.blocks, tuple) or not all(
            isinstance(part, Blocks) for part in self.blocks
        ):
            raise ValueError(
                "blocks must be a tuple of Blocks, such as (Blocks('basic', 64),) with its comma, "
                f"got {self.blocks!r:.80}"
            )
        if not isinstance(self.norm, bool):
            raise ValueError(f"norm must be True or False, got {self.norm!r:.80}")
        if not isinstance(self.pool, int):
            raise ValueError(f"pool must be a whole number, got {self.pool!r:.80}")
        if self.pool < 1:
            raise ValueError(f"pool must be >= 1, got {self.pool}")

    def build(self, in_channels: int, num_classes: int) -> nn.Sequential:
        """The classifier, with fresh weights, for a map of some channels."""
        parts: list[nn.Module] = []
        channels = in_channels
        for blocks in self.blocks:
            part, channels = blocks.build(channels)
            parts.append(part)
        if self.norm:
            parts += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        parts += [nn.AdaptiveAvgPool2d(self.pool), nn.Flatten()]
        parts.append(nn.Linear(channels * self.pool**2, num_classes))
        head = nn.Sequential(*parts)
        draw_weights(head)
        return head


class AuxiliaryHeads(nn.ModuleDict):
    """Auxiliary classifiers of one network, by name.

    The network is not touched: its modules and weights stay its own, and hooks exist only while
    it runs in `outputs()`. These modules hold the heads' weights alone.

    Args:
        model: The network. It runs once, in eval mode and without a trace.
        heads: Descriptions by name, such as `C2` and `C3`.
        num_classes: K.
        images: (N, C, H, W), a batch that the network runs on, for the shapes. The heads get its
            device, and the number format of the network's weights.
        checkpointed: Compute the heads again in the backward pass, to save memory.

    Raises:
        ValueError: If a path names no module, or one whose output no head can read; if a name or a
            description is none.
    """

    def __init__(
        self,
        model: nn.Module,
        heads: Mapping[str, Head],
        *,
        num_classes: int,
        images: Tensor,
        checkpointed: bool = False,
    ) -> None:
        super().__init__()
        if not all(isinstance(name, str) for name in heads):
            raise ValueError(f"heads must be given by names, such as C2, got {list(heads)}")
        for name, head in heads.items():
            if not isinstance(head, Head):
                raise ValueError(
                    f"head {name} must be described by mutualnet.heads.Head, got {head!r:.80}"
                )
        self.after = {name: head.after for name, head in heads.items()}
        self.checkpointed = checkpointed
        for name in self.after:
            if name == OUTPUT or "." in name or not name or hasattr(self, name):
                raise ValueError(
                    f"a head must have a name without dots, not {OUTPUT!r} or that of a method of "
                    f"modules, got {name!r}. Call it C2, for example."
                )
        with mode_of(model, False), torch.no_grad():
            _, maps = self._run(model, lambda: model(images), heads)
        is_square = images.dim() == 4 and images.shape[2] == images.shape[3]
        for name, head in heads.items():
            if is_square and maps[name].shape[2] != maps[name].shape[3]:
                raise ValueError(
                    f"head {name} must read a map (N, C, H, W), but {head.after!r} gave "
                    f"{tuple(maps[name].shape)} for square images. Choose a module whose output "
                    "has the channels second."
                )
            try:
                self[name] = head.build(maps[name].shape[1], num_classes)
            except ValueError as error:
                raise ValueError(f"head {name} cannot be built: {error}") from None
        weights = next((p for p in model.parameters() if p.is_floating_point()), images)
        self.to(images.device, weights.dtype)

    def outputs(
        self, model: nn.Module, inputs: Any, names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Run the network once, and heads on what they read.

        Args:
            model: The network of these heads.
            inputs: What it is called with.
            names: Which heads; None for all.

        Returns:
            Its own output under `OUTPUT`, and logits (N, K) under each head's name.

        Raises:
            ValueError: If there is no such head, or a module was not called once, or gave no map
                (N, C, H, W).
        """
        return self.read(model, lambda: model(inputs), names)

    def read(
        self, model: nn.Module, run: Callable[[], Any], names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """The same where a function runs the network.

        Args:
            model: The network of these heads.
            run: Calls it once, and returns what is its own output.
            names: Which heads; None for all.

        Returns:
            As for `outputs`.

        Raises:
            ValueError: If there is no such head, or a module was not called once, or gave no map
                (N, C, H, W).
        """
        chosen = list(self.after if names is None else names)
        absent = [name for name in chosen if name not in self.after]
        if absent:
            raise ValueError(
                f"names must be a list of heads among {', '.join(self.after)}, got {absent[0]!r}"
            )
        output, maps = self._run(model, run, chosen)
        return {OUTPUT: output, **{name: self._head(name, maps[name]) for name in chosen}}

    def _run(
        self, model: nn.Module, run: Callable[[], Any], names: Iterable[str]
    ) -> tuple[Any, dict[str, Tensor]]:
        after = {name: self.after[name] for name in names}
        maps: dict[str, Any] = {}
        versions: dict[str, int] = {}
        calls = dict.fromkeys(after, 0)

        def reader(name: str) -> Any:
            def read(_: nn.Module, __: Any, output: Any) -> None:
                maps[name] = output
                versions[name] = _version(output)
                calls[name] += 1

            return read

        with ExitStack() as hooks:
            for name, path in after.items():
                hooks.enter_context(_module_at(model, path).register_forward_hook(reader(name)))
            output = run()
        for name, path in after.items():
            if calls[name] != 1:
                raise ValueError(
                    f"head {name} must read a module that runs once, but {path!r} ran "
                    f"{calls[name]} times. Choose another path."
                )
            if not isinstance(maps[name], Tensor) or maps[name].dim() != 4:
                got = (
                    tuple(maps[name].shape) if isinstance(maps[name], Tensor) else type(maps[name])
                )
                raise ValueError(
                    f"head {name} must read a map (N, C, H, W), but {path!r} gave {got}. Choose a "
                    "module before the global pool."
                )
            if _version(maps[name]) != versions[name]:
                raise ValueError(
                    f"head {name} must read a map that stays, but a layer after {path!r} changes "
                    "it in place. Choose that layer, such as the activation."
                )
        return output, maps

    def _head(self, name: str, features: Tensor) -> Tensor:
        head = self[name]
        if not (self.checkpointed and torch.is_grad_enabled()):
            return head(features)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), kept_running_statistics(head)

        return checkpoint(head, features, use_reentrant=False, context_fn=contexts)


def _version(output: Any) -> int:
    """A number that every change in place raises; inference tensors have none."""
    if not isinstance(output, Tensor) or output.is_inference():
        return 0
    return output._version


def _module_at(model: nn.Module, path: str) -> nn.Module:
    try:
        if path:
            return model.get_submodule(path)
    except AttributeError:
        pass
    close = difflib.get_close_matches(
        path, [name for name, _ in model.named_modules() if name], n=3, cutoff=0.4
    )
    outer = [name for name, _ in model.named_children()]
    hint = f"Did you mean {' or '.join(close)}?" if close else f"It has {', '.join(outer)}."
    raise ValueError(f"{type(model).__name__} has no module {path!r} for a head. {hint}")
