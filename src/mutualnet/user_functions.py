"""Functions of users, by name: `package.module:function`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def find_function(spec: str) -> Callable[..., Any]:
    """Import a function. Where nothing else has its module, the folder of work is looked in.

    Args:
        spec: `package.module:function`.

    Raises:
        ImportError: If there is none.
    """
    module, _, name = spec.partition(":")
    package = module.partition(".")[0]
    try:
        if package and importlib.util.find_spec(package) is None:
            # Not before: libraries that look for what they can do without would find a stranger's
            # files, for one who works in his folder.
            sys.path.append(str(Path.cwd()))
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
    except ImportError:
        raise
    except Exception as error:  # a user's module raises anything
        raise ImportError(_reason(error)) from None


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
    except Exception as error:  # so does a user's function
        raise ValueError(f"{what} {spec!r} fails ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    """What went wrong, and where."""
    text = f"{type(error).__name__}: {str(error).strip()}"
    own = Path(__file__).parent
    frames = traceback.extract_tb(error.__traceback__)
    places = [
        f"{Path(frame.filename).name} line {frame.lineno}"
        for frame in frames
        if own not in Path(frame.filename).parents and not frame.filename.startswith("<frozen")
    ]
    return f"{text}, {places[-1]}" if places else text
