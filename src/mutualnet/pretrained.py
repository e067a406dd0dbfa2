"""Weights from elsewhere: a pretrained network, an earlier run, or a file, copied by name."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mutualnet.checksums import whole_files
from mutualnet.config import read_recipe
from mutualnet.messages import first_line, reason_of, shorten
from mutualnet.run_directory import CONFIG, NORMS, WEIGHTS
from mutualnet.slimmable_releases import is_release, renamed_release

logger = logging.getLogger(__name__)

_WRAPPERS = ("state_dict", "model", "model_state_dict", "module")
"""Names under which training codes keep the weights in their checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Initialized:
    """What of a network got its values from elsewhere."""

    copied: tuple[str, ...]
    """Names of parameters and buffers that were copied."""
    left: tuple[str, ...]
    """Names of those that were not: absent, or of another shape."""
    trained_from: float | None
    """Least share of the source's width that was trained: 1 where that was the full network alone,
    0 for releases of slimmable networks, None where nothing tells."""


def pretrained_model(name: str, **kwargs: Any) -> nn.Module:
    """A network of timm's with its pretrained weights, which timm fetches if it has not yet.

    Args:
        name: In timm's list, with or without the tag of its weights.
        kwargs: Passed on to timm.

    Raises:
        ValueError: If timm has no such network, no weights for it, or cannot get them.
    """
    if not timm.is_model(name.split(".")[0]):
        raise ValueError(f"timm has no network {name!r}. See timm.list_models().")
    try:
        return timm.create_model(name, pretrained=True, **kwargs)
    except Exception as error:  # the hub's client raises errors of many libraries
        reason = reason_of(error)
        raise ValueError(
            f"the pretrained weights of timm:{name} could not be had ({reason}). Fetch them "
            "where there is a network; --init takes the file too."
        ) from None


