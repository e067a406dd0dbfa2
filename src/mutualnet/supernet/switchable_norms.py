"""BN weights that every width of a list has for itself, as slimmable networks have them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mutualnet.supernet.channel_plan import ChannelPlan
from mutualnet.supernet.narrow import take


class OwnNorms(nn.Module):
    """Weight and bias of every BN layer, once for each of some widths.

    They start as the leading channels of the model's own. The full width has none here: it uses
    the model's.

    Args:
        model: The full model.
        plan: Its channel plan.
        widths: Active channels per group, for each width.

    Source: Yu et al. 2019, https://arxiv.org/abs/1812.08928, section 3.3 (switchable BN).
    """

    def __init__(
        self, model: nn.Module, plan: ChannelPlan, widths: Sequence[tuple[int, ...]]
    ) -> None:
        super().__init__()
        self._numbers: dict[tuple[int, ...], int] = {}
        self.widths = nn.ModuleList()
        for counts in widths:
            if counts == plan.full_counts or counts in self._numbers:
                continue
            indices = plan.indices(counts)
            norms = nn.ModuleDict()
            for path, module in model.named_modules():
                if isinstance(module, _BatchNorm) and module.affine:
                    own = nn.Module()
                    for name in ("weight", "bias"):
                        full = getattr(module, name).detach()
                        values = take(full, indices.get(f"{path}.{name}", {})).clone()
                        own.register_parameter(name, nn.Parameter(values))
                    norms[_key(path)] = own
            self._numbers[counts] = len(self.widths)
            self.widths.append(norms)

    def owner(self, counts: tuple[int, ...], path: str) -> nn.Module | None:
        """What holds `weight` and `bias` of a layer at a width; None if the model does.

        Raises:
            ValueError: If that width is not one of the list.
        """
        if counts not in self._numbers:
            raise ValueError(
                "a sub-network must have one of the listed widths, whose BN weights were trained"
            )
        norms = self.widths[self._numbers[counts]]
        assert isinstance(norms, nn.ModuleDict)
        if _key(path) not in norms:
            return None
        return norms[_key(path)]

    def sources(self) -> dict[str, str]:
        """Names of all parameters here, and of those of the model that they stand in for."""
        found = {}
        for name, _ in self.named_parameters():
            *_, key, last = name.split(".")
            found[name] = f"{key.replace('/', '.')}.{last}"
        return found


def _key(path: str) -> str:
    return path.replace(".", "/")  # a ModuleDict takes no dots
