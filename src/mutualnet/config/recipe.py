"""A recipe: everything that decides a training run, as typed values that check themselves."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mutualnet.methods import METHODS, Method
from mutualnet.numbers import check_numbers
from mutualnet.space import ElasticSpace
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

logger = logging.getLogger(__name__)

_MOST_WORKERS, _MOST_RANDOM = 1024, 1024
"""More processes that load images, or random sub-networks in a step, are a slip of the pen."""


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
        _check_choice("weight_init", self.weight_init, ("default", "mutualnet", "dcm"))
        if not 0 <= self.init_lr_mult <= 1:
            raise ValueError(f"init_lr_mult must lie in [0, 1], got {self.init_lr_mult}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and how they are fed."""

    name: str
    """A name that `mutualnet.data.load_data` knows, such as `cifar10` or `imagefolder`."""
    path: str | None = None
    """Folder of the data set; digits need none."""
    batch_size: int = 128
    """Images of a step, over all processes."""
    select_share: float = 0.1
    """Share of the train images held out to choose the table's winners; 0 trains on all of them,
    and a tenth of what was trained on chooses."""
    select_from: Literal["train", "test"] = "train"
    """`test` chooses them on test images, which then tell nothing about new ones; it needs
    `select_share` 0."""
    train_share: float = 1.0
    """Share of every class of the other train images to use, for comparisons in little time."""
    augment: str = "standard"
    """`standard`, `none`, or `wide_crop` for photos."""
    policy: Literal["none", "autoaugment", "fast_autoaugment"] = "none"
    """A learned augmentation policy on top."""
    cutout: int = 0
    """Side of the square that Cutout blanks, in pixels; 0 for none."""
    mixup_alpha: float = 0.0
    """Mixup: images and labels are mixed by a share drawn from Beta(alpha, alpha); 0 for none."""
    cutmix_alpha: float = 0.0
    """CutMix: a box of another image is pasted in; with mixup each step does one of the two."""
    label_noise: float = 0.0
    """Share of the train images whose class is replaced by another, drawn by the seed."""
    balance: Literal["none", "loss", "sampling"] = "none"
    """What makes rare classes count as much as others: weights of the loss, or of the draws."""
    max_damaged_share: float = 0.01
    """Share of each split's photos that may be damaged; others take their place."""
    num_workers: int = 0
    """Processes that load images; 0 loads in the training process."""

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.batch_size < 2:
            raise ValueError(f"batch_size must be >= 2, which BN needs, got {self.batch_size}")
        if not 0 <= self.select_share < 1:
            raise ValueError(f"select_share must lie in [0, 1), got {self.select_share}")
        _check_choice("select_from", self.select_from, ("train", "test"))
        if self.select_from == "test" and self.select_share:
            raise ValueError(
                f"select_from=test would leave the select_share={self.select_share} of train "
                "unused. Set data.select_share=0 too."
            )
        if not 0 <= self.max_damaged_share < 1:
            raise ValueError(f"max_damaged_share must lie in [0, 1), got {self.max_damaged_share}")
        if not 0 <= self.num_workers <= _MOST_WORKERS:
            raise ValueError(
                f"num_workers must be >= 0 and <= {_MOST_WORKERS}, got {self.num_workers}"
            )
        if not 0 < self.train_share <= 1:
            raise ValueError(f"train_share must lie in (0, 1], got {self.train_share}")
        if not 0 <= self.label_noise <= 1:
            raise ValueError(f"label_noise must lie in [0, 1], got {self.label_noise}")
        for name in ("cutout", "mixup_alpha", "cutmix_alpha"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        _check_choice("policy", self.policy, ("none", "autoaugment", "fast_autoaugment"))
        _check_choice("balance", self.balance, ("none", "loss", "sampling"))

    @property
    def place(self) -> str:
        """The folder, or the name of data that need none."""
        return self.path or self.name


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """SGD with momentum, and its learning rate after a warm-up."""

    lr: float
    """Highest learning rate."""
    epochs: int
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    decay_all: bool = False
    """Whether weight decay acts on BN, biases and depthwise convolutions too."""
    warmup_epochs: float = 0.0
    """The learning rate rises linearly from zero over this many epochs."""
    schedule: Literal["cosine", "linear", "step", "exponential"] = "cosine"
    """How the learning rate falls then; cosine and linear end at zero."""
    milestones: tuple[int, ...] = ()
    """Epochs after which the `step` schedule lowers the learning rate."""
    gamma: float = 0.1
    """Factor of the learning rate: at each milestone for `step`, after every epoch for
    `exponential`."""
    accumulate: int = 1
    """Gradient accumulation: micro-batches of a batch, to save memory; BN sees micro-batches."""
    clip_norm: float | None = None
    """Largest norm of the whole gradient; None leaves it alone."""
    reset_momentum: bool = False
    """Whether the `step` schedule forgets the momentum at each milestone."""
    ema_decay: float | None = None
    """Keep a moving average of the weights, and end with it: its share of the old at each step."""

    def __post_init__(self) -> None:
        check_numbers(self)
        if not self.lr > 0:
            raise ValueError(f"lr must be > 0, got {self.lr}")
        if self.epochs < 1:
            raise ValueError(f"epochs must be >= 1, got {self.epochs}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum > 0, got 0")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be >= 0, got {self.weight_decay}")
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(
                f"warmup_epochs must lie in [0, {self.epochs}], got {self.warmup_epochs}"
            )
        _check_choice("schedule", self.schedule, ("cosine", "linear", "step", "exponential"))
        if self.schedule == "step" and not self.milestones:
            raise ValueError("schedule=step needs milestones, for example [60, 120, 160]")
        if any(epoch < 1 for epoch in self.milestones):
            raise ValueError(f"milestones must be epochs >= 1, got {self.milestones}")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must lie in (0, 1], got {self.gamma}")
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be >= 1, got {self.accumulate}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be > 0 or null, got {self.clip_norm}")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in (0, 1) or be null, got {self.ema_decay}")


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """What one training step runs, and what it learns from."""

    name: str = "mutualnet"
    """A key of `mutualnet.METHODS`."""
    num_random: int | None = None
    """Sub-networks of random width in a step; None keeps the method's own number."""
    distill: bool | None = None
    """Whether narrower sub-networks learn from the largest one's output; if not, from labels.
    None is the method's own choice: yes for all but `s_net`."""

    def __post_init__(self) -> None:
        check_numbers(self)
        _check_choice("method.name", self.name, tuple(METHODS))
        if self.num_random is not None and not 0 <= self.num_random <= _MOST_RANDOM:
            raise ValueError(
                f"num_random must be >= 0 and <= {_MOST_RANDOM}, got {self.num_random}"
            )

    @property
    def value(self) -> Method:
        """The method, with what is set here in place of its own."""
        method = METHODS[self.name]
        if self.num_random is not None:
            method = replace(method, rule=replace(method.rule, num_random=self.num_random))
        if self.distill is not None:
            method = replace(method, distills=self.distill)
        return method


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
        _check_choice("teaching.method", self.method, TEACHINGS)
        _check_choice("head_variant", self.head_variant, ("standard", "narrow", "apfc"))
        _check_choice("update", self.update, ("joint", "alternating"))
        _check_choice("optimizers", self.optimizers, ("one", "each"))
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


