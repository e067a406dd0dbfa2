"""A step of peers is the written-out formula of its paper, whatever the graph."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mutualnet.head_presets import head_preset
from mutualnet.heads import AuxiliaryHeads, Head
from mutualnet.losses import distillation_loss
from mutualnet.models import wrn16_1
from mutualnet.peers import peer_step
from mutualnet.space import ElasticSpace
from mutualnet.supernet import Supernet
from mutualnet.tasks import Classification, MultiLabel
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

HEADS = ("C2", "C3")
CLASSES = 5
TASK = Classification()


class _Tiny(nn.Module):
    """Two maps and a classifier."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.early = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh())
        self.late = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Tanh())
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(self.late(self.early(x)).mean((2, 3)))


def _heads(model):
    return AuxiliaryHeads(
        model,
        {"C2": Head(after="late"), "C3": Head(after="early")},
        num_classes=CLASSES,
        images=torch.randn(2, 3, 8, 8),
    )


def _networks(count):
    models = [_Tiny(seed) for seed in range(count)]
    return models, {number: _heads(model) for number, model in enumerate(models)}


def _batch():
    torch.manual_seed(7)
    return torch.randn(6, 3, 8, 8), torch.randint(CLASSES, (6,))


def _gradients(models, heads):
    modules = [*models, *heads.values()]
    return [p.grad for module in modules for p in module.parameters()]


def _kl(teacher, student, tau=1.0):
    """Sum over classes of p log(p / q), mean over images, times tau squared: as it is written."""
    p, q = (teacher.detach() / tau).softmax(1), (student / tau).softmax(1)
    return (p * (p / q).log()).sum(1).mean() * tau**2


def _slow_total(name, outputs, labels):
    """The loss of a method, from all outputs by (network, head), in plain loops."""
    networks = sorted({network for network, _ in outputs})
    heads = (OUTPUT, *HEADS)
    total = 0.0
    if name == "kd":
        for network in networks[:-1]:
            student, teacher = outputs[network, OUTPUT], outputs[networks[-1], OUTPUT]
            total = total + 0.1 * F.cross_entropy(student, labels)
            total = total + 0.9 * _kl(teacher, student, 4.0)
        return total
    for network in networks:
        for head in heads if name in ("deep_supervision", "dks", "dcm") else (OUTPUT,):
            total = total + F.cross_entropy(outputs[network, head], labels)
    for student in networks:
        for teacher in networks:
            if name == "dml" and student != teacher:
                divergence = _kl(outputs[teacher, OUTPUT], outputs[student, OUTPUT])
                total = total + divergence / (len(networks) - 1)
            if name == "dks" and student == teacher:
                for i in heads:
                    for j in heads:
                        if i != j:
                            total = total + _kl(outputs[teacher, j], outputs[student, i])
            if name == "dcm" and student != teacher:
                for i in heads:
                    for j in heads:
                        divergence = _kl(outputs[teacher, j], outputs[student, i])
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
    models, heads = _networks(count)
    used = heads if name in ("deep_supervision", "dks", "dcm") else {}
    twins, twin_heads = copy.deepcopy(models), copy.deepcopy(heads)
    images, labels = _batch()
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
    for mine, slow in zip(_gradients(models, heads), _gradients(twins, twin_heads), strict=True):
        if slow is None or not bool(slow.any()):
            assert mine is None or not bool(mine.any())
        else:
            torch.testing.assert_close(mine, slow, rtol=1e-4, atol=1e-6)
    for number in range(count):
        torch.testing.assert_close(lesson.outputs[number], outputs[number, OUTPUT].detach())


def test_every_network_and_head_runs_once_in_a_step():
    models, heads = _networks(2)
    runs = []
    for module in (*models, *heads[0].values(), *heads[1].values()):
        module.register_forward_hook(lambda *_, m=module: runs.append(m))
    peer_step(models, _batch(), dcm(2, HEADS), task=TASK, heads=heads)
    assert len(runs) == len(set(map(id, runs))) == 6


def test_an_edge_without_detach_moves_its_teacher():
    (first, second), _ = _networks(2)
    ends = {"student": Node(0), "teacher": Node(1)}
    peer_step((first, second), _batch(), TeachingGraph((Edge(**ends),)), task=TASK)
    assert all(p.grad is None for p in second.parameters())
    peer_step((first, second), _batch(), TeachingGraph((Edge(**ends, detach=False),)), task=TASK)
    assert second.head.weight.grad.any()
    twin_a, twin_b = copy.deepcopy((first, second))
    for twin in (twin_a, twin_b):
        twin.zero_grad()
    images, _ = _batch()
    p, q = twin_b(images).softmax(1), twin_a(images).softmax(1)
    (p * (p / q).log()).sum(1).mean().backward()
    torch.testing.assert_close(second.head.weight.grad, twin_b.head.weight.grad)


