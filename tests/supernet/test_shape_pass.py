"""Passes for shapes: what they leave out changes no shape and no number format."""

from __future__ import annotations

import itertools

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mutualnet.space import ElasticSpace
from mutualnet.supernet import Supernet
from mutualnet.supernet.shape_pass import run_for_shapes, shape_pass


class _Names(TorchDispatchMode):
    """The names of the operations that are dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func._schema.name)
        return func(*args, **(kwargs or {}))


PRODUCTS = {
    "a convolution": (nn.Conv2d(3, 64, 3, stride=2, groups=1), (2, 3, 65, 65)),
    "a depthwise convolution": (nn.Conv2d(32, 32, 3, groups=32, bias=False), (2, 32, 40, 40)),
    "a transposed convolution": (nn.ConvTranspose2d(8, 32, 2, stride=2), (2, 8, 40, 40)),
    "a convolution of clips": (nn.Conv3d(3, 16, 3), (2, 3, 6, 40, 40)),
    "a linear layer": (nn.Linear(32, 1000), (300, 32)),
    "a linear layer without bias": (nn.Linear(32, 1000, bias=False), (300, 32)),
}


@pytest.mark.parametrize("what", sorted(PRODUCTS))
def test_products_are_noise_of_the_same_shape_around_the_bias(what):
    layer, shape = PRODUCTS[what]
    x = torch.zeros(shape)
    with torch.no_grad():
        expected = layer(x)
        with shape_pass():
            found = layer(x)
        again = layer(x)
    assert (found.shape, found.dtype, found.device) == (expected.shape, x.dtype, x.device)
    assert found.stride() == expected.stride()
    assert torch.equal(again, expected)  # as ever, outside
    noise = found - expected  # of zeros the layer makes its bias
    assert noise.isfinite().all()
    assert noise.mean().abs() < 0.05
    assert (noise.var() - 1).abs() < 0.05


def test_products_of_few_values_are_noise_too():
    with torch.no_grad(), shape_pass():
        assert len(nn.Linear(8, 5)(torch.zeros(1, 8)).unique()) == 5
        assert nn.Linear(8, 5)(torch.zeros(0, 8)).shape == (0, 5)


def test_boxes_get_features_of_their_shape():
    features, boxes = torch.zeros(1, 16, 20, 20), [torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 3)]
    with torch.no_grad(), shape_pass():
        found = torchvision.ops.roi_align(features, boxes, output_size=7)
    assert found.shape == (3, 16, 7, 7)
    assert found.std() > 0.5


def test_products_of_whole_numbers_are_computed():
    """They may be indices."""
    numbers = torch.arange(6).view(2, 3)
    with shape_pass():
        assert torch.equal(numbers @ numbers.T, torch.tensor([[5, 14], [14, 50]]))


def test_without_values_products_are_as_ever():
    layer = nn.Conv2d(3, 8, 3, device="meta")
    x = torch.zeros(2, 3, 9, 9, device="meta")
    with torch.no_grad(), _Names() as names, shape_pass() as noise:
        found = layer(x)
    assert (found.shape, found.device.type) == ((2, 8, 7, 7), "meta")
    assert "aten::convolution" in names.seen
    assert "aten::copy_" not in names.seen
    assert not noise.was_made


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_one_operation_of_the_same_shapes(kind, device):
    for num_layers, both, batch_first, bias in itertools.product((1, 3), *[(False, True)] * 3):
        layer = kind(
            5, 6, num_layers, bidirectional=both, batch_first=batch_first, bias=bias, device=device
        ).eval()
        x = torch.zeros(4, 7, 5, device=device)
        with torch.no_grad():
            expected, last = layer(x)
            with _Names() as names, shape_pass():
                found, state = layer(x)
        assert names.seen.count("mutualnet::recurrent") == 1
        assert not [name for name in names.seen if "mm" in name]
        assert (found.shape, found.device, found.dtype) == (expected.shape, x.device, x.dtype)
        for mine, theirs in zip(_states(state), _states(last), strict=True):
            assert mine.shape == theirs.shape


def _states(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_packed_sequences_run_step_by_step(kind):
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(4, 2, 5), [4, 2])
    layer = kind(5, 6)
    with torch.no_grad(), _Names() as names, shape_pass():
        out, _ = layer(packed)
    assert out.data.shape == (6, 6)
    assert "mutualnet::recurrent" not in names.seen


def test_weights_that_do_not_fit_are_refused():
    layer = nn.LSTM(5, 6, 2)
    layer.weight_hh_l1 = nn.Parameter(torch.zeros(24, 4))
    with torch.no_grad(), shape_pass(), pytest.raises(ValueError, match="weights must have"):
        layer(torch.zeros(3, 2, 5))
    layer = nn.LSTM(5, 6)
    layer.check_forward_args = lambda *_: None
    state = torch.zeros(1, 2, 6)
    with torch.no_grad(), shape_pass(), pytest.raises(ValueError, match="states must have"):
        layer(torch.zeros(3, 2, 5), (state, state[:, :1]))


class Needy(nn.Module):
    """Needs values, and does something with them that noise would not stand."""

    def __init__(self, middle) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 1), nn.Linear(16, 4)
        self.middle = middle
        self.table = nn.Parameter(torch.randn(4, 16))
        self.register_buffer("cell", torch.tensor([[1.0], [0.5]]))

    def forward(self, x: Tensor) -> Tensor:
        q = self.stem(x).mean((2, 3))
        int(q.sum() > 1e9)  # what has no values fails here
        return self.head(self.middle(self, q))


def _looked_up(net: Needy, q: Tensor) -> Tensor:
    places = torch.ones(len(q), 2) @ net.cell  # 1.5
    return q + net.table[places.long()[:, 0]]


def _decomposed(net: Needy, q: Tensor) -> Tensor:
    root = torch.linalg.cholesky(net.cell @ net.cell.T + torch.eye(2))
    return q * root.trace()


def _squeezed(net: Needy, q: Tensor) -> Tensor:
    if net.training:
        raise RuntimeError("there are no targets")
    return q.squeeze()[:, : q.shape[1]]


@pytest.mark.parametrize("middle", [_looked_up, _decomposed, _squeezed])
def test_a_network_that_stands_no_noise_or_no_single_sample_gets_what_it_needs(middle):
    net = Supernet(Needy(middle), ElasticSpace(resolutions=(8,)))
    assert "stem" in [group.name for group in net.plan.groups]


def test_noise_is_tried_first_and_its_failures_are_those_of_the_model_if_it_has_its_own():
    runs = []

    def run() -> int:
        runs.append(nn.Linear(3, 2)(torch.zeros(1, 3)).abs().sum().item())
        if len(runs) == 1:
            raise RuntimeError("noise")
        return len(runs)

    with torch.no_grad():
        assert run_for_shapes(run) == 2
        assert (
            run_for_shapes(lambda: nn.Linear(3, 2)(torch.zeros(1, 3)), lambda _: False) is not None
        )
        with pytest.raises(ZeroDivisionError):
            run_for_shapes(lambda: 1 / 0)
