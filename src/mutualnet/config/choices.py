"""Settings that take one of a few words."""

from __future__ import annotations


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a word that a setting does not know.

    Raises:
        ValueError: If it is none of those.
    """
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
