"""Who learns from whom: a graph over the outputs of networks, and the graphs of the literature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations

OUTPUT = "output"
"""Name of a network's own classifier among its heads."""
TEACHINGS = ("independent", "deep_supervision", "kd", "dml", "dks", "dcm")
"""Names of the literature's graphs, which the functions below make."""
KD_ALPHA, KD_TAU = 0.9, 4.0
"""Share and temperature of a fixed teacher that are usual on CIFAR."""


@dataclass(frozen=True, order=True, slots=True)
class Node:
    """One classifier of one network.

    Raises:
        ValueError: If the number is negative.
    """

    network: int
    """Number of the network, from 0."""
    head: str = OUTPUT
    """Name of an auxiliary head, or `OUTPUT`."""

    def __post_init__(self) -> None:
        if self.network < 0:
            raise ValueError(f"network must be >= 0, got {self.network}")

    def __str__(self) -> str:
        number = str(self.network + 1)
        return number if self.head == OUTPUT else f"{number}.{self.head}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """One term of the loss: a student, and the labels or the teacher that it learns from.

    Raises:
        ValueError: If the weight is negative, tau not positive, or the teacher is the student.
    """

    student: Node
    teacher: Node | None = None
    """None for the labels: then the loss is the task's own, cross entropy for classes (CE). With a
    teacher it is the divergence of the student's output from the teacher's (KL)."""
    weight: float = 1.0
    tau: float = 1.0
    """Temperature of both outputs; the divergence is multiplied by its square."""
    detach: bool = True
    """Whether the teacher is a fixed target. If not, the edge's gradient moves it as well."""

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ValueError(f"weight must be >= 0, got {self.weight}")
        if not self.tau > 0:
            raise ValueError(f"tau must be > 0, got {self.tau}")
        if self.teacher == self.student:
            raise ValueError(f"a teacher must be another node than its student, got {self.student}")

    def __str__(self) -> str:
        return f"ce_{self.student}" if self.teacher is None else f"kl_{self.student}_{self.teacher}"


@dataclass(frozen=True, slots=True)
class TeachingGraph:
    """All terms of the loss of a step.

    Raises:
        ValueError: If there is no edge, one is given twice, or a frozen network is a student.
    """

    edges: tuple[Edge, ...]
    frozen: frozenset[int] = frozenset()
    """Numbers of networks that teach and do not learn."""

    def __post_init__(self) -> None:
        if not self.edges:
            raise ValueError("a teaching graph must have at least one edge, got none")
        ends = [(edge.student, edge.teacher) for edge in self.edges]
        twice = next(
            (edge for edge, end in zip(self.edges, ends, strict=True) if ends.count(end) > 1), None
        )
        if twice is not None:
            raise ValueError(f"every edge must be given once, got {twice} again. Raise its weight.")
        for edge in self.edges:
            if edge.student.network in self.frozen:
                raise ValueError(
                    f"network {edge.student.network + 1} is frozen, but {edge} teaches it"
                )
            if not edge.detach and edge.teacher is not None and edge.teacher.network in self.frozen:
                raise ValueError(
                    f"network {edge.teacher.network + 1} is frozen, but {edge} moves it"
                )

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every classifier that takes part, in order."""
        ends = (end for edge in self.edges for end in (edge.student, edge.teacher))
        return tuple(sorted({node for node in ends if node is not None}))

    @property
    def num_networks(self) -> int:
        """Networks that the graph is about, frozen ones included."""
        return 1 + max(node.network for node in self.nodes)

    def heads_of(self, network: int) -> tuple[str, ...]:
        """Auxiliary heads of a network that take part."""
        return tuple(n.head for n in self.nodes if n.network == network and n.head != OUTPUT)

    def __str__(self) -> str:
        return ", ".join(f"{edge.weight:g} {edge}" for edge in self.edges)


def independent(num_networks: int = 1) -> TeachingGraph:
    """Every network learns from the labels alone.

    Args:
        num_networks: >= 1.
    """
    _check(num_networks, 1)
    return deep_supervision(num_networks, ())


def deep_supervision(num_networks: int, heads: Sequence[str]) -> TeachingGraph:
    """Every classifier of every network learns from the labels.

    Args:
        num_networks: >= 1.
        heads: Auxiliary heads that each network has.

    Source: Lee et al. 2015, https://arxiv.org/abs/1409.5185.
    """
    _check(num_networks, 1)
    return TeachingGraph(tuple(Edge(student=node) for node in _nodes(num_networks, heads)))


def kd(num_students: int = 1, *, alpha: float = KD_ALPHA, tau: float = KD_TAU) -> TeachingGraph:
    """Knowledge distillation: students learn from the labels and from a frozen teacher.

    The teacher is the last network, after the students.

    Args:
        num_students: >= 1.
        alpha: Share of the teacher, in [0, 1]; the labels have the rest.
        tau: Temperature, > 0.

    Source: Hinton et al. 2015, https://arxiv.org/abs/1503.02531, section 2.
    """
    return with_teacher(independent(num_students), alpha=alpha, tau=tau)


def with_teacher(graph: TeachingGraph, *, alpha: float, tau: float) -> TeachingGraph:
    """A graph whose networks learn from a frozen teacher too, which joins as the last network.

    At every network's own output the labels keep 1 - alpha of their weight, and the teacher gets
    alpha of it.

    Args:
        graph: Kept as it is.
        alpha: Share of the teacher, in [0, 1].
        tau: Temperature, > 0.

    Raises:
        ValueError: If alpha or tau is out of its range.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
    edges: list[Edge] = []
    for edge in graph.edges:
        if edge.teacher is None and edge.student.head == OUTPUT:
            edges.append(replace(edge, weight=(1 - alpha) * edge.weight))
            teacher = Node(graph.num_networks)
            edges.append(replace(edge, teacher=teacher, weight=alpha * edge.weight, tau=tau))
        else:
            edges.append(edge)
    return TeachingGraph(tuple(edges), graph.frozen | {graph.num_networks})