def test_weights_and_parts_of_a_batch_scale_the_gradient_and_not_the_losses():
    models, heads = _networks(2)
    whole = peer_step(models, _batch(), dcm(2, HEADS), task=TASK, heads=heads)
    gradients = [g.clone() for g in _gradients(models, heads)]
    for model in (*models, *heads.values()):
        model.zero_grad()
    part = peer_step(models, _batch(), dcm(2, HEADS), task=TASK, heads=heads, weight=0.25)
    for full, quarter in zip(gradients, _gradients(models, heads), strict=True):
        torch.testing.assert_close(full / 4, quarter)
    assert list(part.losses.values()) == list(whole.losses.values())


def test_a_term_of_weight_zero_is_told_and_not_learned():
    models, _ = _networks(2)
    edges = (*independent(2).edges, Edge(student=Node(0), teacher=Node(1), weight=0.0))
    lesson = peer_step(models, _batch(), TeachingGraph(edges), task=TASK)
    assert lesson.losses[edges[-1]] > 0
    gradient = models[0].head.weight.grad.clone()
    models[0].zero_grad()
    peer_step(models, _batch(), independent(2), task=TASK)
    assert torch.equal(gradient, models[0].head.weight.grad)


def _alternate_slowly(models, batch, rate):
    """Algorithm 1 of deep mutual learning: predict, update one, predict again, update the next."""
    images, labels = batch
    predictions = [model(images).detach() for model in models]
    for number, model in enumerate(models):
        model.zero_grad()
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        for other, teacher in enumerate(predictions):
            if other != number:
                loss = loss + _kl(teacher, logits) / (len(models) - 1)
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= rate * parameter.grad
        predictions[number] = model(images).detach()


@pytest.mark.parametrize("count", [2, 3])
def test_alternating_updates_are_the_papers_algorithm(count):
    models, _ = _networks(count)
    twins = copy.deepcopy(models)
    seen = []
    optimizers = [torch.optim.SGD(model.parameters(), 0.3) for model in models]

    def update(number, lesson):
        seen.append((number, sorted(map(str, lesson.losses))))
        optimizers[number].step()
        optimizers[number].zero_grad()

    for _ in range(2):
        peer_step(models, _batch(), dml(count), task=TASK, update=update)
        _alternate_slowly(twins, _batch(), 0.3)
    for model, twin in zip(models, twins, strict=True):
        for mine, slow in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine, slow, rtol=1e-4, atol=1e-6)
    assert [number for number, _ in seen] == 2 * list(range(count))
    assert all(name.split("_")[1] == str(number + 1) for number, names in seen for name in names)


def test_alternating_updates_count_a_batch_once_in_running_statistics():
    models, _ = _networks(2)
    peer_step(models, _batch(), dml(2), task=TASK, update=lambda number, lesson: None)
    assert [int(model.early[1].num_batches_tracked) for model in models] == [1, 1]
    assert {model.early[1].momentum for model in models} == {0.1}
    twin = _Tiny(0).train()
    twin(_batch()[0])
    torch.testing.assert_close(models[0].early[1].running_mean, twin.early[1].running_mean)


def test_a_callers_autocast_does_not_hide_the_new_predictions():
    models, _ = _networks(2)
    optimizer = torch.optim.SGD(models[0].parameters(), lr=1.0)
    images = _batch()[0]

    def update(number, lesson):
        if number == 0:
            optimizer.step()

    with torch.autocast("cpu", torch.bfloat16):
        lesson = peer_step(models, _batch(), dml(2), task=TASK, update=update)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = models[0](images)
    torch.testing.assert_close(lesson.outputs[0], expected)


@pytest.mark.parametrize(
    ("graph", "runs"),
    [(independent(3), [1, 1, 1]), (dks(3, HEADS), [1, 1, 1]), (dml(3), [2, 2, 1])],
    ids=["independent", "dks", "dml"],
)
def test_in_turn_only_networks_that_others_learn_from_run_again(graph, runs):
    models, heads = _networks(3)
    counts = [0, 0, 0]

    def counter(number):
        def count(*_):
            counts[number] += 1

        return count

    for number, model in enumerate(models):
        model.register_forward_hook(counter(number))
    peer_step(models, _batch(), graph, task=TASK, heads=heads, update=lambda *_: None)
    assert counts == runs