def read_weights(source: str) -> dict[str, Tensor]:
    """Read named tensors.

    Args:
        source: `timm:NAME`, the directory of a run, or a file: safetensors, or what `torch.save`
            wrote, of which nothing but tensors and plain values is read.

    Raises:
        ValueError: If there is no such thing, or it holds no named tensors.
    """
    if source.startswith("timm:"):
        return dict(pretrained_model(source.removeprefix("timm:")).state_dict())
    path = Path(source).expanduser()
    if path.is_dir():
        inner = sorted(str(file.parent) for file in path.glob(f"*/{WEIGHTS}"))
        if inner and not (path / WEIGHTS).is_file():
            raise ValueError(f"{path} holds several networks; name one of them: {', '.join(inner)}")
        path = whole_files(path, [WEIGHTS]).get(WEIGHTS, path / WEIGHTS)
    if not path.is_file():
        raise ValueError(
            f"weights must come from timm:NAME, a run directory or a file, got {source!r}, where "
            "there is none"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as weights ({first_line(error)})") from None
    except Exception as error:  # on other files torch's reader fails in any way
        has_others = isinstance(error, pickle.UnpicklingError) and "Unsupported" in str(error)
        hint = " It holds more than tensors: save the network's state_dict()." if has_others else ""
        raise ValueError(
            f"{path} cannot be read as weights: it must be a safetensors file, or hold named "
            f"tensors that torch.save wrote.{hint}"
        ) from None
    for name in _WRAPPERS * 2:  # they come in any order
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    tensors = {}
    if isinstance(state, dict):
        tensors = {str(k): v for k, v in state.items() if isinstance(v, Tensor)}
    if not tensors:
        raise ValueError(f"{path} must hold named tensors, got {type(state).__name__}")
    return {name.removeprefix("module."): value for name, value in tensors.items()}


def copy_weights(model: nn.Module, source: str) -> Initialized:
    """Give a network the values of all tensors that have its names and shapes.

    What does not fit, such as a classifier for other classes, keeps its fresh values and is named
    in the log. Nothing is ever matched by its position. Checkpoints that the authors of MutualNet,
    GradAug and slimmable networks published get the names of timm's networks and ours first; of
    those all tensors but the classifier's must fit.

    Weights of a classification network go into the `counted_part` of a detector, which is its
    backbone's body.

    Args:
        model: Changed in place.
        source: As for `read_weights`.

    Raises:
        ValueError: If the source cannot be read, is a release that does not fit, less than half of
            the network's parameters, or of that part's, by their number of values, are found in
            it, or one of them has no plain values.
    """
    found = read_weights(source)
    state = model.state_dict()
    trained_from = _trained_from(source)
    if is_release(found):
        trained_from = 0.0
        try:
            found = renamed_release(found, state)
        except ValueError as error:
            raise ValueError(f"weights of {source} do not fit: {error}") from None
    copied = _fitting(state, found)
    sizes = {name: value.numel() for name, value in model.named_parameters()}
    part = getattr(model, "counted_part", "")
    if part and not any(name.startswith(f"{part}.") for name in copied):
        # A classification network's weights are for the part of a detector that is one.
        found = _renamed_for_part(state, found, part)
        copied = _fitting(state, found)
        sizes = {name: size for name, size in sizes.items() if name.startswith(f"{part}.")}
    left = [name for name in state if name not in set(copied)]
    share = sum(sizes.get(name, 0) for name in copied) / max(1, sum(sizes.values()))
    if share < 0.5:
        raise ValueError(
            f"weights of {source} must fit the network by name and shape, but fit only "
            f"{100 * share:.0f} % of it. The network has {shorten(list(state), 2)}; "
            f"the source has {shorten(list(found), 2)}."
        )
    odd = next((name for name in copied if not _has_plain_values(found[name])), None)
    if odd is not None:
        raise ValueError(
            f"weights of {source} must be dense tensors with values, not quantised, sparse or on "
            f"the meta device, got {odd}"
        )
    with torch.no_grad():
        for name in copied:
            state[name].copy_(found[name])
    logger.info(
        "%d of %d tensors from %s%s",
        len(copied),
        len(state),
        source,
        f"; new: {shorten(left)}" if left else "",
    )
    return Initialized(copied=tuple(copied), left=tuple(left), trained_from=trained_from)


def copy_own_norms(own_norms: nn.Module, source: str) -> None:
    """Give BN weights that every width has for itself the values that an earlier run has for them.

    A width is known by its channels. One that the run has not keeps its values, and a warning says
    how many do.

    Args:
        own_norms: A supernet's `OwnNorms`, whose channels are in the order of the source's. Changed
            in place.
        source: As for `read_weights`; nothing is to be had but from a run with such weights.

    Raises:
        ValueError: If the run's file of them is damaged.
    """
    folder = _run_folder(source)
    if folder is None or not (folder / NORMS).is_file():
        return
    try:
        theirs = load_file(whole_files(folder, [NORMS])[NORMS])
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{folder / NORMS} cannot be read ({first_line(error)})") from None
    state, widths = own_norms.state_dict(), _by_width(theirs)
    num_left = 0
    for mine in _by_width(state).values():
        shapes = {name: value.shape for name, value in mine.items()}
        same = [w for w in widths.values() if {n: v.shape for n, v in w.items()} == shapes]
        for name, value in mine.items() if same else ():
            value.copy_(same[0][name])
        num_left += not same
    if num_left:
        logger.warning(
            "%d of the widths have no BN weights of their own in %s: they start with those of its "
            "full width",
            num_left,
            source,
        )


def _by_width(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors of `OwnNorms` by their names, for each width's number."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        _, number, rest = name.split(".", 2)
        found.setdefault(number, {})[rest] = value
    return found


def _has_plain_values(value: Tensor) -> bool:
    return value.layout == torch.strided and not (value.is_quantized or value.is_meta)


def _fitting(state: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    return [n for n, v in state.items() if n in found and found[n].shape == v.shape]


def _renamed_for_part(
    state: Mapping[str, Tensor], found: Mapping[str, Tensor], part: str
) -> dict[str, Tensor]:
    """Tensors by their names in a part of a network.

    timm writes `features_0` for `features.0` where a network gives feature maps.
    """
    known = {name.replace("_", "."): value for name, value in found.items()}
    names = (name for name in state if name.startswith(f"{part}."))
    plain = {name: name.removeprefix(f"{part}.").replace("_", ".") for name in names}
    return {name: known[key] for name, key in plain.items() if key in known}


def _run_folder(source: str) -> Path | None:
    """Where a source may have more than weights, if it is a run; None if it is timm's."""
    if source.startswith("timm:"):
        return None
    path = Path(source).expanduser()
    return path.parent if path.name == WEIGHTS else path


def _trained_from(source: str) -> float | None:
    """The least share of its width that the source was trained at, by the recipe of its run."""
    folder = _run_folder(source)
    if folder is None:
        return 1.0
    try:
        space = read_recipe(folder / CONFIG).space
    except (ValueError, OSError):  # no run, or one of another version
        return None
    return space.width_range[0] / space.full_width_mult