def dml(num_networks: int = 2, *, weight: float = 1.0, tau: float = 1.0) -> TeachingGraph:
    """Deep mutual learning: every network learns from the labels and the mean of its peers' KL.

    Args:
        num_networks: >= 2.
        weight: Of the mean over the peers.
        tau: Temperature, > 0.

    Source: Zhang et al. 2018, https://arxiv.org/abs/1706.00384, section 3.
    """
    _check(num_networks, 2)
    return dcm(num_networks, (), same_stage_weight=weight, tau=tau)


def dks(
    num_networks: int, heads: Sequence[str], *, weight: float = 1.0, tau: float = 1.0
) -> TeachingGraph:
    """Deeply-supervised knowledge synergy: the classifiers of one network teach each other.

    All of them learn from the labels, and over every ordered pair of one network's classifiers.

    Args:
        num_networks: >= 1; each by itself.
        heads: Auxiliary heads that each network has, at least one.
        weight: Of every divergence.
        tau: Temperature, > 0.

    Source: Sun et al. 2019, https://openaccess.thecvf.com/content_CVPR_2019/html/
        Sun_Deeply-Supervised_Knowledge_Synergy_CVPR_2019_paper.html, section 3.
    """
    _check(num_networks, 1)
    if not heads:
        raise ValueError("DKS needs at least one auxiliary head, got none")
    edges = list(deep_supervision(num_networks, heads).edges)
    for network in range(num_networks):
        own = (Node(network, head) for head in (OUTPUT, *heads))
        edges += [
            Edge(student=student, teacher=teacher, weight=weight, tau=tau)
            for student, teacher in permutations(own, 2)
        ]
    return TeachingGraph(tuple(edges))


def dcm(
    num_networks: int,
    heads: Sequence[str],
    *,
    same_stage_weight: float = 1.0,
    different_stage_weight: float = 1.0,
    tau: float = 1.0,
) -> TeachingGraph:
    """Dense cross-layer mutual distillation: classifiers of different networks teach each other.

    All of them learn from the labels, and over every ordered pair of classifiers of two different
    networks. Two networks with two auxiliary heads each have 6 terms on labels and 18 divergences,
    6 of which join classifiers of the same stage. With more than two networks the divergences are
    averaged over the other networks, as in deep mutual learning.

    Args:
        num_networks: >= 2.
        heads: Auxiliary heads that each network has; none makes it deep mutual learning.
        same_stage_weight: Of divergences between classifiers of one name; 0 leaves them out.
        different_stage_weight: Of the others; 0 leaves them out.
        tau: Temperature, > 0.

    Source: Yao and Sun 2020, https://arxiv.org/abs/2008.07816, section 3.
    """
    _check(num_networks, 2)
    edges = list(deep_supervision(num_networks, heads).edges)
    names = (OUTPUT, *heads)
    for first, second in combinations(range(num_networks), 2):
        for one in names:
            for other in names:
                weight = same_stage_weight if one == other else different_stage_weight
                if weight == 0:
                    continue
                a, b = Node(first, one), Node(second, other)
                edges += [
                    Edge(student=s, teacher=t, weight=weight / (num_networks - 1), tau=tau)
                    for s, t in ((a, b), (b, a))
                ]
    return TeachingGraph(tuple(edges))


def _check(num_networks: int, least: int) -> None:
    if num_networks < least:
        raise ValueError(f"num_networks must be >= {least}, got {num_networks}")


def _nodes(num_networks: int, heads: Sequence[str]) -> list[Node]:
    if isinstance(heads, str):
        raise ValueError(f"heads must be a list of names, such as [{heads!r}], got {heads!r}")
    if len({OUTPUT, *heads}) != len(heads) + 1:
        raise ValueError(f"heads must have different names, none {OUTPUT!r}, got {tuple(heads)}")
    return [Node(n, head) for n in range(num_networks) for head in (OUTPUT, *heads)]
