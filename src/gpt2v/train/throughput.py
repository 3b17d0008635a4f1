"""How fast a training runs: samples and tokens per second, share of the matmul peak, memory."""

import sys
import time

import torch

from gpt2v.hardware.peak import matmul_peak, published_peak
from gpt2v.hardware.precision import in_tf32


def memory_mb(device: torch.device) -> float:
    """Memory in MB: the most so far that tensors took on a CUDA device, what Metal holds for this
    process now on MPS, which has no record of the most, and else the most of the process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if device.type == "mps":
        return torch.mps.driver_allocated_memory() / 1e6
    try:
        import resource  # not on Windows
    except ImportError:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


class Meter:
    """Measures the work per second between two lines of the log, and memory.

    Args:
        device: of this process.
        dtype: of matrix products.
        processes: number of processes, each with such a device.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, processes: int = 1) -> None:
        self._device = device
        tf32 = in_tf32()
        self._peak = matmul_peak(device, dtype, tf32) * processes
        published = published_peak(device, dtype, tf32)
        self._peaks: dict[str, float | None] = {  # of one device; told once
            "peak_tflops": self._peak / processes / 1e12,
            "published_tflops": published and published / 1e12,
        }
        self._most_memory = 0.0
        self._since = time.perf_counter()
        self._samples = self._tokens = 0
        self._flops = 0.0

    def add(self, samples: int, tokens: int, flops: float) -> None:
        """Add the work of one step, by all processes together."""
        self._samples += samples
        self._tokens += tokens
        self._flops += flops

    def pause(self, seconds: float) -> None:
        """Do not count this time (of a validation or a save)."""
        self._since += seconds

    def read(self) -> dict[str, float | None]:
        """Rates since the last call, and the most memory in MB.

        `mfu` is the share of the measured peak of all processes. The first call also has the peaks
        of one device in TFLOP/s, `peak_tflops` as measured and `published_tflops` (none: unknown).
        """
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        self._most_memory = max(self._most_memory, memory_mb(self._device))
        read: dict[str, float | None] = {
            "samples_per_s": self._samples / seconds,
            "tokens_per_s": self._tokens / seconds,
            "mfu": self._flops / seconds / self._peak,
            "memory_mb": round(self._most_memory, 1),
            **self._peaks,
        }
        self._since, self._samples, self._tokens, self._flops = now, 0, 0, 0.0
        self._peaks = {}
        return read
