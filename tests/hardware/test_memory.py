"""Freed memory is reused: allocating the same block again needs no new pages."""

import platform
import subprocess
import sys

import pytest

from gpt2v.hardware.memory import keep_freed_memory

SCRIPT = """
import resource, sys
import numpy as np
from gpt2v.hardware.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        np.ones(2**24).sum()  # 128 MB: 32,768 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
assert keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc's allocator"
)
def test_large_blocks_are_used_again():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    by_default, with_reuse = map(int, done.stdout.split())
    assert with_reuse < by_default / 4


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
