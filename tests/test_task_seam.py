"""A task whose network takes lists of images and targets passes through every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutualnet.batch_checks import NonFiniteImagesError
from mutualnet.calibration import calibrate
from mutualnet.evaluation import evaluate
from mutualnet.peers import peer_step
from mutualnet.sandwich import sandwich_step
from mutualnet.score import Score
from mutualnet.space import ElasticSpace
from mutualnet.supernet import Supernet
from mutualnet.tabulation import TableInputs, build_table
from mutualnet.tasks import Task
from mutualnet.tasks.base import ScoreAccumulator
from mutualnet.teaching import independent

SPACE = ElasticSpace(width_range=(0.5, 1.0), width_step=0.5, resolutions=(16, 8))
SUBNETS = SPACE.grid()


class Counter(nn.Module):
    """Guesses how bright an image is; in train mode it wants targets and returns losses."""

    elastic_part = "backbone"

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1)
        )
        self.head = nn.Linear(8, 1)

    def forward(self, images, targets=None):
        found = torch.cat([self.head(self.backbone(x[None]).mean((2, 3))) for x in images])[:, 0]
        if self.training:
            wanted = torch.stack([target["value"] for target in targets])
            return {"square": F.mse_loss(found, wanted)}
        return [{"value": value} for value in found]


class MeanError(ScoreAccumulator):
    def __init__(self) -> None:
        self.errors: list[float] = []

    def update(self, outputs: Any, batch: Any) -> None:
        pairs = zip(outputs, batch[1], strict=True)
        self.errors += [float((a["value"] - b["value"]).abs()) for a, b in pairs]

    def compute(self) -> Score:
        value = -sum(self.errors) / len(self.errors)
        return Score(value=value, standard_error=0.0, num_samples=len(self.errors))


@dataclass(frozen=True)
class Brightness(Task):
    """Lists of images of several sizes, and a mapping for each."""

    score_name = "minus the mean error"

    def scale(self, batch, subnet):
        sizes = [[side * subnet.resolution // 16 for side in x.shape[1:]] for x in batch[0]]
        pairs = zip(batch[0], sizes, strict=True)
        return [F.interpolate(x[None], size)[0] for x, size in pairs], batch[1]

    def inputs(self, batch):
        return batch[0]

    def run(self, network, batch):
        return network(*batch) if network.training else network(batch[0])

    def supervised_loss(self, outputs, batch) -> Tensor:
        return outputs["square"]

    def distill_loss(self, outputs, teacher_outputs, tau=1.0) -> Tensor:
        raise AssertionError("it learns from labels alone")

    def example_inputs(self, supernet, subnet):
        return [torch.zeros(3, subnet.resolution, subnet.resolution)]

    def new_score(self) -> MeanError:
        return MeanError()


def _batch(count: int = 4) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    images = [torch.rand(3, 16, 16 + 4 * number) for number in range(count)]
    return images, [{"value": image.mean()} for image in images]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Supernet(Counter(), SPACE)


def test_a_step_adds_up_the_gradients_of_separate_networks(net):
    batch = _batch()
    losses = sandwich_step(net, batch, SUBNETS, task=Brightness(), distill=False)
    assert [loss.target for loss in losses] == ["labels"] * 4
    together = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    for subnet in SUBNETS:
        network = net.subnet(subnet).train()
        Brightness().run(network, Brightness().scale(batch, subnet))["square"].backward()
    for total, parameter in zip(together, net.parameters(), strict=True):
        torch.testing.assert_close(total, parameter.grad)


def test_peers_learn_side_by_side():
    torch.manual_seed(0)
    networks = [Counter(), Counter()]
    result = peer_step(networks, _batch(), independent(2), task=Brightness())
    assert all(float(loss) > 0 for loss in result.losses.values())
    assert all(p.grad is not None for network in networks for p in network.parameters())


def test_statistics_are_pooled_over_images_of_several_sizes(net):
    batch = _batch()
    calibrate(net, [batch], [SPACE.largest], task=Brightness(), data_id="noise", num_samples=4)
    seen: list[Tensor] = []
    handle = net.model.backbone[0].register_forward_hook(lambda *args: seen.append(args[2]))
    net.model.eval()(batch[0])
    handle.remove()
    # The layer runs once for each image, of which the larger ones count for more.
    values = torch.cat([found.transpose(0, 1).flatten(1) for found in seen], 1)
    statistics = net.statistics(net.key(SPACE.largest))
    torch.testing.assert_close(statistics.mean, values.mean(1))
    assert statistics.var.shape == (16,)


def test_a_table_is_made(net):
    torch.manual_seed(1)
    batches = [_batch(), _batch()]
    inputs = TableInputs(
        task=Brightness(),
        train_batches=batches,
        select_batches=batches,
        test_batches=batches,
        data_id="noise",
        num_calibration_samples=8,
        latency_runs=2,
    )
    table = build_table(net.eval(), inputs)
    assert {row.subnet for row in table.rows} == set(SUBNETS)
    assert all(row.latency_ms > 0 and row.num_samples == 8 for row in table.rows)
    scores = evaluate(net, batches, SUBNETS, task=Brightness())
    assert {row.subnet: row.score for row in table.rows} == pytest.approx(
        {subnet: score.value for subnet, score in scores.items()}
    )


def test_an_image_of_a_list_that_is_not_finite_is_named(net):
    batch = _batch()
    batch[0][2][0, 0, 0] = torch.nan
    with pytest.raises(NonFiniteImagesError, match="others in 1 of 4, the first is number 2"):
        sandwich_step(net, batch, SUBNETS, task=Brightness(), distill=False)
