"""Which network a recipe trains, and where its weights come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from mutualnet.config.choices import check_choice
from mutualnet.numbers import check_numbers


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network."""

    name: str
    """`timm:NAME`, `torchvision:NAME`, `package.module:function`, or one of ours."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """More arguments of its constructor."""
    weight_init: Literal["default", "mutualnet", "dcm"] = "default"
    """How weights are drawn: `default` is the network's own, the others are those of the papers,
    see `mutualnet.training`."""
    init: str | None = None
    """Where weights come from: `timm:NAME` (pretrained), a run, or a file of them; None draws."""
    sort_channels: Literal["auto", "none", "l1", "l2", "taylor"] = "auto"
    """By what the channels of weights from `init` are put in order, the most important first:
    `l1`, `l2` or `taylor`, see `mutualnet.supernet`. `auto` chooses one where narrower networks
    are to be trained and the source has trained none; `none` leaves all as they are."""
    init_lr_mult: float = 1.0
    """Share of the learning rate for layers whose weights came from `init`; new ones get all."""
    sync_bn: bool = False
    """Whether BN takes its batch statistics over all processes; on accelerators only."""
    heads: str | None = None
    """Auxiliary heads: the name of a network in `mutualnet.heads`, or
    `package.module:function` that returns some by name; None is by this network's own name."""

    def __post_init__(self) -> None:
        check_numbers(self)
        for key in self.kwargs:
            if not isinstance(key, str):
                raise ValueError(f"model.kwargs must have names, got {key!r}")
            if key in ("num_classes", "in_channels"):
                raise ValueError(f"model.kwargs must leave {key} out, which the data decide")
        check_choice("weight_init", self.weight_init, ("default", "mutualnet", "dcm"))
        check_choice("sort_channels", self.sort_channels, ("auto", "none", "l1", "l2", "taylor"))
        if self.init is None and self.sort_channels not in ("auto", "none"):
            raise ValueError(
                f"sort_channels={self.sort_channels} orders the channels of trained weights, but "
                "model.init names none. Give some by --init, or set model.sort_channels=auto."
            )
        if not 0 <= self.init_lr_mult <= 1:
            raise ValueError(f"init_lr_mult must lie in [0, 1], got {self.init_lr_mult}")
