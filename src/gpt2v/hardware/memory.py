"""Memory on Linux: the next step reuses the memory that a step frees."""

import ctypes
import sys

# Parameters of mallopt: https://man7.org/linux/man-pages/man3/mallopt.3.html
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


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