def test_heads_that_the_graph_leaves_out_do_not_run():
    models, heads = _networks(2)
    for own in heads.values():
        for head in own.values():
            head.register_forward_hook(lambda *_: pytest.fail("a head ran"))
    peer_step(models, _batch(), dml(2), task=TASK, heads=heads)


def test_a_joint_step_differs_from_an_alternating_one():
    models, _ = _networks(2)
    twins = copy.deepcopy(models)
    for group, in_turn in ((models, False), (twins, True)):
        optimizers = [torch.optim.SGD(model.parameters(), 0.5) for model in group]

        def update(number, lesson, optimizers=optimizers):
            optimizers[number].step()

        peer_step(group, _batch(), dml(2), task=TASK, update=update if in_turn else None)
        if not in_turn:
            for optimizer in optimizers:
                optimizer.step()
    assert torch.equal(models[0].head.weight, twins[0].head.weight)
    assert not torch.equal(models[1].head.weight, twins[1].head.weight)


def test_a_frozen_teacher_runs_in_eval_mode_and_keeps_its_mode_and_statistics():
    student, teacher = _networks(2)[0]
    teacher.train()
    teacher.early.eval()
    modes = [module.training for module in teacher.modules()]
    buffers = [b.clone() for b in teacher.buffers()]
    lesson = peer_step((student, teacher), _batch(), kd(1), task=TASK)
    assert [module.training for module in teacher.modules()] == modes
    assert all(torch.equal(a, b) for a, b in zip(teacher.buffers(), buffers, strict=True))
    assert all(p.grad is None for p in teacher.parameters())
    teacher.eval()
    torch.testing.assert_close(lesson.outputs[1], teacher(_batch()[0]))


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
    models, heads = _networks(2)
    images, labels = _batch()
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


def test_impossible_steps_are_refused():
    (first, second), heads = _networks(2)
    batch = _batch()

    def refuses(message, networks, graph, **kwargs):
        with pytest.raises(ValueError, match=message):
            peer_step(networks, batch, graph, task=TASK, **kwargs)

    pair = (first, second)
    refuses("networks 1 and 2 share some", (first, first), dml(2))
    shared = _Tiny(3)
    shared.head = first.head
    refuses("must be given once and have its own weights", (first, shared), dml(2))
    refuses("must be the 2 of the graph, got 3", (*pair, _Tiny(4)), dml(2))
    refuses("network 1 must have the head C2", pair, dcm(2, HEADS))
    refuses("network 2 must have the head C3", pair, dcm(2, ("C3",)), heads={0: heads[0]})
    other = _Tiny(5)
    other.head = nn.Linear(4, 7)
    message = r"the same classes, got outputs \(6, 5\) of network 1 and \(6, 7\) of network 2"
    refuses(message, (first, other), dml(2))
    moved = Edge(student=Node(0), teacher=Node(1), detach=False)
    soft = TeachingGraph((moved, *independent(2).edges))
    refuses("need detached teachers", pair, soft, update=lambda *_: None)
    assert first.head.weight.grad is None


def test_a_teacher_joins_any_graph():
    models, heads = _networks(3)
    graph = with_teacher(dcm(2, HEADS), alpha=0.5, tau=2.0)
    lesson = peer_step(models, _batch(), graph, task=TASK, heads={0: heads[0], 1: heads[1]})
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
    models, _ = _networks(2)
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
    peer_step(models, _batch(), graph, task=TASK, heads={1: own})
    assert own.training
    assert all(torch.equal(a, b) for a, b in zip(own.buffers(), before, strict=True))
    assert all(p.grad is None for p in own.parameters())


def test_heads_given_to_two_networks_are_refused():
    models, heads = _networks(2)
    shared = {0: heads[0], 1: heads[0]}
    with pytest.raises(ValueError, match="networks 1 and 2 share some"):
        peer_step(models, _batch(), dcm(2, HEADS), task=TASK, heads=shared)


def test_heads_of_other_classes_than_their_network_are_refused():
    models, _ = _networks(1)
    heads = AuxiliaryHeads(
        models[0],
        {"C2": Head(after="late"), "C3": Head(after="early")},
        num_classes=CLASSES - 2,
        images=torch.randn(2, 3, 8, 8),
    )
    graph = deep_supervision(1, HEADS)
    with pytest.raises(ValueError, match=r"head 1.C2 must have its network's outputs \(6, 5\)"):
        peer_step(models, _batch(), graph, task=TASK, heads={0: heads})
    with pytest.raises(ValueError, match="heads must be given by number of the network"):
        peer_step(models, _batch(), graph, task=TASK, heads=[heads])
