"""Random numbers as functions of a place: the same seed, purpose and position give the same ones.

Nothing here has a state that a resumed run would have to restore, and no number depends on which
process or worker asks for it.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Purpose(IntEnum):
    """What random numbers are for; two purposes never share any."""

    ORDER = 1
    """Order of the images in an epoch."""
    AUGMENT = 2
    """Augmentation of one image in one epoch."""
    DRAW = 3
    """Sub-networks of a step."""
    STEP = 4
    """All that a step draws from torch's own generator, such as dropout."""
    CALIBRATION = 5
    """Order and augmentation of the images behind BN statistics."""
    WEIGHTS = 6
    """Initial weights."""
    LABEL_NOISE = 7
    """Which labels are wrong."""
    RACE = 8
    """Order in which a race between sub-networks takes the select images."""


def generator(seed: int, purpose: Purpose, *position: int) -> np.random.Generator:
    """A generator for one purpose at one position.

    Args:
        seed: Of the run, >= 0.
        purpose: What for.
        position: Whole numbers >= 0, such as an epoch or a step.
    """
    return np.random.default_rng([seed, int(purpose), *position])


def seed_of(seed: int, purpose: Purpose, *position: int) -> int:
    """A seed in [0, 2**63) for another library's generator."""
    return int(_state(seed, purpose, *position) >> np.uint64(1))


def sample_keys(seed: int, purpose: Purpose, epoch: int, indices: np.ndarray) -> np.ndarray:
    """One key per image: what is drawn for it depends on nothing else.

    Args:
        seed: Of the run, >= 0.
        purpose: What for.
        epoch: Another one gives other keys.
        indices: (N) whole numbers that tell the images apart.

    Returns:
        (N) uint64.
    """
    base = _state(seed, purpose, epoch)
    return _mix(base + (indices.astype(np.uint64) + np.uint64(1)) * _GOLDEN)


def uniforms(keys: np.ndarray, first: int, count: int) -> np.ndarray:
    """Numbers of each key's own sequence.

    Args:
        keys: (N) uint64.
        first: Position in the sequence to start at, >= 0.
        count: How many for each key.

    Returns:
        (N, count) float64 in [0, 1).

    Source: Steele et al. 2014, https://doi.org/10.1145/2660193.2660195 (SplitMix64).
    """
    steps = np.arange(first + 1, first + count + 1, dtype=np.uint64) * _GOLDEN
    return (_mix(keys[:, None] + steps) >> np.uint64(11)) * 2.0**-53


def _state(seed: int, purpose: Purpose, *position: int) -> np.uint64:
    return np.random.SeedSequence([seed, int(purpose), *position]).generate_state(1, np.uint64)[0]


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
