"""CPU time of a distillation step of every family against BERT's, in turns, at one shape.

    python benchmarks/family_step.py [--rounds 7] [--width 256] [--layers 6]

Each has the same width, depth, heads and words; students are made of half the layers. ModernBERT's feed-forward
network has a gate, so that its intermediate size is two thirds of the others', as in the published models.
"""

import argparse
import statistics
import time

import torch
from transformers import BertConfig, GPT2Config, ModernBertConfig, RobertaConfig

from distilnb.distillation.recipe import PretrainingConfig
from distilnb.distillation.step import Distillation
from distilnb.models import dropout, families
from distilnb.models.student import build_student
from distilnb.text.masking import IGNORE


def main() -> None:
    """Print a line for each family: milliseconds of CPU time, and the ratio to BERT's in the same round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape = {"vocab_size": 8192, "hidden_size": options.width, "num_hidden_layers": options.layers}
    shape |= {"num_attention_heads": options.width // 64, "intermediate_size": 4 * options.width}
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    gpt2 = {"n_embd": options.width, "n_layer": options.layers, "n_head": options.width // 64, "vocab_size": 8192}
    gate = shape | {"intermediate_size": 8 * options.width // 3}
    configs = {
        "BERT": BertConfig(**shape),
        "RoBERTa": RobertaConfig(**shape, **ids),
        "ModernBERT": ModernBertConfig(**gate, **ids, cls_token_id=2, sep_token_id=3),
        "GPT-2": GPT2Config(**gpt2, **ids),
    }
    steps = {name: make_step(config) for name, config in configs.items()}
    batch = make_batch()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.rounds + 1):
        for name in list(steps)[:: 1 if turn % 2 else -1]:
            began = time.process_time()
            with torch.autocast("cpu", torch.bfloat16):
                loss, _ = steps[name](batch, float(batch["attention_mask"].sum()), 150.0)
            loss.backward()
            if turn:  # the first warms up
                times[name].append(time.process_time() - began)
    for name, seconds in times.items():
        ratios = [own / bert for own, bert in zip(seconds, times["BERT"], strict=True)]
        print(f"{name:12}{1000 * statistics.median(seconds):8.0f} ms {statistics.median(ratios):6.2f} × BERT")


def make_step(config) -> Distillation:
    """A step of a random teacher and the student made of half its layers, ready to train on a processor."""
    torch.manual_seed(0)
    teacher = families.of(config).model(config).eval().requires_grad_(False)
    student = build_student(teacher, "every_other").train()
    dropout.speed_up(student, torch.device("cpu"))
    return Distillation(student, teacher, PretrainingConfig())


def make_batch(rows: int = 16, length: int = 64) -> dict[str, torch.Tensor]:
    """Random words, 15 % of them with a label."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 8192, (rows, length), generator=draw)
    labels = torch.where(torch.rand(rows, length, generator=draw) < 0.15, ids, IGNORE)
    return {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)}


if __name__ == "__main__":
    main()
