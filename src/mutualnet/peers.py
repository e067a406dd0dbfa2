"""One training step of networks that teach each other, for anybody's loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mutualnet.batch_checks import BatchCheck
from mutualnet.heads import AuxiliaryHeads
from mutualnet.module_state import kept_running_statistics, mode_of
from mutualnet.precision import autocast_to
from mutualnet.supernet import ignore_layout_warning
from mutualnet.tasks.base import Task
from mutualnet.teaching import Edge, Node, TeachingGraph


@dataclass(frozen=True, slots=True)
class PeerStepResult:
    """Losses and outputs of the networks of one step."""

    losses: dict[Edge, Tensor]
    """Scalar of each term, detached and without its weight, in the order of the edges."""
    outputs: tuple[Any, ...]
    """Each network's own output for the batch, detached."""


def peer_step(
    networks: Sequence[nn.Module],
    batch: Any,
    graph: TeachingGraph,
    *,
    task: Task,
    heads: Mapping[int, AuxiliaryHeads] | None = None,
    autocast: torch.dtype | None = None,
    weight: float = 1.0,
) -> PeerStepResult:
    """Run every network once on a batch, and add up the gradients of all terms of a graph.

    The caller zeroes the gradients before and steps one optimizer over all networks, or one each,
    after. `peer_step_in_turn` updates them one after the other instead.

    Args:
        networks: As many as the graph is about, on the batch's device. They keep their train or
            eval mode; frozen ones run in eval mode and without gradients.
        batch: The same for all of them.
        graph: Who learns from whom, for example `dcm(2, ("C2", "C3"))`.
        task: Its loss on labels, and its divergence from a teacher.
        heads: Auxiliary heads by index of the network, where the graph has some.
        autocast: Precision of the forward passes, such as torch.bfloat16; None for the weights'.
        weight: Factor of all gradients, for a batch that is a part of a step's: its share of the
            images. The losses that are returned are without it.

    Returns:
        The losses of all terms, and what each network put out. Losses stay on the device.

    Raises:
        ValueError: If networks and graph do not fit, one network is given twice, two share weights,
            or peers have different classes; if there is no image, one is not finite or a label out
            of range. On an accelerator values are read for the first 8 batches alone, since reading
            them waits for the device.
        TypeError: If images or labels are of the wrong type.

    Source: Yao and Sun 2020, https://arxiv.org/abs/2008.07816 (joint update).
    """
    step = _Step(networks, heads, batch, graph, task, autocast)
    step.run_all()
    learners = step.learners()
    step.learn(learners, weight)
    return step.result(learners)


def peer_step_in_turn(
    networks: Sequence[nn.Module],
    batch: Any,
    graph: TeachingGraph,
    *,
    task: Task,
    heads: Mapping[int, AuxiliaryHeads] | None = None,
    autocast: torch.dtype | None = None,
    weight: float = 1.0,
) -> Iterator[tuple[int, PeerStepResult]]:
    """Let the networks learn one after the other, as in deep mutual learning.

    A network's gradient is there when its index is yielded; the caller steps its optimizer, and
    the networks after it learn from its new predictions:

        for index, result in peer_step_in_turn(networks, batch, dml(2), task=task):
            optimizers[index].step()

    Args:
        networks: As for `peer_step`.
        batch: As for `peer_step`.
        graph: As for `peer_step`; its teachers must be detached.
        task: As for `peer_step`.
        heads: As for `peer_step`.
        autocast: As for `peer_step`.
        weight: As for `peer_step`.

    Yields:
        Index of a network that learns, and its losses. The outputs are the new predictions of the
        networks that had their turn before it and taught one after them, and the first ones of the
        others.

    Raises:
        ValueError: As `peer_step` does, and if a teacher is not detached.
        TypeError: If images or labels are of the wrong type.

    Source: Zhang et al. 2018, https://arxiv.org/abs/1706.00384, algorithm 1.
    """
    if not all(edge.detach for edge in graph.edges):
        raise ValueError("updates in turn need detached teachers: every edge's detach=True")
    step = _Step(networks, heads, batch, graph, task, autocast)
    step.run_all()
    return _turns(step, weight)


def _turns(step: _Step, weight: float) -> Iterator[tuple[int, PeerStepResult]]:
    learners = step.learners()
    for turn, index in enumerate(learners, start=1):
        step.learn([index], weight)
        yield index, step.result([index])
        if step.teaches(index, learners[turn:]):
            step.refresh(index)


