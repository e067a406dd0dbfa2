"""From model to plan: against Torch-Pruning's own narrowing, and on models made to be hard."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torch_pruning as tp
import torchvision
from torch import Tensor, nn

from mutualnet.models.cifar import wrn16_4
from mutualnet.space import ElasticSpace, Subnet
from mutualnet.supernet.bn_bank import tracked_norms
from mutualnet.supernet.narrow import take
from mutualnet.supernet.supernet import Supernet
from mutualnet.supernet.tracing import trace_channels
from tests.supernet.hard_models import ELASTIC, FROZEN, Recurrent, Toy, small_vgg

TWINS = {
    "mobilenetv1_100": (lambda: timm.create_model("mobilenetv1_100", num_classes=10), 64),
    "mobilenetv2_100": (lambda: timm.create_model("mobilenetv2_100", num_classes=10), 64),
    "resnet18": (lambda: timm.create_model("resnet18", num_classes=10), 64),
    "resnet50": (lambda: timm.create_model("resnet50", num_classes=10), 64),
    "efficientnet_b0": (lambda: timm.create_model("efficientnet_b0", num_classes=10), 64),
    "mobilenetv3": (lambda: timm.create_model("mobilenetv3_large_100", num_classes=10), 64),
    "densenet121": (lambda: timm.create_model("densenet121", num_classes=10), 64),
    "vgg16": (lambda: timm.create_model("vgg16", num_classes=10), 64),
    "wrn16_4": (lambda: wrn16_4(10), 32),
    "flatten to linear": (lambda: small_vgg(), 64),
    "torchvision vgg11": (lambda: _vgg11(), 64),
}


def _vgg11() -> nn.Module:
    """Its convolutions and its flattened 512 * 7 * 7, with a classifier that fits into memory."""
    model = torchvision.models.vgg11(weights=None, init_weights=False)
    model.classifier = nn.Sequential(nn.Linear(512 * 49, 64), nn.ReLU(), nn.Linear(64, 10))
    return model


def _index_valued(model: nn.Module) -> nn.Module:
    """A copy whose every parameter and BN buffer holds its own flat index."""
    twin = copy.deepcopy(model).double()
    for tensor in (*twin.parameters(), *twin.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(torch.arange(tensor.numel(), dtype=torch.float64).view(tensor.shape))
    return twin


@pytest.mark.parametrize("name", sorted(TWINS))
def test_the_plan_equals_torch_prunings_own_narrowing(name):
    make, side = TWINS[name]
    supernet = Supernet(make(), ElasticSpace(resolutions=(side,)))
    counts = supernet.counts(Subnet(width_mult=0.5, resolution=side))
    indices = supernet.plan.indices(counts)
    twin, full = (_index_valued(supernet.model) for _ in range(2))
    graph = tp.DependencyGraph().build_dependency(
        twin, torch.zeros(2, 3, side, side, dtype=torch.float64), verbose=False
    )
    for group, count in zip(supernet.plan.groups, counts, strict=True):
        root = twin.get_submodule(group.name)
        prune = graph.get_pruner_of_module(root).prune_out_channels
        dropped = list(range(count, group.size))
        if dropped:
            graph.get_pruning_group(root, prune, dropped).prune()
    expected = {n: t for n, t in twin.state_dict().items() if t.is_floating_point()}
    for tensor_name, tensor in full.state_dict().items():
        if tensor.is_floating_point():
            kept = take(tensor, indices.get(tensor_name, {}))
            assert torch.equal(kept, expected[tensor_name]), tensor_name


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("what", sorted(FROZEN))
def test_what_cannot_be_narrower_is_frozen_and_named(what):
    make, layer, reason = FROZEN[what]
    _runs_and_equals(model := make())
    supernet = Supernet(model, ElasticSpace(resolutions=(16,)))
    frozen = [f for f in supernet.plan.inelastic if layer in f.layers]
    assert frozen, supernet.report()
    assert reason in frozen[0].reason
    assert frozen[0].reason in supernet.report()
    assert any(layer in line and "fixed" in line for line in supernet.report().splitlines())


def _runs_and_equals(model: nn.Module) -> None:
    """Conversion leaves the outputs alone, and every narrow network runs and trains."""
    torch.manual_seed(0)
    x = torch.randn(4, 3, 16, 16)
    expected = copy.deepcopy(model).eval()(x)
    supernet = Supernet(model, ElasticSpace(resolutions=(16,)))
    torch.testing.assert_close(supernet.eval()(x), expected, rtol=0, atol=0)
    for width in (0.25, 0.5, 1.0):
        subnet = Subnet(width_mult=width, resolution=16)
        narrow = supernet.train().subnet(subnet)
        plain = supernet.extract(subnet, uncalibrated=True).train()
        out, same = narrow(x), plain(x)
        leaves = list(out.values()) if isinstance(out, dict) else [out]
        leaves = list(out) if isinstance(out, tuple) else leaves
        others = list(same.values()) if isinstance(same, dict) else [same]
        others = list(same) if isinstance(same, tuple) else others
        for a, b in zip(leaves, others, strict=True):
            assert a.shape == (4, 4) or a.shape == (4, 5)
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        sum(leaf.square().sum() for leaf in leaves).backward()
        for module, wide in zip(narrow.modules(), model.modules(), strict=True):
            if isinstance(module, nn.Conv2d):
                assert module.weight.shape[0] == module.out_channels
                assert module.weight.shape[1] * module.groups == module.in_channels
                assert module.out_channels <= wide.out_channels


@pytest.mark.parametrize("what", sorted(ELASTIC))
def test_every_other_layer_is_elastic_and_right(what):
    make, layer, step = ELASTIC[what]
    _runs_and_equals(model := make())
    supernet = Supernet(model, ElasticSpace(resolutions=(16,)))
    only_output = [f for f in supernet.plan.inelastic if "output" not in f.reason]
    assert not only_output, supernet.report()
    (group,) = (g for g in supernet.plan.groups if layer in g.layers)
    assert group.step == step
    assert step == 1 or f"in steps of {step}" in supernet.report()
    narrow = supernet.extract(Subnet(width_mult=0.25, resolution=16), uncalibrated=True)
    fewer = sum(p.numel() for p in narrow.parameters())
    assert fewer < 0.5 * sum(p.numel() for p in model.parameters())


def test_an_output_that_is_a_map_keeps_its_channels():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 1), nn.ReLU())
    supernet = Supernet(model, ElasticSpace(resolutions=(8,)))
    assert [f.layers for f in supernet.plan.inelastic] == [("2",)]
    assert (
        supernet.subnet(Subnet(width_mult=0.5, resolution=8))(torch.zeros(1, 3, 8, 8)).shape[1]
        == 24
    )


def test_tracing_touches_no_statistics_and_no_random_state():
    model = wrn16_4(4).train()
    before = {n: b.clone() for n, b in model.named_buffers()}
    state = torch.get_rng_state()
    Supernet(model, ElasticSpace(resolutions=(16,)))
    assert all(torch.equal(before[n], b) for n, b in model.named_buffers())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(norm.training for _, norm in tracked_norms(model))


@pytest.mark.parametrize(
    ("name", "share"), [("googlenet", 0.31), ("resnext50_32x4d", 0.27), ("squeezenet1_1", 0.26)]
)
def test_torchvisions_networks_convert(name, share):
    kwargs = {"init_weights": False} if name == "googlenet" else {}
    model = torchvision.models.get_model(name, weights=None, num_classes=5, **kwargs)
    supernet = Supernet(model, ElasticSpace(resolutions=(96,)))
    narrow = supernet.extract(Subnet(width_mult=0.5, resolution=96), uncalibrated=True).eval()
    assert narrow(torch.zeros(1, 3, 96, 96)).shape == (1, 5), supernet.report()
    fewer = sum(p.numel() for p in narrow.parameters())
    assert fewer < share * sum(p.numel() for p in model.parameters())


def test_a_network_of_reshapes_alone_says_what_holds_it():
    class Reshapes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 12, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).reshape(len(x), 3, 4, -1).sum(1).reshape(len(x), 2, 2, -1)

    with pytest.raises(ValueError, match=r"(?s)no layer of the model can be made narrower.*conv: "):
        Supernet(Reshapes(), ElasticSpace(resolutions=(8,)))


class Noisy(nn.Module):
    """Scales its channels in train mode alone, and never runs one of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.spare = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(3, 32, 1)
        self.scale = nn.Parameter(torch.ones(32, 1, 1))
        self.head = nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head(x * self.scale if self.training else x).mean((2, 3))


