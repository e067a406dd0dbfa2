"""Functions of users, by name: `package.module:function`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["call_function", "find_function"]


def find_function(spec: str) -> Callable[..., Any]:
    """Import a function.

    Args:
        spec: `package.module:function`.

    Raises:
        ImportError: If there is none.
    """
    module, _, name = spec.partition(":")
    try:
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
    except (AttributeError, TypeError, ValueError) as error:
        raise ImportError(str(error)) from None


def call_function(spec: str, what: str) -> Any:
    """Import a function that takes no arguments, and call it.

    Args:
        spec: `package.module:function`.
        what: What it is for, which begins the error's text, such as `task`.

    Raises:
        ValueError: If there is none, or it refuses.
    """
    try:
        function = find_function(spec)
    except ImportError as error:
        raise ValueError(f"{what} {spec!r} cannot be imported ({error})") from None
    try:
        return function()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{what} {spec!r} fails ({type(error).__name__}: {error})") from None
