"""Freed memory is reused, and what imports make is not searched for garbage."""

import gc
import importlib
import platform
import subprocess
import sys
import weakref

import pytest
import torch

from gpt2v.errors import UserError
from gpt2v.hardware.memory import enough_memory, importing, keep_freed_memory

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


# ---- too little memory -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nMore"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
        MemoryError(),
    ],
    ids=lambda error: str(error)[:10],
)
def test_too_little_memory_is_one_line(error, capsys):
    says = r"^lm: at step 3: out of memory \([^\n]+\); take less$"
    with pytest.raises(UserError, match=says), enough_memory("lm: at step 3", lambda: "take less"):
        raise error
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory")])
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error), match=str(error)), enough_memory("x", lambda: "y"):
        raise error


def test_what_was_computed_is_freed():
    """The error, which a notebook keeps, would hold it."""
    kept = []

    def work():
        large = torch.zeros(3)
        kept.append(weakref.ref(large))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(UserError) as caught, enough_memory("x", lambda: "y"):
        work()
    assert kept[0]() is None
    assert caught.value.__suppress_context__


def test_another_process_than_the_first_says_it_itself(capsys, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(UserError), enough_memory("lm: at step 3", lambda: "take less"):
        raise MemoryError
    assert (
        capsys.readouterr().err == "gpt2v: lm: at step 3: out of memory (MemoryError); take less\n"
    )
