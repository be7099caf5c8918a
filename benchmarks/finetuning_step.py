"""How much faster is our fine-tuning loop than padding to the maximum with the plain optimizer?

The plain loop is what `run_glue.py` does by default: rows in shuffled order, each padded to `max_length`, AdamW
without fusing, float32. Ours takes rows in the same order and leaves padding out, with fused AdamW, in float32 and
in bf16. "bare" is our loop without its safety net (micro-batches, memory that runs out, numbers that are not finite,
signals, checkpoints), so that `net_cost` is what the net costs. All train the same model on rows with the lengths of
real SST-2, in turns in one process, so that a busy machine slows all, on the GPU if there is one, where the time until
it is done stands for CPU time. Printed are ratios; the record goes to runs/.

    python benchmarks/finetuning_step.py                  base size (DistilBERT), the SST-2 lengths, about 4 minutes
    python benchmarks/finetuning_step.py --size toy       the toy student, about a minute
    python benchmarks/finetuning_step.py --size toy --net --rounds 20                 what the safety net costs; also
                                                          --size small --rounds 20, --size base --rounds 8
    python benchmarks/finetuning_step.py --trainer        the small teacher on all rows of MRPC and STS-B against
                                                          `Trainer`, and the scores of both: two hours on a core;
                                                          with --tasks some of it, in a record of its own
"""

import argparse
import csv
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from transformers import (
    DataCollatorWithPadding,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)

from distilnb import paths, scales
from distilnb.evidence.records import Stopwatch, new_record, save_record
from distilnb.machine.device import fast_bf16, forget_accelerator, make_accelerator, now
from distilnb.models import dropout
from distilnb.models.sources import load_tokenizer
from distilnb.models.teacher import load_teacher
from distilnb.report import tables
from distilnb.tasks import finetuning, glue, heads
from distilnb.tasks.finetuning import FinetuningConfig, batch_order, collate, forward

MAX_LENGTH = 128
SEEDS = 3
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BF16 = DEVICE.type == "cuda" or fast_bf16()
COMPARED = ("mrpc", "stsb")  # the tasks of --trainer
SIZES = {
    "base": DistilBertConfig(),
    "small": DistilBertConfig(dim=384, hidden_dim=1536, n_heads=12, n_layers=3),
    "toy": DistilBertConfig(vocab_size=3072, dim=128, hidden_dim=512, n_heads=4, n_layers=6),
}


def seconds() -> float:
    """The clock: CPU time, which other programs do not stretch; with a GPU the time when it is done."""
    return now(DEVICE) if DEVICE.type == "cuda" else time.process_time()


def sst2_lengths(rows: int) -> np.ndarray:
    """`rows` token lengths spread like those of SST-2's training split (bert-base-uncased's pieces)."""
    with paths.data("sst2_lengths.csv").open() as file:
        table = [(int(row["tokens"]), int(row["rows"])) for row in csv.DictReader(file)]
    lengths = np.repeat([length for length, _ in table], [count for _, count in table])
    return lengths[np.linspace(0, len(lengths) - 1, rows).round().astype(int)]


def made_rows(lengths: np.ndarray, vocabulary: int) -> Dataset:
    """Random pieces in rows of these lengths, as `glue.tokenize` would return them."""
    draw = np.random.default_rng(0)
    ids = [draw.integers(5, vocabulary, length).astype(np.int32) for length in lengths]
    kinds = [np.zeros(length, dtype=np.int32) for length in lengths]
    labels = draw.integers(0, 2, len(lengths))
    columns = {"input_ids": ids, "token_type_ids": kinds, "length": lengths, "labels": labels}
    return Dataset.from_dict(columns).with_format("numpy")


