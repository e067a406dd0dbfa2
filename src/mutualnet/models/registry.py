"""Build a network from its name, with fresh weights and without any download."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import timm
import torchvision
from torch import nn

from mutualnet.messages import first_line
from mutualnet.models import cifar, cifar_densenet, cifar_resnet, detection, scaled, video
from mutualnet.user_functions import find_function

OWN_MODELS: dict[str, Callable[..., nn.Module]] = {
    "densenet40_12": cifar_densenet.densenet40_12,
    "faster_rcnn": detection.faster_rcnn,
    "mask_rcnn": detection.mask_rcnn,
    "mobilenet_v1_cifar": cifar.mobilenet_v1_cifar,
    "mobilenet_v1_cifar_8x8": cifar.mobilenet_v1_cifar_8x8,
    "mobilenet_v1_scaled": scaled.mobilenet_v1_scaled,
    "resnet20_cifar": cifar_resnet.resnet20_cifar,
    "resnet32_cifar": cifar_resnet.resnet32_cifar,
    "resnet56_cifar": cifar_resnet.resnet56_cifar,
    "resnet110_cifar": cifar_resnet.resnet110_cifar,
    "resnet164_cifar": cifar_resnet.resnet164_cifar,
    "retinanet": detection.retinanet,
    "slow_r50": video.Slow,
    "slowfast_r50": video.SlowFast,
    "wrn16_1": cifar.wrn16_1,
    "wrn16_2": cifar.wrn16_2,
    "wrn16_4": cifar.wrn16_4,
    "wrn28_4": cifar.wrn28_4,
    "wrn28_10": cifar.wrn28_10,
    "x3d": video.X3D,
}
"""Networks of this package, which need no prefix."""


def names_function(spec: str) -> bool:
    """Whether a name is `package.module:function`, and not one that a library knows."""
    library, separator, _ = spec.rpartition(":")
    return bool(separator) and library not in ("timm", "torchvision")


def create_model(
    spec: str, /, *, num_classes: int, in_channels: int = 3, any_kind: bool = False, **kwargs: Any
) -> nn.Module:
    """Build an untrained network by name.

    Args:
        spec: `timm:NAME`, `torchvision:NAME` (a classification network), `package.module:function`
            for one of your own, called with num_classes= and in_channels= if it takes them, or a
            bare NAME, which is looked up among this package's networks first and then in timm.
        num_classes: Outputs of the classifier, >= 1.
        in_channels: Channels of the image. torchvision has no such argument: its first
            convolution is replaced.
        any_kind: Also take torchvision's networks for segmentation, detection and video.
        **kwargs: Passed on to the network's own constructor.

    Raises:
        ValueError: If no network has that name, or if pretrained weights are asked for.
    """
    for name, count in (("num_classes", num_classes), ("in_channels", in_channels)):
        if not 1 <= count < 2**31:
            what = ">= 1" if count < 1 else "below 2**31"
            raise ValueError(f"{name} must be {what}, got {count!s:.80}")
    for name in ("pretrained", "weights", "weights_backbone", "checkpoint_path"):
        if kwargs.pop(name, None):
            raise ValueError(
                f"create_model never reads or downloads weights, got {name}. In a recipe "
                "model.init names them; elsewhere call the network's load_state_dict."
            )
    try:
        return _create(spec, num_classes, in_channels, any_kind, kwargs)
    except Exception as error:  # constructors refuse arguments in any way
        if not kwargs or isinstance(error, ValueError):
            raise
        raise ValueError(
            f"network {spec} must take the arguments {', '.join(kwargs)}, got "
            f"{type(error).__name__}: {first_line(error)}"
        ) from None


def _create(
    spec: str, num_classes: int, in_channels: int, any_kind: bool, kwargs: dict[str, Any]
) -> nn.Module:
    library, separator, name = spec.rpartition(":")
    if names_function(spec):
        return _call_own_function(library, name, num_classes, in_channels, kwargs)
    if not separator and name in OWN_MODELS:
        return OWN_MODELS[name](num_classes, in_channels, **kwargs)
    if library == "torchvision":
        return _create_torchvision_model(name, num_classes, in_channels, any_kind, kwargs)
    # timm would look names such as hf-hub:... up on a server, so only its own list is let through.
    if not timm.is_model(name):
        known = timm.list_models(include_tags=False)
        known = [f"timm:{model}" for model in known] if separator else [*OWN_MODELS, *known]
        raise _unknown(spec, known)
    return timm.create_model(
        name, pretrained=False, num_classes=num_classes, in_chans=in_channels, **kwargs
    )


def _call_own_function(
    module: str, function: str, num_classes: int, in_channels: int, kwargs: dict[str, Any]
) -> nn.Module:
    """Import a user's function and call it."""
    spec = f"{module}:{function}"
    try:
        build = find_function(spec)
    except ImportError as error:
        raise ValueError(
            "a network must be timm:NAME, torchvision:NAME, a bare NAME or package.module:function "
            f"that can be imported, got {spec!r} ({error})"
        ) from None
    given: dict[str, Any] = {"num_classes": num_classes, "in_channels": in_channels}
    try:
        known = signature(build).parameters
        if all(parameter.kind != Parameter.VAR_KEYWORD for parameter in known.values()):
            given = {name: value for name, value in given.items() if name in known}
        signature(build).bind(**given, **kwargs)
    except TypeError as error:
        raise ValueError(
            f"{spec} must take all of model.kwargs, and may take num_classes= and in_channels=, "
            f"but {error}"
        ) from None
    except ValueError:
        pass  # functions of compiled modules have no signature
    model = build(**given, **kwargs)
    if not isinstance(model, nn.Module):
        raise ValueError(f"{spec} must return an nn.Module, got {type(model).__name__}")
    return model


