"""What this machine can do: its matmul rate, and settings of the environment that are probed before they are used.

No setting here changes what is computed beyond float32's own rounding; each run's record can say which were on.
"""

import ctypes
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

EXACT = 1e-5  # relative error of a float32 product that still counts as float32 accuracy


def fast_bf16() -> bool:
    """Whether this processor multiplies bf16 in hardware (where it does not, bf16 is slower than float32)."""
    return torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_bf16_supported()


def matmul_rate(dtype: torch.dtype, size: int = 1024, seconds: float = 0.3, device: str = "cpu") -> float:
    """Floating-point operations in a second of CPU time (on a GPU: of the clock) of square products, at their best."""
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    clock = time.process_time if device == "cpu" else time.perf_counter
    best, spent = 0.0, 0.0
    while spent < seconds:
        began = clock()
        one @ other
        if device != "cpu":
            torch.cuda.synchronize()
        took = clock() - began
        best, spent = max(best, 2 * size**3 / max(took, 1e-9)), spent + took
    return best


def peak_memory() -> int:
    """The most bytes of memory that this process has held so far."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _error(size: int = 512) -> float:
    """Relative error of a float32 product as it is computed now."""
    make = torch.Generator().manual_seed(0)
    one, other = (torch.randn(size, size, generator=make) for _ in range(2))
    exact = one.double() @ other.double()
    return float((one @ other - exact).norm() / exact.norm())


def probe() -> dict[str, Any]:
    """Which settings help here: name → value, with what was measured. Empty where nothing does.

    `matmul_precision` "medium" sends float32 products another way: faster and as exact on some processors, bf16 on
    others, where it is refused.
    """
    before = torch.get_float32_matmul_precision()
    found = {}
    try:
        for name in ("highest", "medium"):
            torch.set_float32_matmul_precision(name)
            found[name] = {"rate": matmul_rate(torch.float32), "error": _error()}
    finally:
        torch.set_float32_matmul_precision(before)
    better = found["medium"]["error"] < EXACT and found["medium"]["rate"] > 1.1 * found["highest"]["rate"]
    return {
        "matmul_precision": "medium" if better else before,
        "keep_memory": _mallopt() is not None,
        "probed": {name: {k: float(f"{v:.3g}") for k, v in values.items()} for name, values in found.items()},
    }


def _mallopt() -> Any:
    """glibc's mallopt; None elsewhere."""
    return getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None


@contextmanager
def applied(settings: dict[str, Any]) -> Iterator[None]:
    """These settings on; afterwards as before."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(settings["matmul_precision"])
    if settings["keep_memory"]:
        _keep_memory(True)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        if settings["keep_memory"]:
            _keep_memory(False)


def _keep_memory(on: bool) -> None:
    """Keep freed memory for the next step instead of giving it back: each new page costs a fault."""
    trim, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX
    _mallopt()(trim, 2**31 - 1 if on else 128 * 1024)
    _mallopt()(mmap_max, 0 if on else 65536)