class Plain:
    """The obvious loop: every row padded to `MAX_LENGTH`, shuffled, plain AdamW, float32."""

    def __init__(self, model: PreTrainedModel, rows: Dataset, config: FinetuningConfig):
        self.model, self.rows, self.config = model.to(DEVICE).train(), rows, config
        groups = finetuning.parameter_groups(model, config)
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, eps=1e-6, fused=False, foreach=False)

    def order(self, epoch: int) -> list[np.ndarray]:
        order = np.random.default_rng([self.config.seed, epoch]).permutation(len(self.rows))
        return [order[i : i + self.config.batch_size] for i in range(0, len(order), self.config.batch_size)]

    def updates(self, batches: list[np.ndarray]) -> None:
        for chosen in batches:
            self.update(chosen)

    def batch(self, chosen: np.ndarray) -> dict[str, torch.Tensor]:
        batch = collate(self.rows, chosen)
        width = MAX_LENGTH - batch["input_ids"].shape[1]
        for key in ("input_ids", "attention_mask", "token_type_ids"):
            batch[key] = torch.nn.functional.pad(batch[key], (0, width))
        return batch

    def update(self, chosen: np.ndarray) -> None:
        batch = {key: value.to(DEVICE) for key, value in self.batch(chosen).items()}
        loss = finetuning.label_loss(forward(self.model, batch), batch["labels"]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()


class Bare(Plain):
    """Our update without the safety net: no padding, fused AdamW, float32."""

    def __init__(self, model: PreTrainedModel, rows: Dataset, config: FinetuningConfig):
        super().__init__(model, rows, config)
        dropout.speed_up(self.model, DEVICE)
        groups = finetuning.parameter_groups(model, config)
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, eps=1e-6, fused=True)

    def order(self, epoch: int) -> list[np.ndarray]:
        return short_first(self.rows["length"][:], self.config, epoch)

    def batch(self, chosen: np.ndarray) -> dict[str, torch.Tensor]:
        return collate(self.rows, chosen)


def short_first(lengths: np.ndarray, config: FinetuningConfig, epoch: int) -> list[np.ndarray]:
    """The batches of an epoch by their longest row: every k-th is then a fair sample of all lengths."""
    batches = batch_order(lengths, replace(config, epochs=1, seed=config.seed + epoch))
    return sorted(batches, key=lambda batch: lengths[batch].max())


class Ours:
    """The package's updates, as `finetuning.finetune` makes them."""

    def __init__(self, model: PreTrainedModel, rows: Dataset, config: FinetuningConfig, precision: str):
        forget_accelerator()
        accelerator = Accelerator(cpu=DEVICE.type == "cpu", mixed_precision=precision)
        long = replace(config, epochs=1000)
        tokenizer = load_teacher(scales.get("toy").teacher)[1]
        dropout.speed_up(model, DEVICE)
        data = glue.load_data("sst2", n_train=32, n_validation=32)  # of which only its kind of labels is read
        self.run = finetuning.TaskRun(model, rows, data, tokenizer, accelerator, long, finetuning.UNSAVED)
        self.run.module.train()

    def order(self, epoch: int) -> list[np.ndarray]:
        return short_first(self.run.lengths, self.run.config, epoch)

    def updates(self, batches: list[np.ndarray]) -> None:
        self.run.advance(self.run.step + len(batches), iter(batches), "updates", quiet=True, save_last=False)


def measure(size: str, updates: int, rounds: int, net: bool = False) -> dict[str, float]:
    """Seconds for each row, wall and CPU, of the loops, in turns; medians over the rounds. `net`: of two of them."""
    rows, config = made_rows(sst2_lengths(4096), SIZES[size].vocab_size), FinetuningConfig(batch_size=32, epochs=1)
    torch.manual_seed(0)
    first = DistilBertForSequenceClassification(SIZES[size])
    copies = [heads.classifier(first, 2)[0] for _ in range(4)]
    loops = {"bare": Bare(copies[3], rows, config), "float32": Ours(copies[1], rows, config, "no")}
    if not net:
        loops = {"plain": Plain(copies[0], rows, config)} | loops
        if BF16:
            loops["bf16"] = Ours(copies[2], rows, config, "bf16")
    wall, cpu = ({name: [] for name in loops} for _ in range(2))
    for turn in range(-1, rounds):  # the first warms up
        for name, loop in list(loops.items())[:: 1 if turn % 2 else -1]:  # and no loop is always the first
            batches = loop.order(0)
            step = len(batches) / updates
            chosen = [batches[int(step * (i + 0.5))] for i in range(updates)]
            began, used = now(DEVICE), seconds()
            loop.updates(chosen)
            ended, done = now(DEVICE), seconds()
            if turn >= 0:
                count = sum(map(len, chosen))
                wall[name].append((ended - began) / count)
                cpu[name].append((done - used) / count)
    scores = {f"{name}_seconds_per_row": statistics.median(times) for name, times in wall.items()}
    for name in loops if not net else ():
        for clock, times in (("", wall), ("_cpu_time", cpu)):
            ratios = (p / t for p, t in zip(times["plain"], times[name], strict=True))
            scores[f"{name}{clock}_ratio"] = statistics.median(ratios)
    costs = sorted(ours / bare - 1 for ours, bare in zip(cpu["float32"], cpu["bare"], strict=True))
    quarter = len(costs) // 4
    spread = {"net_cost_low": costs[quarter], "net_cost_high": costs[-1 - quarter]}  # the middle half of the rounds
    return scores | {"net_cost": statistics.median(costs)} | spread  # of CPU time, in turns


