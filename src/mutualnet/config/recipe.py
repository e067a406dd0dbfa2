"""A recipe: everything that decides a training run, as typed values that check themselves."""

from __future__ import annotations

import logging
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from mutualnet.config.choices import check_choice
from mutualnet.config.clips import ClipConfig
from mutualnet.config.data import DataConfig
from mutualnet.config.measurement import TableConfig, WatchConfig
from mutualnet.config.method import MethodConfig
from mutualnet.config.model import ModelConfig
from mutualnet.config.optimizer import OptimizerConfig
from mutualnet.config.teaching import PeerConfig, TeacherConfig, TeachingConfig
from mutualnet.numbers import check_numbers
from mutualnet.space import ElasticSpace
from mutualnet.teaching import TeachingGraph

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Number format and memory layout; `auto` lets a short probe choose."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, ("auto", "fp32", "bf16"))
        check_choice("memory_format", self.memory_format, ("auto", "contiguous", "channels_last"))


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
    clips: ClipConfig = field(default_factory=ClipConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    table: TableConfig = field(default_factory=TableConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    task: str = "classification"
    """`classification`, `multilabel`, `detection`, `instance_segmentation`, `action_recognition`,
    `slowfast_action_recognition`, or `package.module:function` that makes one of yours."""
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
        if self.load_resolution < self.space.resolutions[0]:
            raise ValueError(
                "data.resolution must be at least the top resolution, which would else be made of "
                f"smaller images: {self.space.resolutions[0]}, got {self.load_resolution}"
            )
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
        if trained.width_range != self.space.width_range or trained.widths != self.space.widths:
            logger.warning(
                "method %s trains the widths %s alone: the others of the range from %g to %g are "
                "left out of the space",
                self.method.name,
                ", ".join(f"{width:g}" for width in trained.widths or trained.width_range[1:]),
                *self.space.width_range,
            )
        if trained.depths != self.space.depths:
            logger.warning(
                "method %s trains the depths %s alone: the others of %s are left out of the space",
                self.method.name,
                ", ".join(f"{depth:g}" for depth in trained.depths),
                ", ".join(f"{depth:g}" for depth in self.space.depths),
            )
        object.__setattr__(self, "space", trained)

    def _check_teaching(self) -> None:
        teaching = self.teaching
        for optimizer in self.optimizers[1:]:
            for name in ("epochs", "accumulate"):
                value, first = getattr(optimizer, name), getattr(self.optimizer, name)
                if value != first:
                    raise ValueError(f"every peer's {name} must be {first}, got {value}")
        are_joined = teaching.optimizers == "one" and not self.learns_in_turn
        if are_joined and len({optimizer.clip_norm for optimizer in self.optimizers}) > 1:
            raise ValueError(
                "clip_norm is the whole gradient's with one optimizer: give every peer the same, "
                "or set teaching.optimizers=each"
            )
        if are_joined and any(
            (optimizer.name, optimizer.kwargs) != (self.optimizer.name, self.optimizer.kwargs)
            for optimizer in self.optimizers
        ):
            raise ValueError(
                "one optimizer over all networks has one name and one set of kwargs: give every "
                "peer the same, or set teaching.optimizers=each"
            )
        if teaching.update == "alternating" and self.optimizer.accumulate > 1:
            raise ValueError("alternating updates need optimizer.accumulate=1")

    @property
    def load_resolution(self) -> int:
        """Side that images are loaded at, in pixels."""
        return self.data.resolution or self.space.resolutions[0]

    @property
    def clip_options(self) -> dict[str, int]:
        """What data sets of videos are told of their clips; nothing where there are only images."""
        if self.space.frames is None and self.clips == ClipConfig():
            return {}
        options = asdict(self.clips)
        if options["num_frames"] is None:
            del options["num_frames"]
            if self.space.frames is not None:
                options["num_frames"] = self.space.frames[0]
        return options

    @property
    def num_views(self) -> int:
        """Clips that a network looks at to say what one video shows; 1 for images."""
        return self.clips.num_clips * self.clips.num_crops if self.clip_options else 1

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

    def alone(self, index: int) -> Recipe:
        """The recipe of one of the networks by itself, as its finished run carries it."""
        return replace(
            self,
            model=self.models[index],
            optimizer=self.optimizers[index],
            peers=(),
            teaching=TeachingConfig(),
            teacher=TeacherConfig(),
        )
