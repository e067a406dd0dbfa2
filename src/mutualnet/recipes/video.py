"""Recipes on videos of actions.

Source: Feichtenhofer et al. 2019, https://arxiv.org/abs/1812.03982, and Feichtenhofer 2020,
    https://arxiv.org/abs/2004.04730, with the settings that their authors' code has for Kinetics;
    widths and frames of the sub-networks are those of MutualNet's results on video.
Differs: How MutualNet trains on video is not published: a step draws a resolution and a number of
    frames for each sub-network. The resolutions are those that its results are given at, from the
    crop of 224 that the networks train with. Two of the networks' settings are not here: a
    learning rate that warms up from a tenth (it rises from zero), and 30 views
    (`clips.num_crops=3`) in place of 10.
"""

from __future__ import annotations

from mutualnet.config import (
    ClipConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    TableConfig,
    WatchConfig,
)
from mutualnet.space import ElasticSpace

_WIDTHS = (0.63, 1.0)


def kinetics400_slow8x8() -> Recipe:
    """ResNet-50 over 8 frames, the slow pathway alone."""
    return _resnet(
        "kinetics400_slow8x8",
        "Slow 8x8 (ResNet-50)",
        "slow_r50",
        "action_recognition",
        (8, 5, 3),
        ClipConfig(stride=8),
    )


def kinetics400_slowfast4x16() -> Recipe:
    """A slow pathway of 4 frames, which sub-networks narrow, beside a fast one of 32."""
    return _resnet(
        "kinetics400_slowfast4x16",
        "SlowFast 4x16 (ResNet-50)",
        "slowfast_r50",
        "slowfast_action_recognition",
        (4, 3, 2),
        ClipConfig(num_frames=32, stride=2),
    )


def kinetics400_x3d_m() -> Recipe:
    """X3D-M: 16 frames, of which its sub-networks are S and XS too."""
    return Recipe(
        name="kinetics400_x3d_m",
        description="X3D-M on Kinetics-400, widths 0.63-1, 224-144 px, 16-6 frames, 300 epochs",
        model=ModelConfig(name="x3d"),
        data=DataConfig(name="kinetics", batch_size=128, num_workers=8),
        clips=ClipConfig(stride=5),
        space=ElasticSpace(
            width_range=_WIDTHS,
            resolutions=(224, 192, 160, 144),
            frames=(16, 13, 10, 6),
            width_step=0.1,
        ),
        optimizer=OptimizerConfig(
            lr=0.1, epochs=300, warmup_epochs=35, weight_decay=5e-5, nesterov=True
        ),
        table=TableConfig(num_calibration_samples=25_600, batch_size=8),
        task="action_recognition",
    )


def ucf6_x3d() -> Recipe:
    """A small X3D for six actions of UCF-101, or any folder of short videos."""
    return Recipe(
        name="ucf6_x3d",
        description="a small X3D on folders of short videos, 64-48 px, 8-4 frames, 30 epochs",
        model=ModelConfig(
            name="x3d",
            kwargs={"depths": [1, 2, 3, 2], "channels": [16, 32, 64, 128], "dropout": 0.2},
        ),
        data=DataConfig(name="video_folder", batch_size=8),
        clips=ClipConfig(stride=6, num_clips=3),
        space=ElasticSpace(
            width_range=(0.5, 1.0), resolutions=(64, 48), frames=(8, 6, 4), width_step=0.125
        ),
        optimizer=OptimizerConfig(lr=0.03, epochs=30, warmup_epochs=2, weight_decay=1e-4),
        table=TableConfig(num_calibration_samples=256, latency_runs=20),
        watch=WatchConfig(every_epochs=10, num_calibration_samples=128),
        task="action_recognition",
    )


def _resnet(
    name: str,
    title: str,
    model: str,
    task: str,
    frames: tuple[int, ...],
    clips: ClipConfig,
) -> Recipe:
    return Recipe(
        name=name,
        description=f"{title} on Kinetics-400, widths 0.63-1, 224-144 px, {frames[0]}-{frames[-1]}"
        " frames, 196 epochs",
        model=ModelConfig(name=model),
        data=DataConfig(name="kinetics", batch_size=64, num_workers=8),
        clips=clips,
        space=ElasticSpace(
            width_range=_WIDTHS, resolutions=(224, 180, 144), frames=frames, width_step=0.1
        ),
        optimizer=OptimizerConfig(
            lr=0.1, epochs=196, warmup_epochs=34, weight_decay=1e-4, nesterov=True
        ),
        table=TableConfig(num_calibration_samples=12_800, batch_size=8),
        task=task,
    )
