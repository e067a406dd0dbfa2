"""Who else the full networks learn from: peers, auxiliary heads, and a trained teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mutualnet.config.choices import check_choice
from mutualnet.config.model import ModelConfig
from mutualnet.config.optimizer import OptimizerConfig
from mutualnet.numbers import check_numbers
from mutualnet.teaching import (
    KD_ALPHA,
    KD_TAU,
    TEACHINGS,
    TeachingGraph,
    dcm,
    deep_supervision,
    dks,
    dml,
    independent,
    kd,
    with_teacher,
)


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """A trained network that every full network learns from beside the labels."""

    name: str | None = None
    """A run, or `timm:NAME` (pretrained); None for no teacher."""
    alpha: float = KD_ALPHA
    """Share of the teacher's part in the loss, in [0, 1]. Apprentice's fixed teacher has 0.5."""
    tau: float = KD_TAU
    """Temperature of both distributions, > 0. Apprentice's has 1."""

    def __post_init__(self) -> None:
        check_numbers(self)
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {self.alpha}")
        if not self.tau > 0:
            raise ValueError(f"tau must be > 0, got {self.tau}")


@dataclass(frozen=True, kw_only=True)
class PeerConfig:
    """One more network that trains on the same batches."""

    model: ModelConfig
    optimizer: OptimizerConfig | None = None
    """None for the recipe's own. It must train as many epochs, with the same accumulation."""


@dataclass(frozen=True, kw_only=True)
class TeachingConfig:
    """What the full networks of a run, and their auxiliary heads, learn from each other."""

    method: str = "independent"
    """`independent`, `deep_supervision`, `kd` (needs a teacher), `dml`, `dks` or `dcm`: a preset
    of `mutualnet.teaching`."""
    head_names: tuple[str, ...] = ("C2", "C3")
    """Auxiliary heads that the method uses, for those that have some."""
    head_variant: Literal["standard", "narrow", "apfc"] = "standard"
    """As published, half as wide, or a pool and a linear layer."""
    checkpoint_heads: bool = False
    """Compute the heads again in the backward pass, to save memory."""
    keep_heads: bool = False
    """Write the trained heads beside the weights."""
    same_stage_weight: float = 1.0
    """Of divergences between classifiers of one name in `dcm`, of all in `dml` and `dks`."""
    different_stage_weight: float = 1.0
    """Of divergences between classifiers of different names in `dcm`."""
    tau: float = 1.0
    """Temperature of the divergences between peers."""
    update: Literal["joint", "alternating"] = "joint"
    """One step of all networks, or one after the other on the others' new predictions."""
    optimizers: Literal["one", "each"] = "one"
    """One optimizer over all networks, or one each; `clip_norm` then is each network's own."""

    def __post_init__(self) -> None:
        check_numbers(self)
        check_choice("teaching.method", self.method, TEACHINGS)
        check_choice("head_variant", self.head_variant, ("standard", "narrow", "apfc"))
        check_choice("update", self.update, ("joint", "alternating"))
        check_choice("optimizers", self.optimizers, ("one", "each"))
        if self.uses_heads and not self.head_names:
            raise ValueError(f"method {self.method} needs auxiliary heads, got head_names=[]")
        for name in ("same_stage_weight", "different_stage_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if not self.tau > 0:
            raise ValueError(f"tau must be > 0, got {self.tau}")

    @property
    def uses_heads(self) -> bool:
        """Whether the method is about auxiliary heads."""
        return self.method in ("deep_supervision", "dks", "dcm")

    def graph(self, num_networks: int, teacher: TeacherConfig) -> TeachingGraph:
        """Who learns from whom; the teacher, if there is one, is the last network.

        Args:
            num_networks: Those that learn.
            teacher: A fixed one, which `kd` needs and which every method may have.

        Raises:
            ValueError: If the method needs a teacher and there is none.
        """
        if self.method == "kd":
            if teacher.name is None:
                raise ValueError("method kd needs a trained teacher: --teacher RUN or timm:NAME")
            return kd(num_networks, alpha=teacher.alpha, tau=teacher.tau)
        graph = self._among_peers(num_networks)
        if teacher.name is None:
            return graph
        return with_teacher(graph, alpha=teacher.alpha, tau=teacher.tau)

    def _among_peers(self, num_networks: int) -> TeachingGraph:
        if self.method == "deep_supervision":
            return deep_supervision(num_networks, self.head_names)
        if self.method == "dml":
            return dml(num_networks, weight=self.same_stage_weight, tau=self.tau)
        if self.method == "dks":
            return dks(num_networks, self.head_names, weight=self.same_stage_weight, tau=self.tau)
        if self.method == "dcm":
            return dcm(
                num_networks,
                self.head_names,
                same_stage_weight=self.same_stage_weight,
                different_stage_weight=self.different_stage_weight,
                tau=self.tau,
            )
        return independent(num_networks)
