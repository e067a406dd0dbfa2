"""Networks of two layers that teach each other, for tests of single steps."""

from __future__ import annotations

import torch
from torch import nn

from mutualnet.heads.auxiliary import AuxiliaryHeads, Head
from mutualnet.tasks import Classification

HEADS = ("C2", "C3")
CLASSES = 5
TASK = Classification()


class Tiny(nn.Module):
    """Two maps and a classifier."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.early = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh())
        self.late = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Tanh())
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(self.late(self.early(x)).mean((2, 3)))


def tiny_heads(model):
    """Two heads without blocks."""
    return AuxiliaryHeads(
        model,
        {"C2": Head(after="late"), "C3": Head(after="early")},
        num_classes=CLASSES,
        images=torch.randn(2, 3, 8, 8),
    )


def tiny_networks(count):
    """Networks that differ, and their heads by number."""
    models = [Tiny(seed) for seed in range(count)]
    return models, {number: tiny_heads(model) for number, model in enumerate(models)}


def tiny_batch():
    """Six images and their classes."""
    torch.manual_seed(7)
    return torch.randn(6, 3, 8, 8), torch.randint(CLASSES, (6,))


def gradients_of(models, heads):
    """Of all parameters, as they are now."""
    modules = [*models, *heads.values()]
    return [p.grad for module in modules for p in module.parameters()]


def written_kl(teacher, student, tau=1.0):
    """Sum over classes of p log(p / q), mean over images, times tau squared: as it is written."""
    p, q = (teacher.detach() / tau).softmax(1), (student / tau).softmax(1)
    return (p * (p / q).log()).sum(1).mean() * tau**2