def test_parameters_of_train_mode_alone_are_tied_too():
    net = Supernet(Noisy(), ElasticSpace(resolutions=(8,))).train()
    assert [group.layers for group in net.plan.groups] == [("conv",)]
    subnet = Subnet(resolution=8, group_widths={"conv": 0.25})
    assert net.subnet(subnet)(torch.zeros(2, 3, 8, 8)).shape == (2, 4)
    assert net.subnet(subnet).scale.shape == (8, 1, 1)


def test_what_never_runs_stays_whole_and_the_report_says_so():
    net = Supernet(Noisy(), ElasticSpace(resolutions=(8,)))
    assert "  fixed    spare: nothing that ran uses it" in net.report().splitlines()
    assert net.subnet(Subnet(width_mult=0.25, resolution=8)).spare.out_channels == 32


def test_a_network_of_which_only_unused_layers_could_be_narrower_is_refused():
    model = nn.Conv2d(3, 8, 1)
    model.spare = nn.Conv2d(8, 8, 1)
    with pytest.raises(ValueError, match="spare: nothing that ran uses it"):
        Supernet(model, ElasticSpace(resolutions=(8,)))


@pytest.mark.parametrize(
    ("make", "channels"),
    [
        (lambda: timm.create_model("resnet10t", num_classes=4, in_chans=1), 1),
        (lambda: timm.create_model("resnet10t", num_classes=4), 3),
        (lambda: nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 32, 1), nn.Conv2d(32, 4, 1)), 3),
    ],
    ids=["grey", "colour", "rearranged pixels"],
)
def test_the_image_has_the_channels_that_the_network_takes(make, channels):
    net = Supernet(make(), ElasticSpace(resolutions=(64,)))
    assert net.example_input(net.space.largest).shape == (1, channels, 64, 64)


