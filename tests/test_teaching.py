"""Presets are the graphs of their papers, and impossible graphs are refused."""

from __future__ import annotations

from collections import Counter

import pytest

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


def test_a_network_has_a_number_from_0():
    with pytest.raises(ValueError, match="network must be >= 0, got -1"):
        Node(-1)


def _terms(graph):
    labels = [edge for edge in graph.edges if edge.teacher is None]
    return labels, [edge for edge in graph.edges if edge.teacher is not None]


def test_dcm_of_two_networks_with_three_classifiers_has_6_and_18_terms():
    labels, taught = _terms(dcm(2, HEADS))
    assert len(labels) == 6
    assert len(taught) == 18
    pairs = Counter((edge.student, edge.teacher) for edge in taught)
    assert set(pairs.values()) == {1}
    for student, teacher in pairs:
        assert student.network != teacher.network
        assert (teacher, student) in pairs
    same = [edge for edge in taught if edge.student.head == edge.teacher.head]
    assert len(same) == 6
    assert all(edge.detach and edge.tau == 1 and edge.weight == 1 for edge in taught)


def test_parts_of_dcm_are_weighted_and_left_out_separately():
    _, taught = _terms(dcm(2, HEADS, same_stage_weight=0.5, different_stage_weight=2.0, tau=3.0))
    weights = {(e.student.head == e.teacher.head): e.weight for e in taught}
    assert weights == {True: 0.5, False: 2.0}
    assert {e.tau for e in taught} == {3.0}
    _, same = _terms(dcm(2, HEADS, different_stage_weight=0))
    _, different = _terms(dcm(2, HEADS, same_stage_weight=0))
    assert (len(same), len(different)) == (6, 12)
    assert {e.student.head == e.teacher.head for e in same} == {True}
    assert {e.student.head == e.teacher.head for e in different} == {False}


@pytest.mark.parametrize("count", [2, 3, 4])
def test_with_more_networks_each_learns_from_the_mean_of_the_others(count):
    for graph in (dml(count), dcm(count, HEADS)):
        heads = len(graph.nodes) // count
        _, taught = _terms(graph)
        assert len(taught) == count * (count - 1) * heads**2
        for node in graph.nodes:
            weight = sum(edge.weight for edge in taught if edge.student == node)
            assert weight == pytest.approx(heads)


def test_dml_is_the_last_layer_alone():
    labels, taught = _terms(dml(2))
    assert [str(e) for e in labels] == ["ce_1", "ce_2"]
    assert sorted(map(str, taught)) == ["kl_1_2", "kl_2_1"]


def test_dks_joins_all_ordered_pairs_inside_of_each_network():
    labels, taught = _terms(dks(2, HEADS))
    assert len(labels) == 6
    assert len(taught) == 12
    assert all(edge.student.network == edge.teacher.network for edge in taught)
    assert len({(edge.student, edge.teacher) for edge in taught}) == 12


def test_deep_supervision_and_independence_have_labels_alone():
    assert [str(e) for e in deep_supervision(1, HEADS).edges] == ["ce_1", "ce_1.C2", "ce_1.C3"]
    assert [str(e) for e in independent(3).edges] == ["ce_1", "ce_2", "ce_3"]


def test_a_teacher_is_the_last_network_and_frozen():
    graph = kd(2, alpha=0.75, tau=4.0)
    assert graph.num_networks == 3
    assert graph.frozen == {2}
    assert str(graph) == "0.25 ce_1, 0.75 kl_1_3, 0.25 ce_2, 0.75 kl_2_3"
    assert {e.tau for e in graph.edges if e.teacher is not None} == {4.0}
    both = with_teacher(dcm(2, ("C2",)), alpha=0.5, tau=1.0)
    assert len(both.edges) == len(dcm(2, ("C2",)).edges) + 2
    assert {str(e): e.weight for e in both.edges}["ce_1.C2"] == 1


def test_a_graph_knows_its_nodes_and_heads():
    graph = dcm(2, HEADS)
    assert graph.nodes == tuple(Node(n, head) for n in (0, 1) for head in ("C2", "C3", OUTPUT))
    assert graph.heads_of(1) == HEADS
    assert str(graph.edges[0]) == "ce_1"


A, B = Node(0), Node(1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TeachingGraph(()), "at least one edge"),
        (lambda: TeachingGraph((Edge(student=A), Edge(student=A))), "ce_1 again"),
        (lambda: TeachingGraph((Edge(student=A),), frozenset({0})), "network 1 is frozen"),
        (
            lambda: TeachingGraph((Edge(student=A, teacher=B, detach=False),), frozenset({1})),
            "network 2 is frozen, but kl_1_2 moves it",
        ),
        (lambda: Edge(student=A, teacher=A), "another node than its student, got 1"),
        (lambda: Edge(student=A, weight=-1), "weight must be >= 0, got -1"),
        (lambda: Edge(student=A, tau=0), "tau must be > 0, got 0"),
        (lambda: dml(1), "num_networks must be >= 2, got 1"),
        (lambda: dcm(1, HEADS), "num_networks must be >= 2, got 1"),
        (lambda: independent(0), "num_networks must be >= 1, got 0"),
        (lambda: dks(1, ()), "at least one auxiliary head"),
        (lambda: dcm(2, ("C2", "C2")), "different names"),
        (lambda: deep_supervision(1, (OUTPUT,)), "different names"),
        (lambda: kd(alpha=1.5), r"alpha must lie in \[0, 1\], got 1.5"),
    ],
)
def test_impossible_graphs_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
