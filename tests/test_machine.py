"""What the machine is said to do is measured, and settings that would cost accuracy are refused."""

import subprocess
import sys

import pytest
import torch

from distilnb.evidence.records import Stopwatch, new_record
from distilnb.machine import device
from distilnb.machine.device import (
    EXACT,
    applied,
    fast_bf16,
    memory_use,
    peak_memory,
    probe,
    use_fast_settings,
    write_rate,
)

CPU = torch.device("cpu")


def test_probing_leaves_everything_as_it_was():
    before = torch.get_float32_matmul_precision()
    settings = probe()
    assert torch.get_float32_matmul_precision() == before
    assert settings["matmul_precision"] in (before, "medium")
    assert settings["probed"]["highest"]["error"] < EXACT and settings["probed"]["highest"]["rate"] > 0


@pytest.mark.parametrize("error, rate, chosen", [(2e-3, 4, "highest"), (1e-6, 4, "medium"), (1e-6, 1.05, "highest")])
def test_a_faster_way_is_taken_only_where_it_is_exact(monkeypatch, error, rate, chosen):
    """bf16 behind a float32 product is refused however fast; a gain of 5 % is not worth a difference."""

    def medium() -> bool:
        return torch.get_float32_matmul_precision() == "medium"

    monkeypatch.setattr(device, "matmul_error", lambda: error if medium() else 2e-7)
    monkeypatch.setattr(device, "matmul_rate", lambda *_, **__: 1e9 * (rate if medium() else 1))
    assert probe()["matmul_precision"] == chosen


def test_settings_are_on_inside_and_off_again():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(KeyError), applied({"matmul_precision": "medium", "keep_memory": False}):
        assert torch.get_float32_matmul_precision() == "medium"
        raise KeyError
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_kept_memory_is_not_faulted_in_again():
    """Large tensors made and dropped, in a process of its own: with the setting on, none of their pages is new."""
    program = """
import resource, torch
from distilnb.machine import device
for keep in (False, True):
    with device.applied({"matmul_precision": "highest", "keep_memory": keep}):
        for _ in range(12):  # the heap finds its shape
            torch.zeros(2**24)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(3):
            torch.zeros(2**24)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    off, on = map(int, done.stdout.split())
    assert on < off / 3 or off == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_kept_memory_is_returned_when_it_is_asked_for():
    """160 MB in small parts, of which the last is still in use: in a process of its own."""
    program = """
import torch
from distilnb.machine import device
with device.applied({"matmul_precision": "highest", "keep_memory": True}):
    parts = [torch.ones(2**18) for _ in range(160)]
    last = parts[-1]
    del parts
    before, _ = device.memory_use(device.CPU)
    device.release_memory()
    print(before - device.memory_use(device.CPU)[0])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout) > 120e6


@pytest.mark.slow
@pytest.mark.skipif(not fast_bf16(), reason="oneDNN makes no kernels of note for this processor")
def test_memory_grows_little_with_lengths_that_do_not_come_again(monkeypatch):
    """A command, in a process of its own, multiplies thousands of shapes; by itself oneDNN keeps a thousand."""
    program = """
import distilnb.cli, torch
from distilnb.machine.device import memory_use
layers = [torch.nn.Linear(256, 256 + 16 * i, dtype=torch.bfloat16) for i in range(8)]
def multiply(lengths):
    for length in lengths:
        for layer in layers:
            layer(torch.zeros(length, 256, dtype=torch.bfloat16))
    return memory_use(torch.device("cpu"))[0]
with torch.inference_mode():
    print(-multiply(range(100, 300)) + multiply(range(300, 500)))
"""
    grown = []
    for capacity in ("1024", None):
        monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
        if capacity:
            monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", capacity)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
        grown.append(int(done.stdout))
    assert grown[1] < 0.5 * grown[0]


def test_peak_memory_is_a_high_water_mark():
    before, _ = memory_use(CPU)
    held = torch.ones(2**27)  # 512 MiB, more than the heap may hold in reserve
    now, peak = memory_use(CPU)
    assert min(now, peak) > before + 2**25
    del held
    assert peak_memory() > before + 2**25


def test_write_rate_needs_no_folder_and_leaves_nothing(tmp_path):
    assert write_rate(tmp_path / "not" / "there", size=1000) > 0
    assert not list(tmp_path.iterdir())


def test_settling_leaves_the_settings_on_and_says_them(monkeypatch):
    before, settings = torch.get_float32_matmul_precision(), {"matmul_precision": "medium", "keep_memory": False}
    monkeypatch.setattr(device, "probe", lambda: settings)
    monkeypatch.delenv("DISTILNB_FLOAT32", raising=False)
    try:
        assert use_fast_settings(CPU) == settings and torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert use_fast_settings(torch.device("cuda")) == {}


@pytest.mark.parametrize("flag, name", device.SHARDING.items())
def test_a_launcher_that_splits_the_model_is_refused_at_once(monkeypatch, flag, name):
    monkeypatch.setenv(flag, "true")
    with pytest.raises(ValueError, match=f"{name}.*launch/eight_gpus.yaml"):
        device.make_accelerator("no", cpu=True)


def test_a_run_on_the_cpu_is_no_run_of_the_gpu_beside_it(monkeypatch):
    """Its record names the GPU only where accelerate uses it, or where nothing says what is used."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "H200")
    assert device.describe_device()["gpu"] == "H200"
    assert device.describe_device(CPU)["gpu"] is None
    device.make_accelerator("no", cpu=True)
    assert device.describe_device()["gpu"] is None
    assert device.describe_device(torch.device("cuda"))["gpu"] == "H200"
    record = new_record("device", "a", scale="toy", model="b", stopwatch=Stopwatch())
    assert record["device"]["gpu"] is None
