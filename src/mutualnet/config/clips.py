"""Which frames of a video a network is shown."""

from __future__ import annotations

from dataclasses import dataclass

from mutualnet.numbers import check_numbers


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Clips of videos; data sets of images have none."""

    num_frames: int | None = None
    """Of a clip as it is read, None for the most that a sub-network sees (`space.frames`)."""
    stride: int = 5
    """From one frame to the next, in thirtieths of a second."""
    num_clips: int = 10
    """Clips of a video that is evaluated, spread evenly over it."""
    num_crops: int = 1
    """Of each of them: 1 for the centre, 3 for both ends of the long side too."""

    def __post_init__(self) -> None:
        check_numbers(self)
        for name in ("num_frames", "stride", "num_clips"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"clips.{name} must be >= 1, got {value}")
        if self.num_crops not in (1, 3):
            raise ValueError(f"clips.num_crops must be 1 or 3, got {self.num_crops}")
