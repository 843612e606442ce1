"""Freed blocks stay with the process."""

import platform
import subprocess
import sys

import pytest

from setn_lab.compute.device import keep_freed_blocks

# In a process of its own: the setting cannot be taken back. Prints the page faults of fifty equal tensors together: the
# first few are new even where blocks are kept, since an aligned block needs a little more room than the last one left.
FAULTS = """
import resource, sys
import torch
from setn_lab.compute.device import keep_freed_blocks

if sys.argv[1] == "keep":
    keep_freed_blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    torch.ones(40 * 2**20 // 4)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(setting: str) -> int:
    result = subprocess.run([sys.executable, "-c", FAULTS, setting], check=True, capture_output=True, text=True)
    return int(result.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_tensors_of_the_same_size_take_the_pages_of_those_before():
    assert faults("keep") < faults("leave") / 2


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_are_left_alone(monkeypatch, system):
    monkeypatch.setattr(sys, "platform", system)
    assert not keep_freed_blocks()
