"""How fast a training runs: samples and tokens per second, share of the matmul peak, memory."""

import functools
import sys
import time

import torch

from gpt2v.hardware.onednn import product

_SIDE = 1536  # side of the square matrices whose product is timed


@functools.cache
def matmul_peak(device: torch.device, dtype: torch.dtype, repetitions: int = 3) -> float:
    """Floating-point operations per second of a large matrix product, the best of several.

    Measured once per process, because it takes longer than some small trainings.
    """
    a = torch.ones(_SIDE, _SIDE, device=device, dtype=dtype)
    best = 0.0
    for multiply in (product, torch.mm):  # oneDNN's if it is available, and torch's own
        for _ in range(repetitions + 1):  # the first one warms up
            begin = time.perf_counter()
            float(multiply(a, a)[0, 0])  # waits for the device
            best = max(best, 2 * _SIDE**3 / (time.perf_counter() - begin))
    return best


def memory_mb(device: torch.device) -> float:
    """Peak memory so far in MB: of the GPU, or of the process on other devices."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource  # not on Windows
    except ImportError:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


class Meter:
    """Measures the work per second between two lines of the log.

    Args:
        peak: floating-point operations per second of all processes together at best.
    """

    def __init__(self, peak: float) -> None:
        self.peak = peak
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

    def read(self) -> dict[str, float]:
        """Rates since the last call; `mfu` is the share of `peak`."""
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        rates = {
            "samples_per_s": self._samples / seconds,
            "tokens_per_s": self._tokens / seconds,
            "mfu": self._flops / seconds / self.peak,
        }
        self._since, self._samples, self._tokens, self._flops = now, 0, 0, 0.0
        return rates
