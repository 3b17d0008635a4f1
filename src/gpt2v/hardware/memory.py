"""Memory: what is surely too large for it, reuse of what a step frees, and imports."""

import ctypes
import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gpt2v.errors import Told, UserError, first_line
from gpt2v.messages import one_line, say

# Parameters of mallopt: https://man7.org/linux/man-pages/man3/mallopt.3.html
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4

# In messages about too little memory, of CUDA and MPS, of CUDA's libraries, and of CPUs.
_NO_MEMORY = (
    "out of memory",  # CUDA, MPS
    "_STATUS_ALLOC_FAILED",
    "can't allocate memory",
    "not enough memory",  # Windows
)


def keep_freed_memory() -> bool:
    """Let this process's allocator keep freed blocks of any size for reuse.

    By default glibc returns freed blocks of 32 MB and more to the kernel at once. On a CPU, logits
    and attention maps of the next step then need new pages, which the kernel fills with zeros.

    Returns:
        whether the allocator supports it.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # some C libraries lack it
    return bool(mallopt and mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine, or of a device, is too small."""
    if isinstance(error, RuntimeError):  # torch's own class of it is one, but not all it raises
        return any(words in str(error) for words in _NO_MEMORY)
    return isinstance(error, MemoryError)


@contextmanager
def enough_memory(where: str, advice: Callable[[], str]) -> Iterator[None]:
    """Turn too little memory in the block, of the machine or of a device, into one line.

    Args:
        where: begins the line.
        advice: returns its end, what to change.

    Raises:
        UserError: memory was too small. A process other than the first one of a machine prints its
            line itself, because the first one may have enough.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the tensors of the block
        line = f"{where}: out of memory ({one_line(first_line(error), 150)}); {advice()}"
        if os.environ.get("LOCAL_RANK", "0") == "0":
            raise UserError(line) from None
        say(line)  # at once: it is ended when the first one notices that it is alone
        raise Told(line) from None


@contextmanager
def importing() -> Iterator[None]:
    """Search for no garbage in this block, which imports torch or transformers.

    Imports make a million objects and hardly any garbage; they take a quarter less time so. Each
    later search for garbage would go through them again, for 0.2 to 0.4 s; they are left out.
    """
    was_on, n_modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > n_modules:
            gc.freeze()
        if was_on:
            gc.enable()


def check_fits(n_bytes: int, what: str) -> None:
    """Refuse what this machine's memory cannot hold.

    Args:
        what: the keys and the thing, for the message.

    Raises:
        UserError: `n_bytes` are more than the machine has.
    """
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows and some others cannot tell
        return
    if n_bytes > there:
        raise UserError(
            f"{what} would need {n_bytes / 2**30:,.0f} GiB of memory; this machine has "
            f"{there / 2**30:,.0f} GiB"
        )


def check_blocks_fit(n_blocks: int, width: int, what: str) -> None:
    """Refuse a transformer whose blocks alone are too large, in fp32, for this machine's memory.

    Args:
        n_blocks: number of blocks, each with MLPs four times as wide.
        width: of the hidden state.
        what: the keys, for the message.

    Raises:
        UserError: it is too large.
    """
    check_fits(4 * 12 * n_blocks * width**2, what)
