"""How the networks of a run learn from one micro-batch: from labels, peers and themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from mutualnet.methods import SandwichRule
from mutualnet.peers import PeerStepResult, peer_step, peer_step_in_turn
from mutualnet.sandwich import active_network, sandwich_step
from mutualnet.space import Subnet
from mutualnet.teaching import Edge
from mutualnet.training.setup import TrainingSetup
from mutualnet.training.step_losses import LossTerm

NetworkLosses = tuple[int, list[tuple[LossTerm, Tensor]]]
"""Index of a network whose gradient is there, and the losses it learned from."""


def learn(
    setup: TrainingSetup, batch: Any, subnets: Sequence[Subnet], weight: float
) -> Iterator[NetworkLosses]:
    """Add up the gradients of every network, one network after the other.

    With updates in turn a network must be moved before the next one is asked for, which learns from
    its new predictions.

    Args:
        setup: The networks, and who learns from whom.
        batch: A micro-batch at the top resolution.
        subnets: What the step runs of every network, the largest first.
        weight: Of the micro-batch in the step.

    Yields:
        Index of a network whose gradient is there, and its losses.
    """
    if setup.recipe.has_teaching:
        yield from _learn_from_peers(setup, batch, subnets, weight)
        return
    for index in range(len(setup.networks)):
        yield index, list(_sandwich(setup, index, batch, subnets, weight))


def _learn_from_peers(
    setup: TrainingSetup, batch: Any, subnets: Sequence[Subnet], weight: float
) -> Iterator[NetworkLosses]:
    """Let the largest sub-networks learn from each other, and the narrower ones from them."""
    with ExitStack() as active:
        networks = [
            active.enter_context(active_network(trained.supernet, subnets[0]))
            for trained in setup.networks
        ]
        for index, result in _peer_results(setup, networks, batch, subnets[0], weight):
            terms = [(_term_of(edge), loss) for edge, loss in result.losses.items()]
            if subnets[1:]:
                output = result.outputs[index]
                terms += _sandwich(setup, index, batch, subnets, weight, teacher=output)
            yield index, terms


def _peer_results(
    setup: TrainingSetup,
    networks: Sequence[nn.Module],
    batch: Any,
    largest: Subnet,
    weight: float,
) -> Iterator[tuple[int, PeerStepResult]]:
    """Index and result of each network that learns, in turn or all at once."""
    teacher = [] if setup.teacher is None else [setup.teacher]
    arguments: dict[str, Any] = {
        "networks": [*networks, *teacher],
        "batch": setup.task.scale(batch, largest),
        "graph": setup.graph,
        "task": setup.task,
        "heads": {i: trained.heads for i, trained in enumerate(setup.networks) if trained.heads},
        "autocast": setup.compute_format.autocast,
        "weight": weight,
    }
    if setup.recipe.learns_in_turn:
        yield from peer_step_in_turn(**arguments)
        return
    result = peer_step(**arguments)
    for index in sorted({edge.student.network for edge in setup.graph.edges}):
        losses = {e: loss for e, loss in result.losses.items() if e.student.network == index}
        yield index, replace(result, losses=losses)


def _sandwich(
    setup: TrainingSetup,
    index: int,
    batch: Any,
    subnets: Sequence[Subnet],
    weight: float,
    teacher: Any = None,
) -> Iterator[tuple[LossTerm, Tensor]]:
    """Losses of one network's sub-networks; given a teacher, of all but the largest."""
    method = setup.recipe.method.value
    losses = sandwich_step(
        setup.networks[index].supernet,
        batch,
        subnets if teacher is None else subnets[1:],
        task=setup.task,
        distill=method.distills,
        autocast=setup.compute_format.autocast,
        weight=weight,
        teacher=teacher,
    )
    roles = _roles(subnets, method.rule)[-len(losses) :]
    for role, of_subnet in zip(roles, losses, strict=True):
        kind = "ce" if of_subnet.target == "labels" else "kl"
        name, source = role, f"sub-network {of_subnet.subnet}"
        if len(setup.networks) > 1:
            name = f"{index + 1}" if role == "largest" else f"{index + 1}_{role}"
            source += f" of network {index + 1}"
        yield LossTerm(f"{kind}_{name}", source, index), of_subnet.loss


def _term_of(edge: Edge) -> LossTerm:
    return LossTerm(str(edge), f"network {edge.student} ({edge})", edge.student.network)


def _roles(subnets: Sequence[Subnet], rule: SandwichRule) -> list[str]:
    """The role of each sub-network of a step, for the log."""
    if rule.every_width:
        return ["largest", *(f"width{subnet.width_mult:g}" for subnet in subnets[1:])]
    names = ["largest", *(f"random{i + 1}" for i in range(len(subnets) - 1))]
    if rule.include_smallest and len(names) > 1:
        names[-1] = "smallest"
    return names
