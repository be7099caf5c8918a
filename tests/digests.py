"""Prints digests of the weights that a small distillation, a fine-tuning and two cells of an ablation end with.

Run by `test_digests.py` in a process of its own, whose environment makes arithmetic the same on every x86 processor.
"""

import hashlib
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from distilnb.cli.main import main
from distilnb.distillation import checkpoints
from distilnb.machine import device
from distilnb.studies import ablation

SMALL = ["--scale", "toy", "--cpu", "--precision", "no"]


def arithmetic() -> str:
    """A digest of a product, an exponential and a sum in float32: where it differs, those of runs differ as well."""
    make = torch.Generator().manual_seed(0)
    one, other = (torch.randn(128, 128, generator=make) for _ in range(2))
    product = torch.nn.functional.gelu(one @ other).softmax(-1) + torch.nn.functional.layer_norm(one, (128,))
    return hashlib.sha256(product.numpy().tobytes()).hexdigest()[:16]


def of_file(path: Path) -> str:
    """A digest of all tensors of a safetensors file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def runs(folder: Path) -> dict[str, str]:
    """The three runs, in `folder`, and the digest of each."""
    model = folder / "distil" / "model"
    short = ["--seq_length", "32", "--batch_size", "16", "--micro_batch_size", "8", "--evaluate_every", "16"]
    status = main(["distil", *SMALL, "--tokens", "8192", *short, "--out", str(folder / "distil"), "--name", "distil"])
    assert status == 0
    digests = {"distillation": of_file(model / "model.safetensors")}
    rows = ["--train_rows", "96", "--validation_rows", "32", "--epochs", "1", "--batch_size", "16"]
    grid_options = ["--task", "rte", "--model", f"student={model}", "--keep", "--out", str(folder / "tuned")]
    assert main(["finetune", *SMALL, *grid_options, *rows]) == 0
    digests["finetuning"] = of_file(next((folder / "tuned").rglob("model.safetensors")))
    fingerprints = []
    pretrain = ablation.pretrain

    def listened(student, *arguments, **options):
        record = pretrain(student, *arguments, **options)
        fingerprints.append(checkpoints.fingerprint(student))
        return record

    ablation.pretrain = listened
    options = ["--variants", "no_ce", "--seeds", "1", "--tokens", "4096", "--task", "rte", "--rows", "64"]
    options += ["--validation_rows", "32", "--epochs", "1", "--out", str(folder / "ablation"), "--name", "ablation"]
    assert main(["ablate", *SMALL, *options, "--records", str(folder / "records")]) == 0
    digests["ablation"] = " ".join(fingerprints)
    return digests


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    device.probe = lambda: {"matmul_precision": "highest", "keep_memory": False, "probed": {}}
    digests = {"arithmetic": arithmetic()} | runs(Path(sys.argv[1]))
    print(json.dumps(digests))
