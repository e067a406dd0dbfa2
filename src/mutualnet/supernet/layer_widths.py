"""From widths by names and patterns of layers to one width for each channel group."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from mutualnet.supernet.channel_group import ChannelGroup


def group_shares(
    groups: Sequence[ChannelGroup], links: Sequence[Sequence[int]], shares: Mapping[str, float]
) -> dict[int, float]:
    """The share that names and patterns ask for, by the number of the group.

    The name of a group speaks of that group alone. Otherwise each layer takes the share of its own
    name, or of the pattern that matches it with the most characters that are no wildcards; the
    layers of a group, and linked groups, must then agree. A group none of whose layers is matched
    is not in the result.

    Args:
        groups: Of the plan.
        links: Numbers of groups that keep one share, the first of which decides.
        shares: By names of groups, names of layers, and shell patterns of these (`*`, `?`).

    Raises:
        ValueError: If a name or pattern matches no layer that makes elastic channels, or two of
            them ask for different shares of channels that are tied. It names them.
    """
    chosen: dict[int, dict[str, str]] = {}
    """For each group the keys that decide, and a layer that each is chosen for."""
    unused = set(shares)
    by_name = {group.name: number for number, group in enumerate(groups)}
    for number, group in enumerate(groups):
        if group.name in shares:
            unused.discard(group.name)
            chosen[number] = {group.name: group.name}
            continue
        for layer in group.layers:
            matching = [k for k in shares if k not in by_name and fnmatchcase(layer, k)]
            unused.difference_update(matching)
            for key in _most_specific(matching):
                chosen.setdefault(number, {}).setdefault(key, layer)
    if unused:
        known = ", ".join(list(by_name)[:8])
        raise ValueError(
            "group_widths must name channel groups of the model, or layers of these by names or "
            f"patterns, got {sorted(unused)[0]!r}. Known: {known}... (see Supernet.report())"
        )
    for number, keys in chosen.items():
        _check_agreement(keys, shares, f"the channels of {groups[number].name} are tied")
    found = {number: shares[next(iter(keys))] for number, keys in chosen.items()}
    for link in links:
        asked = {number: chosen[number] for number in link if number in chosen}
        if asked:
            keys = {key: layer for part in asked.values() for key, layer in part.items()}
            names = " and ".join(groups[number].name for number in link)
            _check_agreement(keys, shares, f"{names} keep one share of their channels")
            found[link[0]] = shares[next(iter(keys))]
    return found


def _most_specific(keys: Sequence[str]) -> list[str]:
    """Those with the most characters that are no wildcards; a name without any stands above."""

    def rank(key: str) -> tuple[bool, int]:
        literal = re.sub(r"\[[^]]*\]|[*?]", "", key)
        return literal == key, len(literal)

    best = max(map(rank, keys), default=None)
    return [key for key in keys if rank(key) == best]


def _check_agreement(keys: Mapping[str, str], shares: Mapping[str, float], why: str) -> None:
    first, *others = keys
    for other in others:
        if shares[other] != shares[first]:
            raise ValueError(
                f"group_widths must give tied channels one width, got two by {first!r} (for "
                f"{keys[first]}) and {other!r} (for {keys[other]}): {why}"
            )
