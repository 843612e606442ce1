"""Freed blocks stay with the process."""

import platform
import subprocess
import sys

import pytest

from setn_lab.memory import keep_freed_blocks

# In a process of its own: the setting cannot be taken back. Prints the page faults of the tenth of ten equal tensors.
FAULTS = """
import resource, sys
import torch
from setn_lab.memory import keep_freed_blocks

if sys.argv[1] == "keep":
    keep_freed_blocks()
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(40 * 2**20 // 4)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


def faults(setting: str) -> int:
    result = subprocess.run([sys.executable, "-c", FAULTS, setting], check=True, capture_output=True, text=True)
    return int(result.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_second_tensor_of_the_same_size_takes_the_first_ones_pages():
    assert faults("keep") < 100
    assert faults("leave") > 1000  # 40 MiB are 10,240 pages, or fewer where the kernel hands out larger ones


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_are_left_alone(monkeypatch, system):
    monkeypatch.setattr(sys, "platform", system)
    assert not keep_freed_blocks()