@dataclass(frozen=True, kw_only=True)
class PeerConfig:
    """One more network that trains on the same batches."""

    model: ModelConfig
    optimizer: OptimizerConfig | None = None
    """None for the recipe's own. It must train as many epochs, with the same accumulation."""


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
class ComputeConfig:
    """Number format and memory layout; `auto` lets a short probe choose."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """How the query table is made."""

    num_calibration_samples: int = 2048
    """Training images behind each sub-network's BN statistics."""
    latency_runs: int = 30
    """Timed passes per sub-network."""
    batch_size: int | None = None
    """Images of a batch, None for that of training."""

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.num_calibration_samples < 2:
            raise ValueError(
                f"num_calibration_samples must be >= 2, got {self.num_calibration_samples}"
            )
        if self.batch_size is not None and self.batch_size < 2:
            raise ValueError(f"table.batch_size must be >= 2 or null, got {self.batch_size}")
        if self.latency_runs < 0:
            raise ValueError(f"latency_runs must be >= 0, got {self.latency_runs}")


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """Scores of the largest and the smallest sub-network on the way, and at the end of training."""

    every_epochs: int = 5
    """Epochs between two looks; 0 for none, at the end neither."""
    num_images: int = 2048
    """Most images of the select split that a look scores."""
    num_calibration_samples: int = 256
    """Training images behind the BN statistics of a look."""

    def __post_init__(self) -> None:
        if self.every_epochs < 0:
            raise ValueError(f"every_epochs must be >= 0, got {self.every_epochs}")
        if self.num_images < 1:
            raise ValueError(f"num_images must be >= 1, got {self.num_images}")
        if self.num_calibration_samples < 2:
            raise ValueError(
                f"num_calibration_samples must be >= 2, got {self.num_calibration_samples}"
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a training run."""

    name: str
    description: str
    """One line for the list of recipes."""
    model: ModelConfig
    data: DataConfig
    space: ElasticSpace
    optimizer: OptimizerConfig
    method: MethodConfig = field(default_factory=MethodConfig)
    peers: tuple[PeerConfig, ...] = ()
    """Networks that train beside `model`."""
    teaching: TeachingConfig = field(default_factory=TeachingConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    table: TableConfig = field(default_factory=TableConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    task: str = "classification"
    """`classification`, `multilabel`, or `package.module:function` that makes one of yours."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    seed: int = 0
    checkpoint_minutes: float = 5.0
    """Time between two checkpoints to resume from; 0 writes one at every step."""

    def __post_init__(self) -> None:
        check_numbers(self)
        if not re.fullmatch(r"\w[\w .+=-]{0,99}", self.name):  # it begins the name of a directory
            raise ValueError(
                "name must begin with a letter or digit and have no more than 100 letters, digits, "
                f"spaces and _ . + = -, got {self.name[:100]!r}"
            )
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")
        if self.seed < 0:
            raise ValueError(f"seed must be >= 0, got {self.seed}")
        if self.checkpoint_minutes < 0:
            raise ValueError(f"checkpoint_minutes must be >= 0, got {self.checkpoint_minutes}")
        self._check_space()
        self._check_teaching()
        soft = [n for n in ("mixup_alpha", "cutmix_alpha") if getattr(self.data, n)]
        if soft and self.task != "classification":
            raise ValueError(f"{soft[0]} mixes class labels; task {self.task!r} has none")

    def _check_space(self) -> None:
        """Keep the widths that the method trains: others would be tabulated as if they were."""
        method = self.method.value
        if method.owns_norms and self.space.widths is None:
            raise ValueError(
                f"method {self.method.name} trains a fixed list of widths, but space.widths is "
                "null. Set it, for example [0.25, 0.5, 0.75, 1.0]."
            )
        trained = method.rule.trained(self.space)
        if trained == self.space:
            return
        logger.warning(
            "method %s trains the widths %s alone: the others of the range from %g to %g are left "
            "out of the space",
            self.method.name,
            ", ".join(f"{width:g}" for width in trained.widths or trained.width_range[1:]),
            *self.space.width_range,
        )
        object.__setattr__(self, "space", trained)

    def _check_teaching(self) -> None:
        teaching = self.teaching
        for own in self.optimizers[1:]:
            for name in ("epochs", "accumulate"):
                mine, first = getattr(own, name), getattr(self.optimizer, name)
                if mine != first:
                    raise ValueError(f"every peer's {name} must be {first}, got {mine}")
        are_joined = teaching.optimizers == "one" and not self.learns_in_turn
        if are_joined and len({own.clip_norm for own in self.optimizers}) > 1:
            raise ValueError(
                "clip_norm is the whole gradient's with one optimizer: give every peer the same, "
                "or set teaching.optimizers=each"
            )
        if teaching.update == "alternating" and self.optimizer.accumulate > 1:
            raise ValueError("alternating updates need optimizer.accumulate=1")

    @property
    def has_teaching(self) -> bool:
        """Whether full networks have more to learn from than labels."""
        return self.teaching.method != "independent" or self.teacher.name is not None

    @property
    def learns_in_turn(self) -> bool:
        """Whether each network takes its step before the next one learns."""
        return self.has_teaching and self.teaching.update == "alternating"

    @property
    def models(self) -> tuple[ModelConfig, ...]:
        """Every network."""
        return self.model, *(peer.model for peer in self.peers)

    @property
    def optimizers(self) -> tuple[OptimizerConfig, ...]:
        """How each network learns."""
        return self.optimizer, *(peer.optimizer or self.optimizer for peer in self.peers)

    @property
    def graph(self) -> TeachingGraph:
        """Who learns from whom; the teacher, if there is one, is the last network.

        Raises:
            ValueError: If the method needs a teacher or another network and there is none.
        """
        if self.teaching.method in ("dml", "dcm") and not self.peers:
            raise ValueError(
                f"method {self.teaching.method} needs at least two networks, but the recipe has no "
                "peers. Take a recipe for a pair, or set peers, for example --set "
                "'peers=[{model: {name: wrn16_1}}]'."
            )
        return self.teaching.graph(len(self.models), self.teacher)

    def alone(self, number: int) -> Recipe:
        """The recipe of one of the networks by itself, as its finished run carries it."""
        return replace(
            self,
            model=self.models[number],
            optimizer=self.optimizers[number],
            peers=(),
            teaching=TeachingConfig(),
            teacher=TeacherConfig(),
        )


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
