"""YAML of values alone: no key twice, no aliases, no more depth than a recipe has."""

from __future__ import annotations

from typing import Any

import yaml

_DEPTH = 32
"""Levels of lists and mappings; a recipe has six."""


class _Loader(yaml.SafeLoader):
    """Refuses what has two meanings, or would exhaust memory or stack."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=mark)
        self.depth += 1
        if self.depth > _DEPTH:
            mark = self.peek_event().start_mark
            problem = f"more than {_DEPTH} levels of lists and mappings"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name is not None and name in seen:
                problem = f"the key {key.value} stands twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """Read plain values.

    Raises:
        ValueError: If the text is not YAML, or is not plain. It is one line that says where.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise ValueError(" ".join(line for line in lines if line)) from None
    except RecursionError:  # of its scanner, which goes deeper than the values
        raise ValueError("nested too deeply") from None
