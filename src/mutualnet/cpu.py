"""Settings of the process that make training fast; the commands make them, importing never does."""

from __future__ import annotations

import ctypes
import logging
import platform
import resource
import sys

import torch

logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Options of glibc's mallopt()."""


def prepare_cpu() -> None:
    """Make the settings that every command computes with, as long as the process lives."""
    flush_denormals()
    tune_allocator()


def flush_denormals() -> bool:
    """Let the CPU treat numbers below 1e-38 as zero, in every thread, and check that it does.

    Small divergences make gradients of such numbers, which slow a CPU several times. The flag is
    inherited by threads when they are made, so this must come before the first parallel operation.

    Returns:
        Whether every thread flushes.
    """
    if not torch.set_flush_denormal(True):
        logger.info("this processor does not flush denormal numbers")
        return False
    # Large enough that every thread of the pool gets a share.
    tiny = torch.full((torch.get_num_threads() * 2**17,), 1e-38) * 1e-3
    if bool((tiny != 0).any()):
        logger.warning(
            "denormal numbers are kept by some threads, which makes training slow: something "
            "computed in parallel before. Set them aside first thing in the process."
        )
        return False
    return True


def tune_allocator() -> bool:
    """Let glibc keep large freed buffers, which it otherwise returns and faults in again each step.

    Returns:
        Whether the C library took the settings; others than glibc have none.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def peak_memory_mib() -> float:
    """Most memory the process has held so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
