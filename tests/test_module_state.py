"""What changes inside of a block is put back, after an error too."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutualnet.module_state import kept_running_statistics, mode_of


def _net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4, momentum=None))


def test_a_second_pass_leaves_no_trace_but_normalises_as_it_would():
    net, x = _net().train(), torch.randn(8, 3, 6, 6)
    expected = net(x)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with kept_running_statistics(net):
        assert torch.equal(net(x), expected)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert (net[1].momentum, net[2].momentum) == (0.1, None)
    net(x)
    assert not torch.equal(net[1].running_mean, before["1.running_mean"])


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 3e38])
def test_values_that_overflow_leave_no_trace_either(value):
    net = _net().train()
    before = {name: (tensor, tensor.clone()) for name, tensor in net.state_dict().items()}
    with kept_running_statistics(net):
        net(torch.full((2, 3, 6, 6), value))
    for name, tensor in net.state_dict().items():
        same, kept = before[name]
        assert tensor.data_ptr() == same.data_ptr()
        assert torch.equal(tensor, kept)


def test_statistics_move_again_after_an_error():
    net = _net().train()
    with pytest.raises(ZeroDivisionError), kept_running_statistics(net):
        1 / 0  # noqa: B018
    net(torch.randn(8, 3, 6, 6))
    assert net[1].num_batches_tracked == 1
    assert net[1].momentum == 0.1


@pytest.mark.parametrize("training", [True, False])
def test_every_module_gets_its_own_mode_back(training):
    net = _net().train()
    net[1].eval()  # a frozen norm in a network that trains
    with pytest.raises(ZeroDivisionError), mode_of(net, training) as same:
        assert same is net
        assert {module.training for module in net.modules()} == {training}
        1 / 0  # noqa: B018
    assert [module.training for module in net.modules()] == [True, True, False, True]
