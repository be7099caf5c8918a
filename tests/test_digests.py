"""The same command ends in the same bits as when these digests were taken, whatever has been moved since.

They were taken from the flat package of commit f1d7b5b, in the arithmetic that all x86 processors share; that of the
fine-tuning anew when its batches became fair samples and lost their padding.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ARITHMETIC = "a1620d3ce65ad36e"
BEFORE = {
    "distillation": "6776a1e4e71287cd",
    "finetuning": "9cae9d2347022171",
    "ablation": "da12a0b0e7fdfd7d 0959bc5be1df0aca",
}
PLAIN = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}  # no AVX, no FMA


def test_a_distillation_a_fine_tuning_and_an_ablation_end_in_the_same_bits(tmp_path):
    homes = {"DISTILNB_HOME": str(tmp_path / "home"), "DISTILNB_CACHE": str(tmp_path / "cache")}
    root = Path(__file__).parents[1]
    environment = os.environ | PLAIN | homes | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, str(root / "tests" / "digests.py"), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    digests = json.loads(done.stdout.splitlines()[-1])
    if digests.pop("arithmetic") != ARITHMETIC:
        pytest.skip("this processor or torch computes other bits than the ones that the digests were taken with")
    assert digests == BEFORE
