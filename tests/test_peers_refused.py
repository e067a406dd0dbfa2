"""Steps that peers cannot take are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutualnet.heads.auxiliary import AuxiliaryHeads, Head
from mutualnet.peers import peer_step, peer_step_in_turn
from mutualnet.teaching import (
    Edge,
    Node,
    TeachingGraph,
    dcm,
    deep_supervision,
    dml,
    independent,
)
from tests.tiny_peers import CLASSES, HEADS, TASK, Tiny, tiny_batch, tiny_networks


def test_impossible_steps_are_refused():
    (first, second), heads = tiny_networks(2)
    batch = tiny_batch()

    def refuses(message, networks, graph, **kwargs):
        with pytest.raises(ValueError, match=message):
            peer_step(networks, batch, graph, task=TASK, **kwargs)

    pair = (first, second)
    refuses("networks 1 and 2 share some", (first, first), dml(2))
    shared = Tiny(3)
    shared.head = first.head
    refuses("must be given once and have its own weights", (first, shared), dml(2))
    refuses("must be the 2 of the graph, got 3", (*pair, Tiny(4)), dml(2))
    refuses("network 1 must have the head C2", pair, dcm(2, HEADS))
    refuses("network 2 must have the head C3", pair, dcm(2, ("C3",)), heads={0: heads[0]})
    other = Tiny(5)
    other.head = nn.Linear(4, 7)
    message = r"the same classes, got outputs \(6, 5\) of network 1 and \(6, 7\) of network 2"
    refuses(message, (first, other), dml(2))
    moved = Edge(student=Node(0), teacher=Node(1), detach=False)
    soft = TeachingGraph((moved, *independent(2).edges))
    with pytest.raises(ValueError, match="updates in turn need detached teachers"):
        peer_step_in_turn(pair, tiny_batch(), soft, task=TASK)
    assert first.head.weight.grad is None


def test_labels_must_be_among_the_classes_of_every_network_that_learns_from_them():
    (first, second), _ = tiny_networks(2)
    second.head = nn.Linear(4, CLASSES - 2)
    images, _ = tiny_batch()
    labels = torch.arange(6) % CLASSES
    with pytest.raises(ValueError, match=r"class numbers must lie in 0\.\.2, got 0\.\.4"):
        peer_step((first, second), (images, labels), independent(2), task=TASK)
    peer_step((first, second), (images, labels % 3), independent(2), task=TASK)
    alone = TeachingGraph((Edge(student=Node(0)),))
    peer_step((first,), (images, labels), alone, task=TASK)


def test_heads_given_to_two_networks_are_refused():
    models, heads = tiny_networks(2)
    shared = {0: heads[0], 1: heads[0]}
    with pytest.raises(ValueError, match="networks 1 and 2 share some"):
        peer_step(models, tiny_batch(), dcm(2, HEADS), task=TASK, heads=shared)


def test_heads_of_other_classes_than_their_network_are_refused():
    models, _ = tiny_networks(1)
    heads = AuxiliaryHeads(
        models[0],
        {"C2": Head(after="late"), "C3": Head(after="early")},
        num_classes=CLASSES - 2,
        images=torch.randn(2, 3, 8, 8),
    )
    graph = deep_supervision(1, HEADS)
    with pytest.raises(ValueError, match=r"head 1.C2 must have its network's outputs \(6, 5\)"):
        peer_step(models, tiny_batch(), graph, task=TASK, heads={0: heads})
    with pytest.raises(ValueError, match="heads must be given by index of the network"):
        peer_step(models, tiny_batch(), graph, task=TASK, heads=[heads])
