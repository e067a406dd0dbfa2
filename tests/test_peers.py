"""A step of peers is the written-out formula of its paper, whatever the graph."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mutualnet.heads.auxiliary import AuxiliaryHeads, Head
from mutualnet.heads.presets import head_preset
from mutualnet.losses import distillation_loss
from mutualnet.models import wrn16_1
from mutualnet.peers import peer_step
from mutualnet.space import ElasticSpace
from mutualnet.supernet.supernet import Supernet
from mutualnet.tasks import MultiLabel
from mutualnet.teaching import (
    OUTPUT,
    Edge,
    Node,
    TeachingGraph,
    dcm,
    deep_supervision,
    dks,
    dml,
    independent,
    kd,
    with_teacher,
)
from tests.tiny_peers import (
    CLASSES,
    HEADS,
    TASK,
    gradients_of,
    tiny_batch,
    tiny_networks,
    written_kl,
)


def _slow_total(name, outputs, labels):
    """The loss of a method, from all outputs by (network, head), in plain loops."""
    networks = sorted({network for network, _ in outputs})
    heads = (OUTPUT, *HEADS)
    total = 0.0
    if name == "kd":
        for network in networks[:-1]:
            student, teacher = outputs[network, OUTPUT], outputs[networks[-1], OUTPUT]
            total = total + 0.1 * F.cross_entropy(student, labels)
            total = total + 0.9 * written_kl(teacher, student, 4.0)
        return total
    for network in networks:
        for head in heads if name in ("deep_supervision", "dks", "dcm") else (OUTPUT,):
            total = total + F.cross_entropy(outputs[network, head], labels)
    for student in networks:
        for teacher in networks:
            if name == "dml" and student != teacher:
                divergence = written_kl(outputs[teacher, OUTPUT], outputs[student, OUTPUT])
                total = total + divergence / (len(networks) - 1)
            if name == "dks" and student == teacher:
                for i in heads:
                    for j in heads:
                        if i != j:
                            total = total + written_kl(outputs[teacher, j], outputs[student, i])
            if name == "dcm" and student != teacher:
                for i in heads:
                    for j in heads:
                        divergence = written_kl(outputs[teacher, j], outputs[student, i])
                        total = total + divergence / (len(networks) - 1)
    return total


GRAPHS = {
    "independent": lambda n: independent(n),
    "deep_supervision": lambda n: deep_supervision(n, HEADS),
    "kd": lambda n: kd(n - 1),
    "dml": lambda n: dml(n),
    "dks": lambda n: dks(n, HEADS),
    "dcm": lambda n: dcm(n, HEADS),
}


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", GRAPHS)
def test_loss_and_gradients_are_the_written_out_formula(name, count):
    models, heads = tiny_networks(count)
    used = heads if name in ("deep_supervision", "dks", "dcm") else {}
    twins, twin_heads = copy.deepcopy(models), copy.deepcopy(heads)
    images, labels = tiny_batch()
    graph = GRAPHS[name](count)
    lesson = peer_step(models, (images, labels), graph, task=TASK, heads=used)

    outputs = {}
    for number, (model, own) in enumerate(zip(twins, twin_heads.values(), strict=True)):
        model.train(number not in graph.frozen)
        for head, value in own.outputs(model, images).items():
            outputs[number, head] = value
    total = _slow_total(name, outputs, labels)
    total.backward()
    found = sum(edge.weight * lesson.losses[edge] for edge in graph.edges)
    torch.testing.assert_close(found, total.detach(), rtol=1e-5, atol=1e-6)
    for mine, slow in zip(
        gradients_of(models, heads), gradients_of(twins, twin_heads), strict=True
    ):
        if slow is None or not bool(slow.any()):
            assert mine is None or not bool(mine.any())
        else:
            torch.testing.assert_close(mine, slow, rtol=1e-4, atol=1e-6)
    for number in range(count):
        torch.testing.assert_close(lesson.outputs[number], outputs[number, OUTPUT].detach())


def test_every_network_and_head_runs_once_in_a_step():
    models, heads = tiny_networks(2)
    runs = []
    for module in (*models, *heads[0].values(), *heads[1].values()):
        module.register_forward_hook(lambda *_, m=module: runs.append(m))
    peer_step(models, tiny_batch(), dcm(2, HEADS), task=TASK, heads=heads)
    assert len(runs) == len(set(map(id, runs))) == 6


def test_an_edge_without_detach_moves_its_teacher():
    (first, second), _ = tiny_networks(2)
    ends = {"student": Node(0), "teacher": Node(1)}
    peer_step((first, second), tiny_batch(), TeachingGraph((Edge(**ends),)), task=TASK)
    assert all(p.grad is None for p in second.parameters())
    peer_step(
        (first, second), tiny_batch(), TeachingGraph((Edge(**ends, detach=False),)), task=TASK
    )
    assert second.head.weight.grad.any()
    twin_a, twin_b = copy.deepcopy((first, second))
    for twin in (twin_a, twin_b):
        twin.zero_grad()
    images, _ = tiny_batch()
    p, q = twin_b(images).softmax(1), twin_a(images).softmax(1)
    (p * (p / q).log()).sum(1).mean().backward()
    torch.testing.assert_close(second.head.weight.grad, twin_b.head.weight.grad)


def test_weights_and_parts_of_a_batch_scale_the_gradient_and_not_the_losses():
    models, heads = tiny_networks(2)
    whole = peer_step(models, tiny_batch(), dcm(2, HEADS), task=TASK, heads=heads)
    gradients = [g.clone() for g in gradients_of(models, heads)]
    for model in (*models, *heads.values()):
        model.zero_grad()
    part = peer_step(models, tiny_batch(), dcm(2, HEADS), task=TASK, heads=heads, weight=0.25)
    for full, quarter in zip(gradients, gradients_of(models, heads), strict=True):
        torch.testing.assert_close(full / 4, quarter)
    assert list(part.losses.values()) == list(whole.losses.values())


def test_a_term_of_weight_zero_is_told_and_not_learned():
    models, _ = tiny_networks(2)
    edges = (*independent(2).edges, Edge(student=Node(0), teacher=Node(1), weight=0.0))
    lesson = peer_step(models, tiny_batch(), TeachingGraph(edges), task=TASK)
    assert lesson.losses[edges[-1]] > 0
    gradient = models[0].head.weight.grad.clone()
    models[0].zero_grad()
    peer_step(models, tiny_batch(), independent(2), task=TASK)
    assert torch.equal(gradient, models[0].head.weight.grad)


def test_heads_that_the_graph_leaves_out_do_not_run():
    models, heads = tiny_networks(2)
    for own in heads.values():
        for head in own.values():
            head.register_forward_hook(lambda *_: pytest.fail("a head ran"))
    peer_step(models, tiny_batch(), dml(2), task=TASK, heads=heads)


def test_a_frozen_teacher_runs_in_eval_mode_and_keeps_its_mode_and_statistics():
    student, teacher = tiny_networks(2)[0]
    teacher.train()
    teacher.early.eval()
    modes = [module.training for module in teacher.modules()]
    buffers = [b.clone() for b in teacher.buffers()]
    lesson = peer_step((student, teacher), tiny_batch(), kd(1), task=TASK)
    assert [module.training for module in teacher.modules()] == modes
    assert all(torch.equal(a, b) for a, b in zip(teacher.buffers(), buffers, strict=True))
    assert all(p.grad is None for p in teacher.parameters())
    teacher.eval()
    torch.testing.assert_close(lesson.outputs[1], teacher(tiny_batch()[0]))


class _Fixed(nn.Module):
    """Gives one row of logits for every image."""

    def __init__(self, row, dtype):
        super().__init__()
        self.row = nn.Parameter(torch.tensor(row, dtype=dtype))

    def forward(self, x):
        return self.row.expand(len(x), -1)


def _smoothed_kl(teacher, student, eps=1e-8):
    """The divergence of probabilities with a little added, as some codes have it."""
    p, q = teacher.softmax(1), student.softmax(1)
    k = p.shape[1]
    p, q = (p + eps) / (1 + k * eps), (q + eps) / (1 + k * eps)
    return (p * (p / q).log()).sum(1).mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_keep_losses_and_gradients_finite_and_right(dtype):
    networks = [_Fixed([1e4, -1e4, 0.0], dtype), _Fixed([-1e4, 1e4, 0.0], dtype)]
    batch = torch.zeros(2, 3, 4, 4), torch.tensor([0, 2])
    lesson = peer_step(networks, batch, dml(2), task=TASK)
    values = {str(edge): float(loss) for edge, loss in lesson.losses.items()}
    size = float(networks[0].row.detach()[0])  # 1e4, or the next number that bf16 has
    assert values["kl_1_2"] == values["kl_2_1"] == pytest.approx(2 * size)
    # Of both terms the gradient is the own probabilities minus the target's, averaged over images.
    rows = [network.row.detach().double().softmax(0) for network in networks]
    labels = F.one_hot(batch[1], 3).double().mean(0)
    for own, peer, network in zip(rows, reversed(rows), networks, strict=True):
        expected = (own - labels) + (own - peer)
        torch.testing.assert_close(network.row.grad.double(), expected, rtol=1e-2, atol=1e-2)
    # Written with smoothed probabilities, the same divergence is bounded and does not pull at all.
    student = networks[0].row.detach().float()[None].requires_grad_()
    smoothed = _smoothed_kl(networks[1].row.detach().float()[None], student)
    smoothed.backward()
    assert float(smoothed.detach()) < 20
    assert not bool(student.grad.any())


def test_two_tasks_go_through_the_same_graphs():
    models, heads = tiny_networks(2)
    images, labels = tiny_batch()
    targets = F.one_hot(labels, CLASSES).float()
    graph = dcm(2, HEADS)
    lesson = peer_step(models, (images, targets), graph, task=MultiLabel(), heads=heads)
    assert len(lesson.losses) == 24
    assert all(bool(loss.isfinite()) for loss in lesson.losses.values())


def test_autocast_computes_the_passes_in_bf16_and_the_losses_in_fp32():
    torch.manual_seed(0)
    models = [wrn16_1(CLASSES), wrn16_1(CLASSES)]
    images = torch.randn(8, 3, 16, 16)
    heads = {
        n: AuxiliaryHeads(m, head_preset("wrn16_1"), num_classes=CLASSES, images=images)
        for n, m in enumerate(models)
    }
    batch = images, torch.randint(CLASSES, (8,))
    graph = dcm(2, HEADS)
    whole = peer_step(models, batch, graph, task=TASK, heads=heads)
    half = peer_step(models, batch, graph, task=TASK, heads=heads, autocast=torch.bfloat16)
    assert half.outputs[0].dtype == torch.bfloat16
    for edge in graph.edges:
        assert half.losses[edge].dtype == torch.float32
        torch.testing.assert_close(half.losses[edge], whole.losses[edge], rtol=0.1, atol=0.05)


def test_narrow_networks_can_be_peers():
    torch.manual_seed(0)
    net = Supernet(wrn16_1(CLASSES), ElasticSpace(resolutions=(16,)))
    other = wrn16_1(CLASSES)
    narrow = net.subnet(net.space.smallest)
    batch = torch.randn(4, 3, 16, 16), torch.randint(CLASSES, (4,))
    lesson = peer_step((narrow, other), batch, dml(2), task=TASK)
    logits = net.subnet(net.space.smallest)(batch[0])
    expected = F.cross_entropy(logits, batch[1]) + distillation_loss(logits, lesson.outputs[1])
    gradient = net.model.head.weight.grad.clone()
    net.model.zero_grad()
    expected.backward()
    torch.testing.assert_close(gradient, net.model.head.weight.grad, rtol=1e-4, atol=1e-6)


def test_a_teacher_joins_any_graph():
    models, heads = tiny_networks(3)
    graph = with_teacher(dcm(2, HEADS), alpha=0.5, tau=2.0)
    lesson = peer_step(models, tiny_batch(), graph, task=TASK, heads={0: heads[0], 1: heads[1]})
    assert len(lesson.losses) == 26
    assert all(p.grad is None for p in models[2].parameters())


def test_extreme_logits_of_several_labels_are_safe_too():
    networks = [_Fixed([1e4, -1e4, 0.0], torch.float32), _Fixed([-1e4, 1e4, 0.0], torch.float32)]
    batch = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3)
    lesson = peer_step(networks, batch, dml(2), task=MultiLabel())
    found = {str(edge): float(loss) for edge, loss in lesson.losses.items()}
    assert found["kl_1_2"] == pytest.approx(2e4 / 3)
    for own, peer in ((networks[0], networks[1]), (networks[1], networks[0])):
        p, q = own.row.detach().sigmoid(), peer.row.detach().sigmoid()
        torch.testing.assert_close(own.row.grad, (p + p - q) / 3)


def test_heads_of_a_frozen_network_are_frozen_too():
    models, _ = tiny_networks(2)
    edges = (Edge(student=Node(0)), Edge(student=Node(0), teacher=Node(1, "C2")))
    models[1].train()
    own = AuxiliaryHeads(
        models[1],
        {"C2": Head(after="late", norm=True)},
        num_classes=CLASSES,
        images=torch.randn(2, 3, 8, 8),
    )
    before = [buffer.clone() for buffer in own.buffers()]
    graph = TeachingGraph(edges, frozenset({1}))
    peer_step(models, tiny_batch(), graph, task=TASK, heads={1: own})
    assert own.training
    assert all(torch.equal(a, b) for a, b in zip(own.buffers(), before, strict=True))
    assert all(p.grad is None for p in own.parameters())
