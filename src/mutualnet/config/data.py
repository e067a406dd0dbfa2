"""Which images a recipe trains on, and how they are fed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mutualnet.config.choices import check_choice
from mutualnet.numbers import check_numbers

_MOST_WORKERS = 1024
"""More processes that load images are a slip of the pen."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and how they are fed."""

    name: str
    """A name that `mutualnet.data.load_data` knows, such as `cifar10` or `imagefolder`."""
    path: str | None = None
    """Folder of the data set; digits need none."""
    resolution: int | None = None
    """Side that images are loaded at, in pixels; None for the space's top resolution. A network at
    one lower resolution sees, by this, the very images that it would see as a sub-network."""
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
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(f"resolution must be >= 1 or null, got {self.resolution}")
        if not 0 <= self.select_share < 1:
            raise ValueError(f"select_share must lie in [0, 1), got {self.select_share}")
        check_choice("select_from", self.select_from, ("train", "test"))
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
        check_choice("policy", self.policy, ("none", "autoaugment", "fast_autoaugment"))
        check_choice("balance", self.balance, ("none", "loss", "sampling"))

    @property
    def place(self) -> str:
        """The folder, or the name of data that need none."""
        return self.path or self.name
