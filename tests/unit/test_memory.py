"""What one batch has freed, the next gets without a page of it being cleared."""

import ctypes
import platform
import subprocess
import sys

import pytest

from lotterylib.fast.cpu import keep_freed_memory

FAULTS = """
import resource
import torch
from lotterylib.fast.cpu import keep_freed_memory

if {kept}:
    keep_freed_memory()


def batch():
    return [torch.ones(10_000_000) for _ in range(3)]  # 40 MB each, which the next wants again


for _ in range(3):
    batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    batch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_kept_memory_is_touched_for_the_first_time_once():
    faults = [
        int(subprocess.check_output([sys.executable, "-c", FAULTS.format(kept=kept)], text=True))
        for kept in (False, True)
    ]
    assert faults[0] > 10 * 120e6 / 4096 / 2
    assert faults[1] < faults[0] / 10, faults


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_other_c_libraries_are_left_alone(error, monkeypatch):
    def fail(_name):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", fail)
    keep_freed_memory()