def by_trainer(
    model: PreTrainedModel, rows: Dataset, tokenizer: Any, config: FinetuningConfig, padding: bool | str
) -> None:
    """Fine-tune as the library's example does; `padding` is True (to the longest of a batch) or "max_length"."""
    arguments = TrainingArguments(
        tempfile.mkdtemp(),
        per_device_train_batch_size=config.batch_size,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        warmup_steps=round(config.warmup * config.steps(len(rows))),
        weight_decay=config.weight_decay,
        seed=config.seed,
        bf16=BF16,
        use_cpu=DEVICE.type == "cpu",
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    collator = DataCollatorWithPadding(tokenizer, padding, MAX_LENGTH if padding == "max_length" else None)
    Trainer(model, arguments, collator, rows.remove_columns("length").with_format(None)).train()


def against_trainer(names: list[str], rows: int | None) -> dict[str, Any]:
    """Whole fine-tunings of the small teacher: `Trainer`'s CPU time over ours (evaluation included), and all scores."""
    source, scores, comparisons = paths.data("teachers", "small"), {}, []
    tokenizer, accelerator = load_tokenizer(str(source)), make_accelerator(cpu=DEVICE.type == "cpu")
    config = FinetuningConfig(learning_rate=1e-4)
    loops = {"ours": None, "Trainer, rows padded to the longest": True, "Trainer, rows padded to 128": "max_length"}
    for name in names:
        data, spent = glue.load_data(name, "hub", rows), {loop: [] for loop in loops}
        encoded = finetuning.encode(data, tokenizer, config)
        for seed, loop in product(range(SEEDS), loops):
            model, settings = heads.for_task(str(source), data.task, seed)[0], replace(config, seed=seed)
            heads.name_labels(model, data.task)
            began = seconds()
            if loop == "ours":
                finetuning.finetune(model, data, tokenizer, accelerator, settings, quiet=True)
            else:
                by_trainer(model, encoded[0], tokenizer, settings, loops[loop])
            spent[loop].append(seconds() - began)
            judged = finetuning.evaluate(model.eval(), data, encoded, accelerator, tokenizer.pad_token_id)
            scores[f"{name}, {loop}, seed {seed}"] = judged["scores"]["main"]
        for loop in (loop for loop in loops if loop != "ours"):
            ratios = sorted(theirs / ours for theirs, ours in zip(spent[loop], spent["ours"], strict=True))
            faster = [ratios[0], statistics.median(ratios), ratios[-1]]
            what = f"fine-tuning, width 384, {name}"
            comparisons.append({"what": what, "against": loop, "faster": faster, "memory": None})
    return {"scores": scores, "comparisons": comparisons}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="base")
    parser.add_argument("--updates", type=int, default=0, help="updates of each loop in a round (default: 4, 8 or 24)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--net", action="store_true", help="measure the cost of the safety net alone")
    parser.add_argument("--trainer", action="store_true", help="whole fine-tunings of real tasks, against `Trainer`")
    parser.add_argument("--tasks", default=",".join(COMPARED), help="the tasks of --trainer, joined by commas")
    parser.add_argument("--rows", type=int, default=None, help="training rows of --trainer (default: all)")
    options = parser.parse_args()
    if options.rounds < 1 or options.updates < 0:
        parser.error("rounds and updates must be above 0")
    watch, more = Stopwatch(), {}
    if options.trainer:
        tasks = options.tasks.split(",")
        name = "-".join(["benchmark-finetuning-trainer", *(tasks if tasks != [*COMPARED] else ())])
        more = against_trainer(tasks, options.rows)
        scores = more.pop("scores")
    else:
        updates = options.updates or {"base": 4, "small": 8, "toy": 24}[options.size]
        name = f"benchmark-finetuning-{options.size}" + ("-net" if options.net else "")
        scores = measure(options.size, updates, options.rounds, options.net)
    config = vars(options) | {"max_length": MAX_LENGTH, "batch_size": 32, "group_by_length": False}
    about = {"scale": "small" if options.trainer else options.size, "model": "student", "stopwatch": watch}
    record = new_record("benchmark", name, **about, scores=scores, config=config, **more)
    path = save_record(record)
    print(tables.table([{"measured": key, "value": f"{value:.4g}"} for key, value in scores.items()]))
    if more:
        print(tables.table(tables.speed_rows([record])))
    print(f"record: {path}")


if __name__ == "__main__":
    main()
