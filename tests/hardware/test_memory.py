"""Freed memory is reused, and what imports make is not searched for garbage."""

import gc
import importlib
import platform
import subprocess
import sys

import pytest

from gpt2v.hardware.memory import importing, keep_freed_memory

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


def test_what_an_import_makes_is_left_out_of_later_searches(tmp_path, monkeypatch):
    (tmp_path / "heavy_module.py").write_text("objects = [[i] for i in range(50_000)]")
    monkeypatch.syspath_prepend(tmp_path)
    gc.unfreeze()
    try:
        with importing():
            assert not gc.isenabled()
        assert (gc.isenabled(), gc.get_freeze_count()) == (True, 0)  # nothing was imported
        with importing():
            importlib.import_module("heavy_module")
        assert gc.isenabled()
        assert gc.get_freeze_count() >= 50_000
    finally:
        gc.unfreeze()
        sys.modules.pop("heavy_module", None)
