"""What this machine can do: its speed, its memory, and settings that are measured before they are used.

No setting here changes a result beyond the rounding of float32. A run's record can say which settings were on.
"""

import ctypes
import hashlib
import os
import platform
import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.state import AcceleratorState, PartialState, is_initialized

from . import processes

CPU = torch.device("cpu")
EXACT = 1e-5  # relative error of a float32 product that still counts as float32 accuracy
NO_FLOAT64 = ("mps",)  # kinds of devices on which no tensor can be float64: Apple's GPUs
SHARDING = {  # what `accelerate launch` sets for a configuration that splits a model among processes
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
}
FOR_FEW_BITS = set("avx2 avx512f avx512_vnni avx_vnni avx512_bf16 amx_bf16 amx_int8 asimddp i8mm bf16".split())


def fast_bf16() -> bool:
    """Whether this processor multiplies bf16 in hardware (where it does not, bf16 is slower than float32)."""
    return torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_bf16_supported()


def matmul_rate(dtype: torch.dtype, device: torch.device = CPU) -> float:
    """The best measured rate of a square matrix product, in operations per second of CPU time (on a GPU: wall time)."""
    size = 1024 if device.type == "cpu" else 8192
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    clock = time.process_time if device.type == "cpu" else lambda: now(device)
    best, spent = 0.0, 0.0
    while spent < 0.3:  # seconds
        began = clock()
        one @ other
        took = clock() - began
        best, spent = max(best, 2 * size**3 / max(took, 1e-9)), spent + took
    return best