def test_how_many_boxes_a_detector_finds_is_no_matter_of_channels():
    class Boxes(nn.Module):
        """Takes the pixels whose value is above the mean, as many as there are."""

        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Conv2d(3, 32, 3, padding=1), nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            pixels = self.body(x).flatten(2).transpose(1, 2).flatten(0, 1)
            value = pixels.sum(1)
            return self.head(pixels[(value > value.mean()).nonzero()[:, 0]])

    torch.manual_seed(0)
    supernet = Supernet(Boxes(), ElasticSpace(resolutions=(8,)))
    assert [group.name for group in supernet.plan.groups] == ["body"], supernet.report()
    narrow = supernet.subnet(Subnet(width_mult=0.5, resolution=8))
    assert narrow(torch.randn(2, 3, 8, 8)).shape[1] == 4


def test_groups_keep_as_many_channels_as_the_network_needs_to_run():
    class Standardised(nn.Module):
        """One channel per kernel has no variance to normalise by."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            weight = self.b.weight.reshape(1, len(self.b.weight), -1)
            weight = nn.functional.batch_norm(weight, None, None, training=True)
            return nn.functional.conv2d(self.a(x), weight.reshape(self.b.weight.shape))

    supernet = Supernet(Standardised(), ElasticSpace(width_range=(0.01, 1.0), resolutions=(8,)))
    narrow = supernet.subnet(Subnet(width_mult=0.01, resolution=8))
    assert narrow(torch.zeros(2, 3, 8, 8)).shape == (2, 4, 8, 8)
    assert narrow.a.out_channels == 2


def test_a_network_that_shuffles_channels_runs_at_every_width():
    model = torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=4)
    supernet = Supernet(model, ElasticSpace(resolutions=(64,)))
    for width in (0.25, 0.5, 0.8):
        narrow = supernet.subnet(Subnet(width_mult=width, resolution=64)).train()
        narrow(torch.zeros(2, 3, 64, 64)).sum().backward()
    # Each unit's shuffle ties more channels, until none can go; inside of the units they can.
    group = next(g for g in supernet.plan.groups if "stage3.1.branch2.0" in g.layers)
    assert group.count(0.5) == 24


def test_recurrent_weights_may_be_computed():
    reader = Recurrent(nn.LSTM, 24, 24)
    nn.utils.parametrizations.weight_norm(reader.read, "weight_hh_l0")
    plan = trace_channels(Toy(reader), torch.zeros(1, 3, 16, 16))
    (group,) = (group for group in plan.groups if "middle.read" in group.layers)
    assert (group.size, group.step) == (24, 1)
    assert any("stem.0" in group.layers for group in plan.groups)


def test_what_is_copied_before_it_is_used_has_run():
    layer = torch.nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 32, 3))
    net = Supernet(nn.Sequential(layer, nn.Conv2d(32, 4, 1)), ElasticSpace(resolutions=(8,)))
    assert [group.layers for group in net.plan.groups] == [("0",)]
    assert "nothing that ran" not in net.report()


class Counting(nn.Module):
    """Numbers that are equal to how many channels there are: by chance, but for `share`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.part, self.head = nn.Conv2d(8, 8, 1), nn.Conv2d(16, 4, 1)
        self.num_steps, self.temperature, self.factors = 16, 16, (8, 16)
        self.share = 8

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(self.num_steps):
            x = x + 0.1 * self.again(x)
        front, back = x[:, : self.share], x[:, self.share :]
        x = torch.cat([self.part(front), back], 1)
        return self.head(x).mean((2, 3)) / self.temperature * self.factors[1]


