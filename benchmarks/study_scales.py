"""At which size a study is run: a network that fits few images in a day, or the papers' own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.study_values import Config, StudyRun

_FEW = (
    "data.train_share=0.03",
    "data.batch_size=54",  # divides 1,350: no step of six images
    "optimizer.schedule=cosine",
    "compute.precision=bf16",
    "compute.memory_format=channels_last",
    "watch.every_epochs=0",
)
_PAPER = ("optimizer.schedule=cosine", "compute.precision=bf16", "watch.every_epochs=0")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Networks, data and length of the runs."""

    name: str
    title: str
    text: str
    """A paragraph of the page."""
    data: str
    recipe: str
    """A recipe for the data, whose network is replaced."""
    network: str
    small_network: str
    """Narrower: the other width of the regime."""
    second_network: str
    """Another backbone."""
    compound: str
    """Half of the network's width by compound scaling: `model=...`, at `compound_width`."""
    compound_width: float
    elastic: tuple[Config, ...]
    """What is scored of a network that trains widths from a quarter: the budgets' own
    configurations and, at the other resolutions, the widest ones of a grid of 0.05 within them."""
    scaled: tuple[Config, ...]
    """The same of widths from 1 to 2, within the cost of the compound network."""
    cutout: int
    """Side of Cutout's square, in pixels."""
    epochs: int
    pair_epochs: int
    """Networks that teach each other fit the labels later."""
    finetune_epochs: int
    train_share: float
    """Of the train images, for all but the regime."""
    common: tuple[str, ...]
    """Settings of all runs of one network. Those of pairs are `pair_common`."""
    pair_recipe: str
    pair_common: tuple[str, ...]
    """Settings of all runs of networks that teach each other."""
    pair_side: int
    """Resolution of networks that teach each other, in pixels."""
    pair_sides: tuple[int, ...]
    """The same, and lower ones for slimmable networks."""
    source_data: str
    """What transfer starts from."""
    source_share: float
    source_epochs: int
    shares: tuple[tuple[float, int], ...]
    """Shares of the train images for the regime, each with the epochs that make as many steps."""
    gigamacs_per_second: float
    """Training speed behind estimates of cost: forward passes' multiply-adds, three for a step."""
    machine: str
    """What the speed is of."""

    def run(
        self, *settings: str, network: str | None = None, model: str = "", **words: Any
    ) -> StudyRun:
        """One network's run.

        Args:
            settings: Besides the common ones.
            network: In place of the scale's own.
            model: A whole `model=...` in place of it.
            words: Values of `StudyRun`.
        """
        values: dict[str, Any] = {
            "recipe": self.recipe,
            "data": self.data,
            "epochs": self.epochs,
            "configs": ((1.0, 32),),
            "settings": (model or f"model.name={network or self.network}", *self.common, *settings),
            **words,
        }
        return StudyRun(**values)

    def pair(
        self,
        *settings: str,
        network: str | None = None,
        other: str | None = None,
        count: int = 2,
        weight_init: str = "dcm",
        **words: Any,
    ) -> StudyRun:
        """A run of two networks at the resolution of pairs, which learn from labels alone.

        Args:
            settings: Besides the common ones.
            network: Both, in place of the scale's own.
            other: The second, in place of the same.
            count: 1 for one network in the same setting.
            weight_init: How weights are drawn; by default as the authors of DCM do.
            words: Values of `StudyRun`.
        """
        first = network or self.network
        second = f"{{name: {other or first}, weight_init: {weight_init}}}"
        peers = f"peers=[{{model: {second}}}]" if count > 1 else "peers=[]"
        values: dict[str, Any] = {
            "recipe": self.pair_recipe,
            "data": self.data,
            "epochs": self.pair_epochs,
            "teaching": "independent",
            "resolutions": (self.pair_side,),
            "configs": ((1.0, self.pair_side),),
            "settings": (
                f"model.name={first}",
                f"model.weight_init={weight_init}",
                *self.pair_common,
                peers,
                *settings,
            ),
            **words,
        }
        return StudyRun(**values)


