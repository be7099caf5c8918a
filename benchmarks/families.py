"""What other families cost beside BERT: CPU time of a distillation step, time and memory of building a student.

    python benchmarks/families.py [--rounds 7] [--width 256] [--layers 6] [--only step|build]

For the steps each family has the same width, depth, heads and words, students are made of half the layers, and all
take turns. ModernBERT's feed-forward network has a gate, so that its intermediate size is two thirds of the others',
as in the published models. For building, teachers of about 40 million parameters are loaded from a disk, each in a
process of its own. A record is left in runs/; memory is a process's, as Linux counts it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import BertConfig, GPT2Config, ModernBertConfig, PreTrainedConfig, RobertaConfig
from transformers.utils import logging

import distilnb.cli  # noqa: F401  (its settings of memory are those of the commands)
from distilnb.distillation.recipe import PretrainingConfig
from distilnb.distillation.step import Distillation
from distilnb.evidence.records import Stopwatch, new_record, save_record
from distilnb.machine.device import memory_use, peak_memory
from distilnb.models import dropout, families
from distilnb.models.student import build_student
from distilnb.report import tables
from distilnb.text.masking import IGNORE

BUILT = {"width": 512, "layers": 8, "words": 30522}


def configs(width: int, layers: int, words: int) -> dict[str, PreTrainedConfig]:
    """A configuration of each kind of family in one shape."""
    shape = {"vocab_size": words, "hidden_size": width, "num_hidden_layers": layers}
    shape |= {"num_attention_heads": width // 64, "intermediate_size": 4 * width}
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    gpt2 = {"n_embd": width, "n_layer": layers, "n_head": width // 64, "vocab_size": words}
    gate = shape | {"intermediate_size": 8 * width // 3}
    return {
        "BERT": BertConfig(**shape),
        "RoBERTa": RobertaConfig(**shape, **ids),
        "ModernBERT": ModernBertConfig(**gate, **ids, cls_token_id=2, sep_token_id=3),
        "GPT-2": GPT2Config(**gpt2, **ids),
    }


def make_step(config: PreTrainedConfig) -> Distillation:
    """A step of a random teacher and the student made of half its layers, ready to train on a processor."""
    torch.manual_seed(0)
    teacher = families.of(config).model(config).eval().requires_grad_(False)
    student = build_student(teacher, "every_other").train()
    dropout.speed_up(student, torch.device("cpu"))
    return Distillation(student, teacher, PretrainingConfig())


def make_batch() -> dict[str, torch.Tensor]:
    """Random words, 16 rows of 64, 15 % of them with a label."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 8192, (16, 64), generator=draw)
    labels = torch.where(torch.rand(ids.shape, generator=draw) < 0.15, ids, IGNORE)
    return {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)}


def step_scores(rounds: int, width: int, layers: int) -> dict[str, float]:
    """CPU milliseconds of each family's step, and the median of its ratios to BERT's in the same round."""
    steps = {name: make_step(config) for name, config in configs(width, layers, 8192).items()}
    batch, times = make_batch(), {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name in list(steps)[:: 1 if turn % 2 else -1]:
            began = time.process_time()
            with torch.autocast("cpu", torch.bfloat16):
                loss, _ = steps[name](batch, float(batch["attention_mask"].sum()), 150.0)
            loss.backward()
            if turn:  # the first warms up
                times[name].append(time.process_time() - began)
    scores = {}
    for name, spent in times.items():
        ratios = [own / bert for own, bert in zip(spent, times["BERT"], strict=True)]
        scores |= {f"{name} step ms": 1000 * statistics.median(spent), f"{name} step ratio": statistics.median(ratios)}
    return scores


def build(folder: str, rounds: int) -> dict[str, float]:
    """Of the teacher in a folder: CPU seconds to load it and to build its student, and what that adds in memory."""
    config = PreTrainedConfig.get_config_dict(folder)[0]
    kind, loads, builds, peaks = families.FAMILIES[config["model_type"]].model, [], [], []
    for _ in range(rounds):
        began = time.process_time()
        teacher = kind.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        sum(parameter.sum() for parameter in teacher.parameters())  # it is mapped into memory, and read only now
        loads.append(time.process_time() - began)
        Path("/proc/self/clear_refs").write_text("5")  # the highest so far begins anew
        held, began = memory_use(torch.device("cpu"))[0], time.process_time()
        student = build_student(teacher, "every_other")
        builds.append(time.process_time() - began)
        peaks.append(peak_memory() - held)
        size = sum(tensor.nbytes for tensor in student.parameters())
        del teacher, student
    return {"load s": min(loads), "build s": min(builds), "added bytes": min(peaks), "student bytes": size}


def build_scores(rounds: int) -> dict[str, float]:
    """For each family: building against loading, and memory that building adds against the student's."""
    scores = {}
    for name, config in configs(**BUILT).items():
        with tempfile.TemporaryDirectory() as folder:
            families.of(config).model(config).save_pretrained(folder)
            command = [sys.executable, __file__, "--build", folder, "--rounds", str(rounds)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        read = json.loads(done.stdout.splitlines()[-1])
        scores |= {
            f"{name} load s": read["load s"],
            f"{name} build s": read["build s"],
            f"{name} build time ratio": read["build s"] / read["load s"],
            f"{name} added memory ratio": read["added bytes"] / read["student bytes"],
        }
    return scores


def main() -> None:
    """Measure, print a table and leave the record `benchmark-families`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--only", choices=["step", "build"])
    parser.add_argument("--build", help="only the teacher in this folder, loaded and halved")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    if options.build:
        return print(json.dumps(build(options.build, options.rounds)))
    watch, scores = Stopwatch(), {}
    if options.only != "build":
        scores |= step_scores(options.rounds, options.width, options.layers)
    if options.only != "step":
        scores |= build_scores(options.rounds)
    config = {"rounds": options.rounds, "width": options.width, "layers": options.layers, "built": BUILT}
    scores = {name: float(f"{value:.4g}") for name, value in scores.items()}
    about = {"scale": "toy", "model": "student", "stopwatch": watch}
    record = new_record("benchmark", "benchmark-families", **about, config=config, scores=scores)
    print(tables.table([{"measured": key, "value": f"{value:.4g}"} for key, value in record["scores"].items()]))
    print(f"record: {save_record(record)}")


if __name__ == "__main__":
    main()
