"""The peak of matrix products: with large matrices on cards, and beside what is published."""

import pytest
import torch

from gpt2v.hardware import peak
from gpt2v.hardware.peak import matmul_peak, published_peak

CPU, CUDA = map(torch.device, ("cpu", "cuda"))
H100, T4 = "NVIDIA H100 80GB HBM3", "Tesla T4"


@pytest.mark.parametrize(
    ("name", "dtype", "tf32", "tflops"),
    [
        (H100, torch.bfloat16, False, 989.4),
        (H100, torch.float16, False, 989.4),
        (H100, torch.float32, False, 67),
        (H100, torch.float32, True, 494.7),
        ("NVIDIA H200", torch.bfloat16, False, 989.4),
        ("NVIDIA H100 PCIe", torch.bfloat16, False, 756),
        ("NVIDIA A100-SXM4-40GB", torch.bfloat16, False, 312),
        ("NVIDIA A100 80GB PCIe", torch.float32, True, 156),
        ("NVIDIA L4", torch.bfloat16, False, 121),
        ("NVIDIA L40S", torch.bfloat16, False, 362),
        ("NVIDIA A10G", torch.bfloat16, False, 70),
        (T4, torch.float16, False, 65),
        (T4, torch.float32, False, 8.1),
        (T4, torch.bfloat16, False, None),
        (T4, torch.float32, True, None),
        ("Tesla V100-SXM2-16GB", torch.float16, False, 125),
        ("NVIDIA GeForce RTX 4090", torch.bfloat16, False, 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", torch.bfloat16, False, None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", torch.bfloat16, False, None),
        ("Some card", torch.bfloat16, False, None),
    ],
)
def test_what_is_published(monkeypatch, name, dtype, tf32, tflops):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    found = published_peak(CUDA, dtype, tf32)
    assert found == (None if tflops is None else pytest.approx(tflops * 1e12))
    assert published_peak(CPU, dtype, tf32) is None


@pytest.fixture
def card(monkeypatch):
    """A card that has memory for matrices of `card.largest`; the products run on the CPU."""

    class Card:
        largest = 10**9
        sides: list = []  # noqa: RUF012
        calls: list = []  # noqa: RUF012

    def measured(device, dtype, side, repetitions):
        Card.sides.append(side)
        if side > Card.largest:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return float(side)

    Card.sides, Card.calls = [], []
    monkeypatch.setattr(peak, "_measured", measured)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: Card.calls.append("empty"))
    monkeypatch.setattr(
        torch.cuda, "reset_peak_memory_stats", lambda device: Card.calls.append("reset")
    )
    matmul_peak.cache_clear()
    yield Card
    matmul_peak.cache_clear()


def test_a_card_multiplies_large_matrices_once_and_gives_the_memory_back(card):
    assert matmul_peak(CUDA, torch.bfloat16) == matmul_peak(CUDA, torch.bfloat16) == 8192
    assert card.sides == [8192]
    assert card.calls == ["empty", "reset"]
    matmul_peak(CUDA, torch.float32)
    matmul_peak(CUDA, torch.float32, tf32=True)
    assert card.sides == [8192] * 3


def test_a_card_with_little_memory_multiplies_smaller_ones(card):
    card.largest = 3000
    assert matmul_peak(CUDA, torch.bfloat16) == 2048
    assert card.sides == [8192, 4096, 2048]


def test_a_cpu_multiplies_as_small_ones_as_before(card):
    matmul_peak(CPU, torch.float32)
    assert card.sides == [1536]
    assert not card.calls


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_are_random_and_the_global_generator_is_left_alone(monkeypatch, dtype):
    seen = []
    monkeypatch.setattr(peak, "_seconds", lambda multiply, a: seen.append(a) or 2.0)
    state = torch.random.get_rng_state()
    assert peak._measured(CPU, dtype, 8, 2) == 8**3
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(seen) == 6
    assert seen[0].dtype == dtype
    assert len(seen[0].unique()) > 30