def peak_memory() -> int:
    """The peak memory of this process so far, in bytes."""
    if peak := re.search(r"^VmHWM:\s*(\d+)", _proc("self/status"), re.M):
        return 1024 * int(peak[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _proc(name: str) -> str:
    """The text of a file that Linux keeps in /proc; "" elsewhere."""
    file = Path("/proc", name)
    return file.read_text() if file.is_file() else ""


def memory_use(device: torch.device) -> tuple[int, int]:
    """The bytes in use now and at the peak so far: of this process, or of the GPU if `device` is one."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss, peak_memory()


def now(device: torch.device) -> float:
    """The clock in seconds, read after all work queued on this device has ended."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def sum_dtype(device: torch.device) -> torch.dtype:
    """The type in which a sum of many terms is kept on this device: float64 where it has that, else float32."""
    return torch.float32 if device.type in NO_FLOAT64 else torch.float64


def write_rate(folder: Path, size: int = 2**23) -> float:
    """The bytes per second at which data is written, synced and hashed on the disk where `folder` is or will be."""
    parent = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    data, began = os.urandom(size), time.perf_counter()
    with tempfile.TemporaryFile(dir=parent) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        hashlib.sha256(data).hexdigest()
    return size / (time.perf_counter() - began)


def matmul_error() -> float:
    """The relative error of a float32 matrix product under the present settings."""
    make = torch.Generator().manual_seed(0)
    one, other = (torch.randn(512, 512, generator=make) for _ in range(2))
    exact = one.double() @ other.double()
    return float((one @ other - exact).norm() / exact.norm())


def probe() -> dict[str, Any]:
    """The settings that suit this processor (name → value), with the rates and errors measured under "probed".

    `matmul_precision` "medium" is taken where it is faster and as exact as float32; it is refused on processors where
    it means bf16.
    """
    before = torch.get_float32_matmul_precision()
    measured = {}
    try:
        for name in ("highest", "medium"):
            torch.set_float32_matmul_precision(name)
            measured[name] = {"rate": matmul_rate(torch.float32), "error": matmul_error()}
    finally:
        torch.set_float32_matmul_precision(before)
    better = measured["medium"]["error"] < EXACT and measured["medium"]["rate"] > 1.3 * measured["highest"]["rate"]
    return {
        "matmul_precision": "medium" if better else before,
        "keep_memory": _glibc("mallopt") is not None,
        "probed": {name: {k: float(f"{v:.3g}") for k, v in values.items()} for name, values in measured.items()},
    }


def _glibc(name: str) -> Any:
    """The function of this name in glibc; None where there is no glibc."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def release_memory() -> None:
    """Give freed memory that was kept back to the system, between two runs: the next has tensors of other sizes.

    Without glibc nothing was kept.
    """
    if trim := _glibc("malloc_trim"):
        trim(0)


def use_fast_settings(device: torch.device, precision: str = "no") -> dict[str, Any]:
    """Probe this processor, switch the fast settings on for the rest of the process, and return them; {} on a GPU.

    `$DISTILNB_FLOAT32` ("highest" or "medium") replaces the probe, for runs that are compared bit by bit. So does a
    `precision` in which no product of note is float32, because the probe takes most of a second.
    """
    if device.type != "cpu":
        return {}
    asked = os.environ.get("DISTILNB_FLOAT32") or (precision != "no" and torch.get_float32_matmul_precision())
    settings = {"matmul_precision": asked, "keep_memory": _glibc("mallopt") is not None} if asked else probe()
    _switch_on(settings)
    return settings


def _switch_on(settings: dict[str, Any]) -> None:
    torch.set_float32_matmul_precision(settings["matmul_precision"])
    if settings["keep_memory"]:
        _keep_memory(True)


@contextmanager
def applied(settings: dict[str, Any]) -> Iterator[None]:
    """Switch these settings on for the `with` block, and restore the former ones after it."""
    before = torch.get_float32_matmul_precision()
    _switch_on(settings)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        if settings["keep_memory"]:
            _keep_memory(False)


def _keep_memory(on: bool) -> None:
    """Keep freed memory for the next step instead of returning it, because each new page costs a page fault."""
    trim, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX
    _glibc("mallopt")(trim, 2**31 - 1 if on else 128 * 1024)
    _glibc("mallopt")(mmap_max, 0 if on else 65536)


def cores() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_device(device: torch.device | None = None) -> dict[str, Any]:
    """Processor, core count, memory in GiB, and the GPU if `device` is one.

    Unless it is given, it is the device on which accelerate runs what this process does; before there is an
    Accelerator, a GPU that is there.
    """
    if device is None and is_initialized():
        device = PartialState().device
    gpu = device.type == "cuda" if device else torch.cuda.is_available()
    model = re.search(r"^model name[^:]*:(.*)", _proc("cpuinfo"), re.M)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": model[1].strip() if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory, 1),
        "gpu": torch.cuda.get_device_name(device) if gpu else None,
    }


def instructions() -> list[str]:
    """The processor's instructions for matrix products in few bits, as Linux lists them; [] elsewhere.

    The speed of int8 and bf16 models depends on them.
    """
    return sorted(set(_proc("cpuinfo").split()) & FOR_FEW_BITS)


def assumed_watts(gpu: bool) -> float:
    """The power in watts that a whole machine is assumed to draw where it was not measured."""
    return 300.0 if gpu else 65.0


def forget_accelerator() -> None:
    """Clear accelerate's state, so that the next Accelerator of this process may have another precision than the first.

    Tests and benchmarks need this. No other place touches a private name of accelerate.
    """
    AcceleratorState._reset_state(reset_partial_state=True)


def make_accelerator(precision: str = "auto", cpu: bool = False) -> Accelerator:
    """An Accelerator for this machine; under `accelerate launch` it joins the other processes.

    `auto` is bf16 where the hardware multiplies it fast, fp16 on older GPUs, else float32. Raises ValueError under a
    configuration of accelerate that splits the model: ours sums its gradients itself, and saves all of it.
    """
    for flag, name in SHARDING.items():
        if os.environ.get(flag, "").lower() in ("true", "1"):
            raise ValueError(
                f"accelerate is configured for {name}, which splits a model that is small enough for each GPU; launch "
                "by --config_file launch/eight_gpus.yaml, or another of plain DDP (distributed_type: MULTI_GPU)"
            )
    if precision not in ("auto", "no", "bf16", "fp16"):
        raise ValueError(f"precision is '{precision}'; use auto, no, bf16 or fp16")
    cuda = torch.cuda.is_available() and not cpu
    if precision == "auto" and cuda:
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    elif precision == "auto":
        precision = "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"
    patience = InitProcessGroupKwargs(timeout=timedelta(seconds=processes.PATIENCE))
    cpu = not cuda and not (torch.backends.mps.is_available() and not cpu)
    with processes.meeting():
        accelerator = Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[patience])
    return accelerator
