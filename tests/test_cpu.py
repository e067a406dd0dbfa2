"""Denormals flushed and large buffers kept, in every thread."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from mutualnet.cpu import flush_denormals, peak_memory_mib


def test_denormals_are_flushed_in_every_thread():
    assert flush_denormals() == torch.set_flush_denormal(True)
    assert peak_memory_mib() > 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no settings")
def test_large_freed_buffers_are_kept_once_the_allocator_is_tuned():
    code = """
import resource, torch
from mutualnet.cpu import tune_allocator
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.full((2**24,), 1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
torch.set_num_threads(1)
untuned = faults()
assert tune_allocator()
tuned = min(faults() for _ in range(4))
assert 10 * tuned < untuned, (untuned, tuned)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
