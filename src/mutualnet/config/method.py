"""Which sub-networks a step runs, and what they learn from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mutualnet.config.choices import check_choice
from mutualnet.methods import METHODS, Method
from mutualnet.numbers import check_numbers

_MOST_RANDOM = 1024
"""More random sub-networks in a step are a slip of the pen."""


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """What one training step runs, and what it learns from."""

    name: str = "mutualnet"
    """A key of `mutualnet.METHODS`."""
    num_random: int | None = None
    """Sub-networks of random width in a step, of methods that draw some; None keeps the method's
    own number."""
    distill: bool | None = None
    """Whether narrower sub-networks learn from the largest one's output; if not, from labels.
    None is the method's own choice: yes for all but `s_net`."""

    def __post_init__(self) -> None:
        check_numbers(self)
        check_choice("method.name", self.name, tuple(METHODS))
        if self.num_random is not None and not 0 <= self.num_random <= _MOST_RANDOM:
            raise ValueError(
                f"num_random must be >= 0 and <= {_MOST_RANDOM}, got {self.num_random}"
            )

        if self.num_random and not METHODS[self.name].rule.num_random:
            raise ValueError(
                f"num_random must be null for method {self.name}, which draws no random widths, "
                f"got {self.num_random}"
            )

    @property
    def value(self) -> Method:
        """The method, with what is set here in place of its own."""
        method = METHODS[self.name]
        if self.num_random is not None:
            method = replace(method, rule=replace(method.rule, num_random=self.num_random))
        if self.distill is not None:
            method = replace(method, distills=self.distill)
        return method
