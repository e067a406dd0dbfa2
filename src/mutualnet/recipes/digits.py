"""Recipes on the digits that come with scikit-learn."""

from __future__ import annotations

from mutualnet.config import DataConfig, ModelConfig, OptimizerConfig, Recipe, TableConfig
from mutualnet.space import ElasticSpace


def digits_demo() -> Recipe:
    """A small wide residual network, trained in a minute or two on two CPU cores."""
    return Recipe(
        name="digits_demo",
        description="WRN-10-1 on scikit-learn's digits; a minute on two CPU cores",
        model=ModelConfig(name="mutualnet.models.cifar:WideResNet", kwargs=_WRN_10_1),
        data=DataConfig(name="digits", batch_size=64, select_share=0.2),
        space=ElasticSpace(width_range=(0.25, 1.0), resolutions=(16, 12, 8), width_step=0.125),
        optimizer=OptimizerConfig(lr=0.1, epochs=12, warmup_epochs=1, weight_decay=5e-4),
        table=TableConfig(num_calibration_samples=1024, latency_runs=20),
    )


_WRN_10_1 = {"depth": 10, "width_factor": 1}
