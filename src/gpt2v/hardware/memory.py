"""Memory on Linux: what a step frees is kept for the next one."""

import ctypes
import sys

# Parameters of mallopt: https://man7.org/linux/man-pages/man3/mallopt.3.html
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let this process's allocator keep freed blocks of any size; true where it can.

    glibc gives blocks of 32 MB and more back at once. Those of a step on a CPU (logits, attention
    maps) then come back as new pages, each zeroed by the kernel at its first touch.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in every C library
    return bool(mallopt and mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