class _Step:
    """What one step knows: every output once, as it was computed and as a target."""

    def __init__(
        self,
        networks: Sequence[nn.Module],
        heads: Mapping[int, AuxiliaryHeads] | None,
        batch: Any,
        graph: TeachingGraph,
        task: Task,
        autocast: torch.dtype | None,
    ) -> None:
        heads = heads or {}
        if not isinstance(heads, Mapping):
            raise ValueError("heads must be given by index of the network, such as {0: heads}")
        _check(networks, graph, heads)
        self.networks, self.heads = networks, heads
        self.batch, self.graph, self.task = batch, graph, task
        self.check = BatchCheck(networks[0], task, batch)
        self.autocast = autocast
        self.device = next((p.device for p in networks[0].parameters()), torch.device("cpu"))
        self.outputs: dict[Node, Any] = {}
        self.targets: dict[Node, Any] = {}
        self.losses: dict[Edge, Tensor] = {}

    def learners(self) -> list[int]:
        """Indices of the networks that learn."""
        return [n for n in range(len(self.networks)) if n not in self.graph.frozen]

    def run_all(self) -> None:
        """Every network once; frozen ones without gradients."""
        for index, network in enumerate(self.networks):
            if index in self.graph.frozen:
                with_heads = nn.ModuleList([network, *self.heads.get(index, {}).values()])
                with torch.no_grad(), mode_of(with_heads, False):
                    self.outputs |= self._run(index)
            else:
                self.outputs |= self._run(index)
        _check_classes(self.outputs, self.graph)
        # Those that do not teach each other may have different classes.
        for index in sorted({e.student.network for e in self.graph.edges if e.teacher is None}):
            self.check.labels(self.outputs[Node(index)])
        self.targets = {node: self.task.detach(value) for node, value in self.outputs.items()}

    def teaches(self, index: int, students: Sequence[int]) -> bool:
        """Whether some networks learn from another one."""
        return any(
            edge.teacher is not None
            and edge.teacher.network == index
            and edge.student.network in students
            for edge in self.graph.edges
        )

    def refresh(self, index: int) -> None:
        """New predictions of a network whose weights were moved, for its peers."""
        torch.clear_autocast_cache()  # a caller's autocast keeps casts of the weights as they were
        # The images were counted already by BN's running statistics.
        with torch.no_grad(), kept_running_statistics(self.networks[index]), ExitStack() as more:
            if index in self.heads:
                more.enter_context(kept_running_statistics(self.heads[index]))
            self.targets |= self._run(index)

    def learn(self, indices: Sequence[int], weight: float) -> None:
        """Add up the gradients of all terms whose students are some networks'."""
        total: Tensor | None = None
        for edge in self.graph.edges:
            if edge.student.network not in indices:
                continue
            loss = self._loss(edge)
            self.losses[edge] = loss.detach()
            if edge.weight:
                term = edge.weight * weight * loss
                total = term if total is None else total + term
        if total is not None:
            with ignore_layout_warning():
                total.backward()  # type: ignore[no-untyped-call]

    def result(self, indices: Sequence[int]) -> PeerStepResult:
        """Losses of some of the networks, and what all put out last."""
        return PeerStepResult(
            losses={
                edge: self.losses[edge]
                for edge in self.graph.edges
                if edge.student.network in indices
            },
            outputs=tuple(self.targets[Node(index)] for index in range(len(self.networks))),
        )

    def _run(self, index: int) -> dict[Node, Any]:
        network, names = self.networks[index], self.graph.heads_of(index)
        run = partial(self.task.run, network, self.batch)
        with autocast_to(self.autocast, self.device):
            if not names:
                return {Node(index): run()}
            found = self.heads[index].read(network, run, names)
        return {Node(index, head): value for head, value in found.items()}

    def _loss(self, edge: Edge) -> Tensor:
        student = self.outputs[edge.student]
        with autocast_to(self.autocast, self.device):
            if edge.teacher is None:
                return self.task.supervised_loss(student, self.batch)
            teacher = (self.targets if edge.detach else self.outputs)[edge.teacher]
            return self.task.divergence(student, teacher, edge.tau)


def _check(
    networks: Sequence[nn.Module], graph: TeachingGraph, heads: Mapping[int, AuxiliaryHeads]
) -> None:
    if len(networks) != graph.num_networks:
        raise ValueError(
            f"networks must be the {graph.num_networks} of the graph, got {len(networks)}"
        )
    check_apart(
        [
            nn.ModuleList([network, heads[index]] if index in heads else [network])
            for index, network in enumerate(networks)
        ]
    )
    for index in range(len(networks)):
        absent = set(graph.heads_of(index)) - set(heads.get(index, ()))
        if absent:
            raise ValueError(
                f"network {index + 1} must have the head {min(absent)} that the graph teaches. "
                f"Pass heads={{{index}: AuxiliaryHeads(...)}}."
            )


def check_apart(networks: Sequence[nn.Module]) -> None:
    """Refuse networks, heads included, that share a weight: they could not teach each other.

    Raises:
        ValueError: If two of them do.
    """
    owners: dict[int, int] = {}
    for index, network in enumerate(networks):
        for parameter in network.parameters():
            other = owners.setdefault(id(parameter), index)
            if other != index:
                raise ValueError(
                    "every network must be given once and have its own weights, but networks "
                    f"{other + 1} and {index + 1} share some. Build a second one."
                )


def _check_classes(outputs: Mapping[Node, Any], graph: TeachingGraph) -> None:
    for node, found in outputs.items():
        logits = outputs[Node(node.network)]
        if isinstance(found, Tensor) and isinstance(logits, Tensor) and found.shape != logits.shape:
            raise ValueError(
                f"head {node} must have its network's outputs {tuple(logits.shape)}, got "
                f"{tuple(found.shape)}"
            )
    for edge in graph.edges:
        if edge.teacher is None:
            continue
        student, teacher = outputs[edge.student], outputs[edge.teacher]
        if not (isinstance(student, Tensor) and isinstance(teacher, Tensor)):
            continue
        if student.shape != teacher.shape:
            raise ValueError(
                f"peers must have the same classes, got outputs {tuple(student.shape)} of network "
                f"{edge.student} and {tuple(teacher.shape)} of network {edge.teacher}"
            )
