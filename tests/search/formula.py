"""Searches whose scores have a closed form."""

from __future__ import annotations

from mutualnet.search.search import search_subnets
from mutualnet.space import Subnet
from mutualnet.supernet import Supernet
from mutualnet.tasks.classification import Classification


def value(net: Supernet, subnet: Subnet) -> float:
    """A score that wants channels late and pixels not at all."""
    counts = net.counts(subnet)
    weight = {"stem": 1, "stage1": 1, "stage2": 4, "stage3": 16}
    worth = sum(
        weight[group.name.partition(".")[0]] * count / group.size
        for group, count in zip(net.plan.groups, counts, strict=True)
    )
    return worth + (0.5 if subnet.depth_mult is None else 0) + subnet.resolution / 1e4


def search(net: Supernet, **options):
    """Search without data: nothing is run."""
    return search_subnets(
        net, task=Classification(), train_batches=[], select_batches=[], **options
    )