def test_numbers_that_equal_a_size_by_chance_stay():
    net = Supernet(Counting(), ElasticSpace(resolutions=(8,)))
    narrow = net.subnet(Subnet(width_mult=0.5, resolution=8))
    assert narrow.stem.out_channels < 16
    assert (narrow.num_steps, narrow.temperature, narrow.factors) == (16, 16, (8, 16))
    assert narrow.share == narrow.part.in_channels < 8
    assert narrow(torch.zeros(2, 3, 8, 8)).shape == (2, 4)


class Involution(nn.Module):
    """As many kernels as groups of channels: 4, as many as the first layer of their maker has."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 1)
        self.reduce, self.span, self.count = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 4 * 9, 1), 4
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        n, c, h, w = x.shape
        kernels = self.span(self.reduce(x)).view(n, self.count, 1, 9, h, w)
        patches = nn.functional.unfold(x, 3, padding=1).view(n, self.count, -1, 9, h, w)
        x = (kernels * patches).sum(3).view(n, c, h, w)
        return self.head(self.last(x).mean((2, 3)))


class Cut(nn.Module):
    """The first 32 of 40 channels: at half the width all that are left, and fewer than that."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.cheap = nn.Conv2d(32, 20, 1), nn.Conv2d(20, 20, 3, padding=1, groups=20)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        both = torch.cat([x, self.cheap(x)], 1)
        return both[:, :32].relu()


@pytest.mark.parametrize("make", [Involution, lambda: Toy(Cut())], ids=["involution", "cut"])
def test_what_fits_by_chance_at_half_the_width_fits_at_all_others(make):
    net = Supernet(make(), ElasticSpace(width_range=(0.1, 1), resolutions=(8,)))
    x = torch.zeros(2, 3, 8, 8)
    for subnet in net.distinct(net.space.grid()).values():
        assert net.subnet(subnet)(x).shape == (2, 4)


class Halves(nn.Module):
    """Halves that `chunk` takes of all channels: of 15 there are 8 and 7, of 16 never 4 and 12."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return torch.cat([a, self.conv(b)], 1)


class Shifted(nn.Module):
    """Parts that are moved and joined again: of wrong sizes, they still make the right sum."""

    def forward(self, x: Tensor) -> Tensor:
        parts = x.chunk(8, 1)
        return torch.cat([part.roll(number, 2) for number, part in enumerate(parts)], 1)


@pytest.mark.parametrize(("make", "parts"), [(Halves, 2), (Shifted, 8)])
def test_parts_of_a_chunk_keep_one_share(make, parts):
    net = Supernet(Toy(make()), ElasticSpace(resolutions=(8,)))
    found = {number for number, group in enumerate(net.plan.groups) if "stem.0" in group.layers}
    assert len(found) == parts
    assert any(found <= set(link) for link in net.plan.links)
    subnet = Subnet(width_mult=0.5, resolution=8, group_widths={"stem.0": 0.25})
    assert net.subnet(subnet)(torch.zeros(2, 3, 8, 8)).shape == (2, 4)
    with pytest.raises(ValueError, match="keep one share"):
        net.counts(Subnet(resolution=8, group_widths={"stem.0": 0.25, "stem.0#2": 0.75}))
