"""Rates, memory, and the peaks that `mfu` is a share of."""

import json

import pytest
import torch

from gpt2v.hardware import peak
from gpt2v.train import throughput
from gpt2v.train.loop import fit
from gpt2v.train.throughput import Meter, memory_mb
from helpers import toy_task, train_config

CPU, CUDA, MPS = map(torch.device, ("cpu", "cuda", "mps"))


@pytest.fixture
def clock(monkeypatch):
    """The time, which only the test lets pass."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(throughput.time, "perf_counter", lambda: Clock.now)
    monkeypatch.setattr(throughput, "memory_mb", lambda device: 0.0)
    return Clock


@pytest.fixture
def peaks(monkeypatch):
    """What was asked for; the measured peak is 2 TFLOP/s, in TF32 4."""
    asked = []

    def measured(device, dtype, tf32):
        asked.append((device, dtype, tf32))
        return 4e12 if tf32 else 2e12

    monkeypatch.setattr(throughput, "matmul_peak", measured)
    return asked


def test_mfu_is_a_share_of_the_measured_peak_of_all_processes(clock, peaks):
    meter = Meter(CPU, torch.float32, processes=4)
    meter.add(samples=10, tokens=300, flops=8e12)
    clock.now = 5.0
    meter.pause(3.0)
    read = meter.read()
    assert (read["samples_per_s"], read["tokens_per_s"], read["mfu"]) == (5.0, 150.0, 0.5)
    assert read["peak_tflops"] == 2.0
    assert peaks == [(CPU, torch.float32, False)]


def test_the_published_peak_is_told_beside_the_measured_one_and_once(clock, peaks, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA L4")
    meter = Meter(CUDA, torch.bfloat16)
    first, second = meter.read(), meter.read()
    assert (first["peak_tflops"], first["published_tflops"]) == (2.0, pytest.approx(121))
    assert not {"peak_tflops", "published_tflops"} & set(second)


def test_in_tf32_both_peaks_are_those_of_tf32(clock, peaks, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA L4")
    monkeypatch.setattr(throughput, "in_tf32", lambda: True)
    read = Meter(CUDA, torch.float32).read()
    assert (read["peak_tflops"], read["published_tflops"]) == (4.0, pytest.approx(60))


def test_memory_is_that_of_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3e6)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 2e6)
    assert (memory_mb(CUDA), memory_mb(MPS)) == (3.0, 2.0)
    assert memory_mb(CPU) > 50  # of this process, with torch in it


def test_the_most_memory_is_kept_where_the_device_does_not(clock, peaks, monkeypatch):
    seen = iter([3.0, 7.0, 5.0])
    monkeypatch.setattr(throughput, "memory_mb", lambda device: next(seen))
    meter = Meter(MPS, torch.float32)
    assert [meter.read()["memory_mb"] for _ in range(3)] == [3.0, 7.0, 7.0]


def test_the_log_tells_the_peaks_in_its_first_line(tmp_path, monkeypatch):
    monkeypatch.setattr(peak, "_measured", lambda *_: 3e12)
    peak.matmul_peak.cache_clear()
    fit(toy_task(), train_config(log_every=1), 3, tmp_path, "test")
    peak.matmul_peak.cache_clear()
    read = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in read if "loss" in line]
    assert [line.get("peak_tflops") for line in logged] == [3.0, None, None]
    assert logged[0]["published_tflops"] is None
    assert all(line["memory_mb"] > 50 for line in logged)
