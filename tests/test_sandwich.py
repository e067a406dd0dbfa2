"""One mutual step against the same step written out on plain networks."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mutualnet.methods import METHODS
from mutualnet.models.cifar import wrn16_1
from mutualnet.sandwich import sandwich_step
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.supernet import Supernet
from mutualnet.tasks.classification import Classification

SPACE = ElasticSpace(resolutions=(16, 12, 8))
DRAW = (
    Subnet(width_mult=1.0, resolution=16),
    Subnet(width_mult=0.7, resolution=16),
    Subnet(width_mult=0.4, resolution=12),
    Subnet(width_mult=0.25, resolution=8),
)


@pytest.fixture
def supernet():
    return Supernet(wrn16_1(num_classes=5), SPACE).train()


@pytest.fixture
def batch():
    return torch.randn(6, 3, 16, 16), torch.randint(5, (6,))


def _reference_gradients(
    supernet: Supernet, batch: tuple[torch.Tensor, torch.Tensor], *, distill: bool
) -> dict[str, torch.Tensor]:
    """Sum the gradients of four separate narrow networks, placed back by hand."""
    images, labels = batch
    total = {name: torch.zeros_like(p) for name, p in supernet.model.named_parameters()}
    teacher = None
    for subnet in DRAW:
        narrow = supernet.extract(subnet, uncalibrated=True).train()
        size = (subnet.resolution, subnet.resolution)
        scaled = F.interpolate(images, size, mode="bilinear", align_corners=True)
        logits = narrow(scaled)
        if teacher is None or not distill:
            loss = F.cross_entropy(logits, labels)
        else:
            target = teacher.softmax(1)
            loss = (target * (target.log() - logits.log_softmax(1))).sum(1).mean()
        teacher = logits.detach() if teacher is None else teacher
        loss.backward()
        for name, parameter in narrow.named_parameters():
            block = tuple(slice(0, n) for n in parameter.shape)  # WRN keeps leading channels
            total[name][block] += parameter.grad
    return total


@pytest.mark.parametrize("distill", [True, False])
def test_gradients_are_the_sum_over_plain_networks(supernet, batch, distill):
    expected = _reference_gradients(supernet, batch, distill=distill)
    sandwich_step(supernet, batch, DRAW, task=Classification(), distill=distill)
    for name, parameter in supernet.model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_two_steps_without_zero_grad_accumulate(supernet, batch):
    task = Classification()
    sandwich_step(supernet, batch, DRAW, task=task)
    once = {name: p.grad.clone() for name, p in supernet.model.named_parameters()}
    sandwich_step(supernet, batch, DRAW, task=task)
    for name, parameter in supernet.model.named_parameters():
        torch.testing.assert_close(parameter.grad, 2 * once[name], rtol=1e-4, atol=1e-5)


def test_members_say_who_learned_from_what(supernet, batch):
    members = sandwich_step(supernet, batch, DRAW, task=Classification())
    assert tuple(member.subnet for member in members) == DRAW
    assert [member.target for member in members] == ["labels", *["largest"] * 3]
    assert all(not member.loss.requires_grad for member in members)
    members = sandwich_step(supernet, batch, DRAW, task=Classification(), distill=False)
    assert {member.target for member in members} == {"labels"}


def test_running_statistics_follow_the_full_network_alone(supernet, batch):
    plain = copy.deepcopy(supernet.model)
    plain(batch[0])
    sandwich_step(supernet, batch, DRAW, task=Classification())
    for name, buffer in supernet.model.named_buffers():
        torch.testing.assert_close(buffer, plain.get_buffer(name), rtol=0, atol=0)


def test_each_resolution_is_made_once(supernet, batch):
    class Counting(Classification):
        calls: list[int] = []  # noqa: RUF012

        def scale(self, batch, subnet):
            self.calls.append(subnet.resolution)
            return super().scale(batch, subnet)

    sandwich_step(supernet, batch, DRAW, task=Counting())
    assert Counting.calls == [16, 12, 8]


def test_it_learns_one_batch_at_every_width(supernet, batch):
    rng, task = np.random.default_rng(0), Classification()
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9)
    for _ in range(30):
        optimizer.zero_grad()
        sandwich_step(supernet, batch, METHODS["mutualnet"].draw(SPACE, rng), task=task)
        optimizer.step()
    images, labels = batch
    for width in (1.0, 0.5, 0.25):
        module = supernet.subnet(Subnet(width_mult=width, resolution=16)).train()
        assert (module(images).argmax(1) == labels).float().mean() >= 5 / 6


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_of_the_literature_runs(supernet, batch, name):
    space = replace(SPACE, widths=(1.0, 0.5, 0.25)) if METHODS[name].rule.every_width else SPACE
    draw = METHODS[name].draw(space, np.random.default_rng(0))
    members = sandwich_step(supernet, batch, draw, task=Classification())
    assert len(members) == len(draw)
    assert all(p.grad is not None for p in supernet.parameters())


def test_a_network_trained_alone_at_half_width_touches_no_other_channel(batch):
    space = ElasticSpace(widths=(0.5,), resolutions=(12,))
    supernet = Supernet(wrn16_1(num_classes=5), space).train()
    draw = METHODS["independent"].draw(space, np.random.default_rng(0))
    sandwich_step(supernet, batch, draw, task=Classification())
    gradient = supernet.model.stage3[0].conv1.weight.grad
    assert gradient[:32, :16].abs().sum() > 0
    assert gradient[32:].abs().sum() == 0
    assert gradient[:, 16:].abs().sum() == 0


def test_frozen_norms_of_the_model_stay_frozen_in_narrower_ones(supernet):
    supernet.model.stage1.eval()
    narrow = supernet.pooled_subnet(DRAW[1])
    assert not narrow.stage1.training
    supernet.model.train()
    assert supernet.pooled_subnet(DRAW[1]).stage1.training


def test_bfloat16_autocast_gives_nearly_the_same_losses(supernet, batch):
    plain = sandwich_step(supernet, batch, DRAW, task=Classification())
    half = sandwich_step(supernet, batch, DRAW, task=Classification(), autocast=torch.bfloat16)
    for a, b in zip(plain, half, strict=True):
        assert float(a.loss) == pytest.approx(float(b.loss), abs=0.05)


@pytest.mark.parametrize("has_learned", [False, True])
def test_outputs_of_a_teacher_that_still_have_their_graph_receive_no_gradient(
    supernet, batch, has_learned
):
    images, labels = batch
    teacher = supernet(images)
    sandwich_step(supernet, batch, DRAW[1:], task=Classification(), teacher=teacher.detach())
    expected = {name: p.grad.clone() for name, p in supernet.model.named_parameters()}
    if has_learned:
        F.cross_entropy(teacher, labels).backward()
    supernet.zero_grad()
    sandwich_step(supernet, batch, DRAW[1:], task=Classification(), teacher=teacher)
    for name, parameter in supernet.model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-5, atol=1e-7)


def test_no_subnetwork_is_an_error(supernet, batch):
    with pytest.raises(ValueError, match="at least one sub-network"):
        sandwich_step(supernet, batch, (), task=Classification())


def test_an_untrained_width_is_refused(supernet, batch):
    with pytest.raises(ValueError, match=r"width_mult must be in \[0.25, 1\]"):
        sandwich_step(
            supernet, batch, (Subnet(width_mult=0.1, resolution=16),), task=Classification()
        )
