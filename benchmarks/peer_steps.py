"""One step of peers against the plain passes of the same networks and heads."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.timing import Ratio, paired  # noqa: E402
from mutualnet.cpu import flush_denormals, peak_memory_mib, tune_allocator  # noqa: E402
from mutualnet.heads import AuxiliaryHeads, head_preset  # noqa: E402
from mutualnet.models import create_model  # noqa: E402
from mutualnet.peers import peer_step  # noqa: E402
from mutualnet.tasks.classification import Classification  # noqa: E402
from mutualnet.teaching import TeachingGraph, dcm, dml, independent  # noqa: E402

HEADS = ("C2", "C3")


@dataclass(frozen=True)
class Case:
    """A pair, its batch and its graph."""

    name: str
    model: str
    batch_size: int
    side: int
    num_classes: int
    stages: tuple[tuple[str, ...], ...]
    """Modules to run in turn; after the first two groups a head reads, C3 and then C2."""
    graph: TeachingGraph


_WRN = (("stem", "stage1"), ("stage2",), ("stage3", "norm", "relu", "pool", "flatten", "head"))
_RESNET = (
    ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2"),
    ("layer3",),
    ("layer4", "global_pool", "fc"),
)
CASES = (
    Case("DCM, two WRN-16-4, batch 64 at 32", "wrn16_4", 64, 32, 100, _WRN, dcm(2, HEADS)),
    Case("DML, two WRN-16-4, batch 64 at 32", "wrn16_4", 64, 32, 100, _WRN, dml(2)),
    Case("DCM, two ResNet-18, batch 8 at 128", "resnet18", 8, 128, 1000, _RESNET, dcm(2, HEADS)),
)


class _Plain(nn.Module):
    """A network and its heads written out, without a hook."""

    def __init__(self, model: nn.Module, heads: nn.ModuleDict | None, case: Case) -> None:
        super().__init__()
        self.model, self.heads, self.stages = model, heads, case.stages

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for head, stage in zip(("C3", "C2", None), self.stages, strict=True):
            for name in stage:
                x = self.model.get_submodule(name)(x)
            if head is not None and self.heads is not None:
                outputs.append(self.heads[head](x))
        return [x, *outputs]


def _pair(case: Case) -> tuple[list[nn.Module], dict[int, AuxiliaryHeads], tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    images = torch.randn(case.batch_size, 3, case.side, case.side)
    labels = torch.randint(case.num_classes, (case.batch_size,))
    models = [create_model(case.model, num_classes=case.num_classes) for _ in range(2)]
    heads = {}
    for number, model in enumerate(models):
        if case.graph.heads_of(number):
            heads[number] = AuxiliaryHeads(
                model, head_preset(case.model), num_classes=case.num_classes, images=images[:2]
            )
    return models, heads, (images, labels)


def _optimizer(modules: Sequence[nn.Module]) -> torch.optim.SGD:
    weights = [parameter for module in modules for parameter in module.parameters()]
    return torch.optim.SGD(weights, lr=1e-4, momentum=0.9)


def step_ratio(case: Case, *, pairs: int = 11) -> Ratio:
    """Our step over the sum of the plain passes, each with its losses on labels."""
    models, heads, batch = _pair(case)
    optimizer, task = _optimizer([*models, *heads.values()]), Classification()
    twins, twin_heads, _ = _pair(case)
    plain = [_Plain(model, twin_heads.get(n), case) for n, model in enumerate(twins)]
    plain_optimizer = _optimizer(plain)

    def ours() -> None:
        optimizer.zero_grad()
        peer_step(models, batch, case.graph, task=task, heads=heads)
        optimizer.step()

    def floor() -> None:
        plain_optimizer.zero_grad()
        for network in plain:
            losses = [F.cross_entropy(logits, batch[1]) for logits in network(batch[0])]
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        plain_optimizer.step()

    return paired(ours, floor, pairs=pairs)


MEMORY = ("independent", "DCM", "DCM, heads computed again")


def peak_of(what: str) -> float:
    """Most memory of this process after two steps of a pair of WRN-28-4, batch 64, in MiB."""
    graph = independent(2) if what == "independent" else dcm(2, HEADS)
    case = Case("", "wrn28_4", 64, 32, 100, _WRN, graph)
    models, heads, batch = _pair(case)
    for own in heads.values():
        own.checkpointed = what == MEMORY[2]
    optimizer = _optimizer([*models, *heads.values()])
    for _ in range(2):
        optimizer.zero_grad()
        peer_step(models, batch, graph, task=Classification(), heads=heads)
        optimizer.step()
    return peak_memory_mib()


def main() -> None:
    """Print the peak of one kind of step, in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=MEMORY, help="whose peak memory is printed")
    what = parser.parse_args().what
    tune_allocator()
    flush_denormals()
    print(f"{peak_of(what):.0f}")


if __name__ == "__main__":
    main()
