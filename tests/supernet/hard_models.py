"""Small networks that are hard to follow, one for each way in which the field writes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torchvision.ops import Permute
from torchvision.ops.misc import FrozenBatchNorm2d


def small_vgg() -> nn.Module:
    """Torchvision's layout: 16 channels of 7x7 are flattened into a linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(7),
        nn.Flatten(),
        nn.Linear(16 * 49, 32),
        nn.ReLU(),
        nn.Linear(32, 5),
    )


class Toy(nn.Module):
    """A stem, something in the middle, and a classifier."""

    def __init__(self, middle: nn.Module, channels: int = 32) -> None:
        super().__init__()
        self.early = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.stem = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.middle = middle
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.middle(self.stem(self.early(x)))).flatten(1))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(32, 32, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x).relu())


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(32, 32, 1), nn.Conv2d(32, 32, 1)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


class LayerScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(32, 32, 1)
        self.gamma = nn.Parameter(torch.ones(32, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * self.conv(x)


class FixedReshape(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(32, 24, 1), nn.Conv2d(12, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.b(y.reshape(y.shape[0], 2, 12, *y.shape[2:]).sum(1))


class Recurrent(nn.Module):
    """Columns of pixels read one after the other; what is left in the end is added to each."""

    def __init__(self, kind: type[nn.RNNBase], hidden: int, out: int, **options: Any) -> None:
        super().__init__()
        self.read = kind(32, hidden, **options)
        self.back = nn.Conv2d(out, 32, 1)
        self.last = nn.Linear(options.get("proj_size") or hidden, 32)

    def forward(self, x: Tensor) -> Tensor:
        columns = x.mean(2)
        order = (0, 2, 1) if self.read.batch_first else (2, 0, 1)
        y, last = self.read(columns.permute(order))
        state = last[0][-1] if isinstance(last, tuple) else last[-1]
        y = y.permute((0, 2, 1) if self.read.batch_first else (1, 2, 0))[:, :, None]
        return x + self.back(y) + self.last(state)[:, :, None, None]


class FromStates(nn.Module):
    """The states of three recurrent layers are parts of what one linear layer makes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.read = nn.Linear(32, 3 * 24), nn.GRU(32, 24, 3)
        self.back = nn.Conv2d(24, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x.mean((2, 3))).view(len(x), 3, 24).transpose(0, 1).contiguous()
        y, _ = self.read(x.mean(2).permute(2, 0, 1), first)
        return x + self.back(y.permute(1, 2, 0)[:, :, None])


class LastState(nn.Module):
    """Every channel is a sample of its own, which an LSTM reads."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.back = nn.LSTM(1, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c = x.shape[:2]
        _, (last, _) = self.read(x.mean(2).reshape(n * c, -1, 1).transpose(0, 1))
        return x + self.back(last[-1]).reshape(n, c, 1, 1)


class LearnedState(nn.Module):
    """A recurrent layer that starts from a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.GRU(32, 24)
        self.first = nn.Parameter(torch.randn(1, 1, 24))
        self.back = nn.Conv2d(24, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.read(x.mean(2).permute(2, 0, 1), self.first.expand(1, len(x), -1).contiguous())
        return x + self.back(y.permute(1, 2, 0)[:, :, None])


class InputResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.rest = Toy(nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(x + self.first(x))


class Auxiliary(nn.Module):
    """A second classifier that runs in train mode alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.body = nn.Conv2d(32, 32, 3, padding=1)
        self.head, self.side = nn.Linear(32, 4), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        early = self.stem(x).relu()
        out = self.head(self.body(early).relu().mean((2, 3)))
        return (out, self.side(early.mean((2, 3)))) if self.training else out


def _named() -> nn.Module:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Toy(nn.Identity())

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": self.net(x)}

    return Named()


def _grouped(groups: int, inner: int = 32) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(32, inner, 3, padding=1, groups=groups), nn.ReLU(), nn.Conv2d(inner, 32, 1)
    )


class Sampled(nn.Module):
    """Channels that are chosen by an index, which no rule can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(32, 32, 1)
        self.register_buffer("order", torch.randperm(32))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)[:, self.order]


class Counted(nn.Module):
    """A size that stands in the code: no attribute can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(32, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + x.new_zeros(1, 32, 1, 1)


FROZEN = {
    "states of three layers": (lambda: Toy(FromStates()), "middle.first", "starts from them"),
    "a fixed reshape": (lambda: Toy(FixedReshape()), "middle.a", "view fails"),
    "an LSTM with a projection": (
        lambda: Toy(Recurrent(nn.LSTM, 24, 16, batch_first=True, proj_size=16)),
        "middle.read",
        "meet a tensor without channels",
    ),
    "a residual with the input": (InputResidual, "first", "meet a tensor without channels"),
    "an index": (lambda: Toy(Sampled()), "middle.conv", "chosen by an index"),
    "a number in the code": (lambda: Toy(Counted()), "middle.conv", "tensor without channels"),
}


class PartialConvolution(nn.Module):
    """FasterNet: a quarter of the channels is convolved, the rest passes by."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = (8, 24)
        self.part, self.mlp = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(32, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, rest = torch.split(x, self.sizes, dim=1)
        return x + self.mlp(torch.cat([self.part(first), rest], 1))


class Hierarchical(nn.Module):
    """Res2Net: parts of one width, each convolved with what came out of the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.out = nn.Conv2d(32, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(x, self.width, 1)
        done: list[Tensor] = []
        for number, conv in enumerate(self.convs):
            done.append(conv(parts[number] if not done else done[-1] + parts[number]))
        return self.out(torch.cat([*done, parts[3]], 1))


class ChannelGate(nn.Module):
    """ECA: a kernel that slides along the channels makes the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(32, 32, 1)
        self.gate = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        gate = self.gate(y.mean((2, 3)).view(len(y), 1, -1)).view(len(y), -1, 1, 1)
        return x + y * gate.sigmoid()


class GlobalContext(nn.Module):
    """A map of weights over the pixels, multiplied with the flattened features."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.add = nn.Conv2d(32, 1, 1), nn.Conv2d(32, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        weights = self.map(x).reshape(n, 1, h * w).softmax(-1).unsqueeze(-1)
        context = (x.reshape(n, c, h * w).unsqueeze(1) @ weights).view(n, c, 1, 1)
        return x + self.add(context)


class SelfAttention(nn.Module):
    """Heads of eight channels, with a size per head that the code computes from the input's."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.qkv, self.proj = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(tokens).reshape(n, h * w, 3, self.num_heads, c // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        out = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        out = self.proj(out.transpose(1, 2).reshape(n, h * w, c))
        return x + out.transpose(1, 2).reshape(n, c, h, w)


class Standardised(nn.Module):
    """A convolution whose weight is normalised each time, with a gain of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(32, 32, 3, padding=1)
        self.gain = nn.Parameter(torch.ones(32, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight
        weight = weight - weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, weight * self.gain, self.conv.bias, padding=1)


class TwoCats(nn.Module):
    """Inception-ResNet: a sum of a concatenation and of what a convolution makes of another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(32, 16, 1), nn.Conv2d(32, 16, 1)
        self.c, self.up = nn.Conv2d(32, 16, 1), nn.Conv2d(32, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.a(x), self.b(x)], 1)
        return x + self.up(torch.cat([self.c(x), self.c(x)], 1))


class FrozenNorm(nn.Module):
    """Per-channel buffers alone, as in detection backbones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(32, 32, 1), FrozenBatchNorm2d(32)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Unpooled(nn.Module):
    """SegNet: the decoder puts each value back where the encoder's pooling found the largest."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y, indices = self.pool(self.down(x))
        return x + self.up(self.unpool(y, indices))


MIXING = {"layer norm", "channel gate", "standardised weights", "a parametrization"}
"""Models in which a channel depends on all the others, so that hidden ones still count."""
ELASTIC = {
    # name: network, a layer that must be elastic, steps of its group's channels
    "a module called twice": (lambda: Toy(Twice()), "middle.conv", 1),
    "tied parameters": (lambda: Toy(Tied()), "middle.a", 1),
    "a parametrization": (
        lambda: Toy(
            nn.Sequential(parametrizations.weight_norm(nn.Conv2d(32, 32, 1)), nn.Conv2d(32, 32, 1))
        ),
        "middle.0",
        1,
    ),
    "an LSTM": (
        lambda: Toy(Recurrent(nn.LSTM, 16, 32, num_layers=2, bidirectional=True)),
        "middle.read",
        1,
    ),
    "a GRU": (lambda: Toy(Recurrent(nn.GRU, 32, 32, batch_first=True)), "middle.read", 1),
    "a GRU with a learned state": (lambda: Toy(LearnedState()), "middle.read", 1),
    "rows of an LSTM's last state": (lambda: Toy(LastState()), "stem.0", 1),
    "a plain recurrent layer": (
        lambda: Toy(Recurrent(nn.RNN, 24, 24, bias=False, nonlinearity="relu")),
        "middle.read",
        1,
    ),
    "two groups": (lambda: Toy(_grouped(2)), "middle.0", 2),
    "layer scale": (lambda: Toy(LayerScale()), "middle.conv", 1),
    "a grouped convolution with more outputs": (lambda: Toy(_grouped(8, 64)), "middle.0", 4),
    "partial convolution": (lambda: Toy(PartialConvolution()), "middle.part", 1),
    "hierarchical": (lambda: Toy(Hierarchical()), "middle.convs.1", 1),
    "channel gate": (lambda: Toy(ChannelGate()), "middle.conv", 1),
    "global context": (lambda: Toy(GlobalContext()), "middle.add", 1),
    "self-attention": (lambda: Toy(SelfAttention()), "middle.qkv", 24),
    "standardised weights": (lambda: Toy(Standardised()), "middle.conv", 1),
    "two concatenations": (lambda: Toy(TwoCats()), "middle.b", 1),
    "frozen batch norm": (lambda: Toy(FrozenNorm()), "middle.conv", 1),
    "grouped": (lambda: Toy(_grouped(4)), "middle.0", 8),
    "depthwise": (lambda: Toy(_grouped(32)), "middle.0", 1),
    "group norm": (
        lambda: Toy(nn.Sequential(nn.Conv2d(32, 32, 1), nn.GroupNorm(4, 32), nn.ReLU())),
        "middle.0",
        8,
    ),
    "batch norm without affine": (
        lambda: Toy(nn.Sequential(nn.Conv2d(32, 32, 1), nn.BatchNorm2d(32, affine=False))),
        "middle.0",
        1,
    ),
    "batch norm without statistics": (
        lambda: Toy(
            nn.Sequential(
                nn.Conv2d(32, 32, 1),
                nn.BatchNorm2d(32, affine=False, track_running_stats=False),
            )
        ),
        "middle.0",
        1,
    ),
    "max unpooling": (lambda: Toy(Unpooled()), "middle.down", 1),
    "transposed": (lambda: Toy(nn.ConvTranspose2d(32, 32, 2, stride=2)), "middle", 1),
    "prelu": (lambda: Toy(nn.Sequential(nn.Conv2d(32, 32, 1), nn.PReLU(32))), "middle.0", 1),
    "instance norm": (
        lambda: Toy(
            nn.Sequential(nn.Conv2d(32, 32, 1), nn.InstanceNorm2d(32, affine=True), nn.ReLU())
        ),
        "middle.0",
        1,
    ),
    "layer norm": (
        lambda: Toy(
            nn.Sequential(
                Permute([0, 2, 3, 1]), nn.Linear(32, 32), nn.LayerNorm(32), Permute([0, 3, 1, 2])
            )
        ),
        "middle.1",
        1,
    ),
    "dictionary output": (_named, "net.stem.0", 1),
    "auxiliary head": (Auxiliary, "body", 1),
    "torchvision vgg layout": (small_vgg, "5", 1),
}