def _create_torchvision_model(
    name: str, num_classes: int, in_channels: int, any_kind: bool, kwargs: dict[str, Any]
) -> nn.Module:
    models = torchvision.models
    known = models.list_models(module=models)
    if any_kind:
        known += [
            name
            for room in (models.segmentation, models.detection, models.video)
            for name in models.list_models(module=room)
        ]
    if name not in known:
        raise _unknown(f"torchvision:{name}", [f"torchvision:{model}" for model in known])
    if name in ("googlenet", "inception_v3"):
        # Their default draws weights too, but warns that the default will change.
        kwargs = {"init_weights": True, **kwargs}
    room = models.get_model_builder(name).__module__
    if ".segmentation" in room or ".detection" in room:  # their backbone is pretrained by default
        kwargs = {"weights_backbone": None, **kwargs}
    model = models.get_model(name, weights=None, num_classes=num_classes, **kwargs)
    if in_channels != 3:
        _replace_first_convolution(model, in_channels)
    return model


def _replace_first_convolution(model: nn.Module, in_channels: int) -> None:
    """Put a convolution for `in_channels` in place of the one that reads the RGB image."""
    path, old = next(
        ((path, m) for path, m in model.named_modules() if isinstance(m, nn.Conv2d)), ("", None)
    )
    if old is None:
        raise ValueError(
            f"in_channels must be 3 for this network, got {in_channels}: it has no convolution "
            "over images that could be replaced."
        )
    if old.in_channels != 3:
        raise ValueError(
            f"in_channels must be 3 for this network, got {in_channels}: its first convolution "
            f"{path!r} reads {old.in_channels} channels and cannot be the one to replace."
        )
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    model.set_submodule(path, new)


def _unknown(spec: str, known: list[str]) -> ValueError:
    close = difflib.get_close_matches(spec, known, n=5, cutoff=0.5)
    hint = f"Did you mean {', '.join(close)}?" if close else f"Ours are {', '.join(OWN_MODELS)}."
    return ValueError(f"no network is called {spec!r}. {hint}")