FEW_IMAGES = Scale(
    name="few-images",
    title="WRN-16-2 on 1,350 images of CIFAR-10",
    text="""\
WRN-16-2 (0.69 M parameters) on 3 % of CIFAR-10's train images, few enough for it to fit them: how
far each method gets is told by the *train loss*, the full network's cross entropy in its last
epoch (with smoothed, mixed or wrong labels on those, so that it cannot reach 0). All methods take
the same number of steps, not the same time. Batch size 54, SGD with a learning rate of 0.1 and a
cosine schedule, bf16. Single networks train for 54 epochs (1,350 steps) at 32, 28, 24 and 20 px;
those alone at a lower resolution see what a sub-network sees there, and those of a narrower width
start from the same slices of the initial weights as a sub-network.
Networks that teach each other train for 70 epochs (1,750 steps) at 20 px, from weights that are
initialised as in the code of DCM's authors; only those of the section on regimes use the networks'
own initialisation. For transfer a network is pretrained for 10 epochs on 10 % of CIFAR-100 and
fine-tuned for 20 epochs with a learning rate of 0.02. KD weighs labels by 0.1 and its teacher, at
temperature 4, by 0.9. AutoAugment's policy was found with the labels of 4,000 images of CIFAR-10.
The papers' numbers are for ImageNet or all of CIFAR: compare the direction of a difference, not its
size. What DCM's paper says of its ablations, label noise and dropout is cited at second hand.""",
    data="cifar10",
    recipe="cifar10_wrn16_1",
    network="wrn16_2",
    small_network="wrn16_1",
    second_network="resnet20_cifar",
    compound='model={name: "mutualnet.models.cifar:WideResNet", '
    "kwargs: {depth: 22, width_factor: 2}}",
    compound_width=0.6,
    elastic=(
        *((1.0, side) for side in (32, 28, 20)),
        *((0.75, 28), (0.55, 32), (0.8, 24)),
        *((0.5, 24), (0.25, 32), (0.4, 28), (0.55, 20)),
        (0.25, 20),
    ),
    scaled=((1.4, 32), (1.65, 28), (1.65, 26), (2.0, 22)),
    cutout=16,
    epochs=54,
    pair_epochs=70,
    finetune_epochs=20,
    train_share=0.03,
    common=_FEW,
    pair_recipe="cifar10_wrn16_1",
    pair_common=_FEW,
    pair_side=20,
    pair_sides=(20, 18, 15, 12),
    source_data="cifar100",
    source_share=0.1,
    source_epochs=10,
    shares=((0.03, 70), (0.1, 21), (0.3, 7)),
    gigamacs_per_second=112.0,
    machine="one thread of an AMD EPYC with AVX-512 BF16, the core's other thread busy too",
)

PAPER = Scale(
    name="paper",
    title="WRN-28-10 on all images of CIFAR-100",
    text="""\
The papers' network and settings on CIFAR: 200 epochs on all images. Single networks learn with a
cosine schedule; networks that teach each other with the steps of DCM's authors.""",
    data="cifar100",
    recipe="cifar100_wrn28_10",
    network="wrn28_10",
    small_network="wrn28_4",
    second_network="mobilenet_v1_cifar_8x8",
    compound='model={name: "mutualnet.models.cifar:WideResNet", '
    "kwargs: {depth: 40, width_factor: 10}}",
    compound_width=0.6,
    elastic=(
        *((1.0, side) for side in (32, 28, 20)),
        *((0.75, 28), (0.65, 32), (0.85, 24)),
        *((0.5, 24), (0.35, 32), (0.4, 28), (0.55, 20)),
        *((0.25, 32), (0.25, 20)),
    ),
    scaled=((1.3, 32), (1.45, 28), (1.5, 26), (1.8, 22)),
    cutout=8,
    epochs=200,
    pair_epochs=200,
    finetune_epochs=50,
    train_share=1.0,
    common=_PAPER,
    pair_recipe="cifar100_wrn28_10_pair",
    pair_common=("compute.precision=bf16", "watch.every_epochs=0"),
    pair_side=32,
    pair_sides=(32, 28, 24, 20),
    source_data="cifar10",
    source_share=1.0,
    source_epochs=200,
    shares=((0.03, 6667), (0.1, 2000), (0.3, 667), (1.0, 200)),
    gigamacs_per_second=30000.0,
    machine="one H100, guessed as 6 % of its rated bf16 speed",
)

SCALES = {scale.name: scale for scale in (FEW_IMAGES, PAPER)}
"""By name."""
