"""How much faster is our distillation step than the same triple loss written the obvious way?

The plain step has the structure of the original code: whole logits of student and teacher for every token, boolean
selection of the real ones, KLDivLoss, CrossEntropyLoss and CosineEmbeddingLoss, float32, AdamW that is not fused.
Ours is `loop.Run.update`, in float32 and in bf16. Both train the same models on the same blocks of text, none
of it padding, in turns in one process, with this machine's settings (`machine.device`) switched off and on; a step
of each on the same padded batch must first give the same losses. Ratios are medians over
the rounds, by the wall and in CPU time; on a busy machine the second is the one to trust. Memory is the peak of a
fresh process for each, above what it had before the models were made.

    python benchmarks/pretraining_step.py                    base size; minutes
    python benchmarks/pretraining_step.py --size narrow      H = 128, 30,522 words
    python benchmarks/pretraining_step.py --size mini        H = 128, 8,192 words
    python benchmarks/pretraining_step.py --size growth      against sequences, vocabulary, width and depth, with bounds

A record goes to runs/. `scores`, where OURS is float32 or bf16 and a trailing _set means with the settings on:

    OURS_ratio, OURS_cpu_ratio       tokens/s of ours over those of the plain step
    OURS_memory_ratio                peak memory of ours over the plain step's
    NAME_tokens_per_second           of each, in CPU time
    NAME_of_peak                     share of the measured matmul peak of its precision, in CPU time
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel, Trainer, TrainingArguments

from distilnb import scales
from distilnb.distillation import step
from distilnb.distillation.batches import MaskedRows, MicroBatches, collate
from distilnb.distillation.loop import Run
from distilnb.distillation.recipe import PretrainingConfig
from distilnb.distillation.step import Distillation
from distilnb.evidence.records import Stopwatch, new_record, save_record
from distilnb.machine.device import applied, fast_bf16, forget_accelerator, matmul_rate, memory_use, now, probe
from distilnb.models import dropout
from distilnb.models.arithmetic import distillation_flops
from distilnb.models.student import build_student
from distilnb.models.teacher import load_teacher
from distilnb.report import tables
from distilnb.text import corpus, sources
from distilnb.text.masking import IGNORE, Masker

NARROW = {"hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 512}
SIZES = {  # the teacher, and sequences of 128 tokens in a step: 2,048 tokens, the original took up to 2,560
    "base": ({}, 16),
    "narrow": (NARROW, 16),
    "mini": (NARROW | {"vocab_size": 8192}, 16),
}
SEQUENCE = 128
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
STAGES = ("data", "teacher", "student", "head", "backward", "optimizer")
USUAL = {"sequences": 8, "vocabulary": 8192, "width": 128, "layers of the teacher": 12}
GROWTH = {
    "sequences": (4, 8, 16, 32),
    "vocabulary": (3072, 8192, 30522),
    "width": (128, 256, 384, 768),
    "layers of the teacher": (4, 8, 12),
}


def seconds() -> float:
    """The clock: CPU time, which other programs do not stretch; with a GPU the time when it is done."""
    return now(DEVICE) if DEVICE.type == "cuda" else time.process_time()


class Laps:
    """Seconds of CPU time by stage."""

    def __init__(self) -> None:
        self.seconds, self.inside = dict.fromkeys(STAGES, 0.0), []

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time what is done inside; a stage within another is taken out of the outer one."""
        began = seconds()
        self.inside.append(0.0)
        try:
            yield
        finally:
            spent = seconds() - began
            self.seconds[stage] += spent - self.inside.pop()
            if self.inside:
                self.inside[-1] += spent

    def wrap(self, owner: Any, name: str, stage: Any) -> None:
        """Time every call of a function; `stage` is its name, or says it from the first arguments."""
        function = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self(stage if isinstance(stage, str) else stage(*args)):
                return function(*args, **kwargs)

        setattr(owner, name, timed)


class Made(NamedTuple):
    """A random teacher, toyworld text, its masker and the settings of a step, see `make`."""

    teacher: PreTrainedModel
    text: corpus.Corpus
    masker: Masker
    config: PretrainingConfig


class Plain:
    """The obvious step: `update` trains the student, as the original code does, on one batch."""

    def __init__(self, student: PreTrainedModel, made: Made):
        self.student, self.teacher = student.to(DEVICE).train(), made.teacher.to(DEVICE).eval()
        self.config, self.laps = made.config, Laps()
        self.text, self.masker = made.text, made.masker
        self.optimizer = torch.optim.AdamW(
            student.parameters(), lr=1e-5, betas=(0.9, 0.98), eps=1e-6, fused=False, foreach=False, weight_decay=0.0
        )
        self.kl, self.ce = nn.KLDivLoss(reduction="batchmean"), nn.CrossEntropyLoss(ignore_index=IGNORE)
        self.cosine = nn.CosineEmbeddingLoss(reduction="mean")

    def batches(self, steps: int) -> Iterator[dict[str, Tensor]]:
        """Masked batches of the text, prepared as they are asked for."""
        keys = MicroBatches(self.text, self.config, 0, steps)
        rows = MaskedRows(self.text.train, self.masker)
        made = (collate(rows.__getitems__(key)) for key in keys)
        return ({name: value.to(DEVICE) for name, value in batch.items()} for batch in made)

    def losses(self, batch: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The triple loss and its three terms."""
        mask, labels, t = batch["attention_mask"], batch["labels"], self.config.temperature
        with self.laps("student"):
            student = self.student(batch["input_ids"], attention_mask=mask, output_hidden_states=True)
        with self.laps("teacher"), torch.no_grad():
            teacher = self.teacher(batch["input_ids"], attention_mask=mask, output_hidden_states=True)
        with self.laps("head"):
            chosen = mask.bool().unsqueeze(-1).expand_as(student.logits)
            s_logits = torch.masked_select(student.logits, chosen).view(-1, student.logits.size(-1))
            t_logits = torch.masked_select(teacher.logits, chosen).view(-1, student.logits.size(-1))
            ce = self.kl(torch.log_softmax(s_logits / t, -1), torch.softmax(t_logits / t, -1)) * t**2
            mlm = self.ce(student.logits.view(-1, student.logits.size(-1)), labels.view(-1))
            s_hidden, t_hidden = student.hidden_states[-1], teacher.hidden_states[-1]
            chosen = mask.bool().unsqueeze(-1).expand_as(s_hidden)
            s_hidden = torch.masked_select(s_hidden, chosen).view(-1, s_hidden.size(-1))
            t_hidden = torch.masked_select(t_hidden, chosen).view(-1, t_hidden.size(-1))
            cos = self.cosine(s_hidden, t_hidden, s_hidden.new_ones(len(s_hidden)))
            weights = self.config.weights
            return weights.ce * ce + weights.mlm * mlm + weights.cos * cos, [ce, mlm, cos]

    def update(self, batches: Iterator[dict[str, Tensor]]) -> int:
        """One update; the number of real tokens."""
        with self.laps("data"):
            batch = next(batches)
        loss, _ = self.losses(batch)
        with self.laps("backward"):
            loss.backward()
        with self.laps("optimizer"):
            nn.utils.clip_grad_norm_(self.student.parameters(), self.config.clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return int(batch["attention_mask"].sum())


class WithTrainer(Plain):
    """The plain losses as the `compute_loss` of Hugging Face's `Trainer`, in float32 or under its bf16 autocast.

    An update is a `train()` of one step, whose own set-up takes some milliseconds.
    """

    def __init__(self, student: PreTrainedModel, made: Made, bf16: bool):
        super().__init__(student, made)
        forget_accelerator()
        plain = self

        class Distiller(Trainer):
            def compute_loss(self, model: Any, inputs: dict[str, Tensor], **_: Any) -> Tensor:
                return plain.losses(inputs)[0]

        arguments = TrainingArguments(
            tempfile.mkdtemp(),
            per_device_train_batch_size=self.config.batch_size,
            max_steps=1,
            learning_rate=1e-5,
            max_grad_norm=self.config.clip,
            bf16=bf16,
            use_cpu=DEVICE.type == "cpu",
            remove_unused_columns=False,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        self.trainer = Distiller(self.student, arguments, optimizers=(self.optimizer, None))

    def update(self, batches: Iterator[dict[str, Tensor]]) -> int:
        """One update; the number of real tokens."""
        batch = next(batches)
        rows = [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]
        self.trainer.train_dataset = rows
        self.trainer.train()
        return int(batch["attention_mask"].sum())


class Ours:
    """The package's own update, as `pretraining.pretrain` makes it."""

    def __init__(self, student: PreTrainedModel, made: Made, precision: str):
        forget_accelerator()
        self.laps = Laps()
        accelerator = Accelerator(cpu=DEVICE.type == "cpu", mixed_precision=precision)
        self.run = Run(student, made.text, made.masker, accelerator, made.config, made.teacher, None)
        if DEVICE.type == "cpu":
            dropout.speed_up(student, torch.device("cpu"))  # as the command line does
        student.train()
        self.laps.wrap(self.run.accelerator, "backward", "backward")
        self.laps.wrap(self.run.accelerator, "clip_grad_norm_", "optimizer")
        self.laps.wrap(self.run.optimizer, "step", "optimizer")
        self.laps.wrap(self.run.optimizer, "zero_grad", "optimizer")

    def batches(self, steps: int) -> Iterator[dict[str, Tensor]]:
        """Masked batches of the text, prepared as they are asked for."""
        loader = iter(self.run.loader(self.run.step + steps))
        while True:
            with self.laps("data"):
                batch = next(loader)
            yield batch

    def update(self, batches: Iterator[dict[str, Tensor]]) -> int:
        """One update; the number of real tokens."""
        with _stages(self.laps):
            return int(self.run.update(batches)["tokens"])


@contextmanager
def _stages(laps: Laps) -> Iterator[None]:
    """Time the parts of `Distillation`'s forward pass while our own update runs."""
    before = {name: getattr(step, name) for name in ("network", "vocabulary_losses")}
    laps.wrap(step, "network", lambda model, *_: "teacher" if model.config.model_type == "bert" else "student")
    laps.wrap(step, "vocabulary_losses", "head")
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(step, name, function)


def make(shape: dict[str, Any], sequences: int, layout: str = "packed", layers: int = 12) -> Made:
    """A random teacher of this shape, toyworld text, its masker and the settings of a step of `sequences`."""
    torch.manual_seed(0)
    teacher = BertForMaskedLM(BertConfig(num_hidden_layers=layers, **shape)).eval().requires_grad_(False)
    _, tokenizer = load_teacher(scales.get("toy").teacher)
    text = corpus.build_corpus(
        sources.parse_sources("toyworld"), tokenizer, seq_length=SEQUENCE, max_tokens=600_000, layout=layout
    )
    config = PretrainingConfig(
        seq_length=SEQUENCE,
        batch_size=sequences,
        micro_batch_size=sequences,
        layout=layout,
        tokens=10**9,
        learning_rate=1e-5,
    )
    return Made(teacher, text, Masker.of(tokenizer, text.token_counts), config)


def loop(name: str, shape: dict[str, Any], sequences: int, layers: int = 12) -> Plain | Ours:
    """The loop called plain, trainer, trainer_bf16, float32 or bf16, with models of its own."""
    made = make(shape, sequences, layers=layers)
    student = build_student(made.teacher, tuple(round(i * layers / (layers // 2)) for i in range(layers // 2)))
    if name == "plain":
        return Plain(student, made)
    if name.startswith("trainer"):
        return WithTrainer(student, made, bf16=name == "trainer_bf16")
    return Ours(student, made, "bf16" if name == "bf16" else "no")


def check_equal_losses(shape: dict[str, Any]) -> float:
    """Losses of plain and ours on the same padded batch; their largest relative difference, RuntimeError above 1e-4."""
    made = make(shape, 4, "grouped")
    student = build_student(made.teacher, init="random").eval()
    plain = Plain(student, made)
    student.eval()
    batch = next(plain.batches(1))
    for key, value in batch.items():
        batch[key] = torch.cat([value, value.new_full((4, 5), IGNORE if key == "labels" else 0)], 1)
    tokens, masked = int(batch["attention_mask"].sum()), int((batch["labels"] != IGNORE).sum())
    with torch.no_grad():
        _, expected = plain.losses(batch)
        _, terms = Distillation(student, made.teacher, made.config)(batch, float(tokens), float(masked))
    worst = max(abs(float(a) / float(b) - 1) for a, b in zip(terms, expected, strict=True))
    if worst > 1e-4:
        found = f"{terms.tolist()} against {[float(term) for term in expected]}"
        raise RuntimeError(f"the two steps do not compute the same loss: {found}")
    return worst


def flops_per_token(shape: dict[str, Any], layers: int = 12) -> float:
    """Multiplications and additions of the triple loss for a token: the teacher forward, the student three times."""
    teacher, student = (BertConfig(**shape, num_hidden_layers=count) for count in (layers, layers // 2))
    return distillation_flops(student, teacher, 1, SEQUENCE)


def measure(size: str, rounds: int, steps: int, names: list[str]) -> dict[str, Any]:
    """Scores, shares of time by stage and the rounds behind them; loops and settings take turns."""
    shape, sequences = SIZES[size]
    loops = {name: loop(name, shape, sequences) for name in names}
    settings = probe()
    rows, peaks = [], {"float32": [], "bf16": []}
    for turn in range(-1, rounds):  # the first warms up
        for on in (False, True) if turn >= 0 else (False,):
            with applied(settings) if on else nullcontext():
                for name, each in loops.items():
                    batches = each.batches(steps)
                    before, began, used = dict(each.laps.seconds), time.perf_counter(), seconds()
                    tokens = sum(each.update(batches) for _ in range(steps))
                    wall, cpu = time.perf_counter() - began, seconds() - used
                    stages = {stage: each.laps.seconds[stage] - before[stage] for stage in STAGES}
                    row = {"turn": turn, "settings": on, "loop": name, "wall": wall / tokens, "cpu": cpu / tokens}
                    rows += [row | stages] if turn >= 0 else []
        for kind, values in peaks.items():
            values.append(matmul_rate(torch.float32 if kind == "float32" else torch.bfloat16, device=DEVICE))
    return {"rows": rows, "settings": settings, "peaks": {k: max(v) for k, v in peaks.items()}}


def summarize(measured: dict[str, Any], flops: float) -> dict[str, Any]:
    """Scores and the share of each stage, from the rounds."""
    scores, stages = {}, {}
    rows, clocks = pd.DataFrame(measured["rows"]).set_index("turn"), ["wall", "cpu"]
    parts = dict(list(rows.groupby(["settings", "loop"], sort=False)))
    for (on, name), own in parts.items():
        middle, suffix = own[[*clocks, *STAGES]].median(), "_set" if on else ""
        peak = measured["peaks"]["bf16" if name == "bf16" else "float32"]
        scores[f"{name}_tokens_per_second{suffix}"] = 1 / middle["cpu"]
        scores[f"{name}_of_peak{suffix}"] = flops / middle["cpu"] / peak
        if name != "plain":
            ratios = (parts[on, "plain"][clocks] / own[clocks]).median()
            scores |= {f"{name}_ratio{suffix}": ratios["wall"], f"{name}_cpu_ratio{suffix}": ratios["cpu"]}
        spent = middle[list(STAGES)]
        stages[name + suffix] = (spent / spent.sum()).round(3).to_dict()
    return {"scores": scores, "stages": stages}


def peak_memory(name: str, size: str) -> int:
    """Bytes that two steps of a loop take at their peak, above what a process has with everything imported."""
    shape, sequences = SIZES[size]
    make(NARROW | {"vocab_size": 3072}, sequences)  # text is tokenized and cached before the clock starts
    before, _ = memory_use(DEVICE)
    each = loop(name, shape, sequences)
    batches = each.batches(2)
    for _ in range(2):
        each.update(batches)
    return memory_use(DEVICE)[1] - before


def memory_scores(size: str, names: list[str]) -> dict[str, float]:
    """Peak of each loop, measured in a process of its own, and ratios to the plain one's."""
    peaks = {}
    for name in names:
        command = [sys.executable, __file__, "--size", size, "--memory", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[name] = json.loads(done.stdout.splitlines()[-1])
    scores = {f"{name}_memory_mb": peak / 1e6 for name, peak in peaks.items()}
    return scores | {f"{n}_memory_ratio": p / peaks["plain"] for n, p in peaks.items() if n != "plain"}


def bandwidth() -> float:
    """The best rate of five copies in memory, in bytes read and written per second of CPU time (on a GPU: wall)."""
    size = 2**28
    one, other = (torch.ones(size // 4, device=DEVICE) for _ in range(2))
    rates = []
    for _ in range(5):
        began = seconds()
        one.copy_(other)
        rates.append(2 * size / (seconds() - began))
    return max(rates)


def least_bytes(shape: dict[str, Any], layers: int, teacher_bytes: int) -> int:
    """The traffic of a step whose activations and logits never leave the cache, so that only weights are moved.

    The student's are read for the forward pass, their gradient is written, and AdamW reads both with two moments and
    writes all but the gradient: nine float32 numbers for each. The teacher's are read once, in its precision.
    """
    config = BertConfig(**shape)
    layer = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    words = config.vocab_size * config.hidden_size
    return 36 * (words + layers // 2 * layer) + teacher_bytes * (words + layers * layer)


def growth(names: list[str], rounds: int, steps: int) -> list[dict[str, Any]]:
    """The tokens and CPU seconds of a step, one knob turned at a time, and their bounds for each precision.

    A bound is the time that the operations would take at the measured matmul peak, or the least traffic at the measured
    bandwidth, whichever is longer.
    """
    precisions = {"float32": torch.float32, "bf16": torch.bfloat16}
    peaks = {name: matmul_rate(precisions[name], device=DEVICE) for name in names if name in precisions}
    rate, rows = bandwidth(), []
    for knob, value in ((knob, value) for knob, values in GROWTH.items() for value in values):
        point = USUAL | {knob: value}
        width, layers, tokens = point["width"], point["layers of the teacher"], point["sequences"] * SEQUENCE
        shape = {"hidden_size": width, "num_attention_heads": width // 32, "intermediate_size": 4 * width}
        shape |= {"vocab_size": point["vocabulary"]}
        loops = {name: loop(name, shape, point["sequences"], layers) for name in names}
        spent = {name: [] for name in names}
        for turn in range(rounds + 1):  # the first warms up
            for name, each in loops.items():
                batches, used = each.batches(steps), seconds()
                for _ in range(steps):
                    each.update(batches)
                if turn:
                    spent[name].append((seconds() - used) / steps)
        row = {name: min(times) for name, times in spent.items()}
        for name, peak in peaks.items():
            moved = least_bytes(shape, layers, 2 if name == "bf16" else 4)
            row[f"{name}_bound"] = max(tokens * flops_per_token(shape, layers) / peak, moved / rate)
        row = {name: float(f"{value:.4g}") for name, value in row.items()}
        rows.append({"knob": knob, "value": value, "tokens": tokens, **row})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=[*SIZES, "growth"], default="base")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="steps of each loop in a round (default: 1 at base, 3)")
    parser.add_argument("--memory", choices=["plain", "float32", "bf16"], help="only the peak of this loop, in bytes")
    options = parser.parse_args()
    if options.rounds < 1 or options.steps < 0:
        parser.error("rounds must be 1 or more, steps 0 or more")
    if options.memory:
        return print(peak_memory(options.memory, options.size))
    names = ["plain", "float32"] + (["bf16"] if DEVICE.type == "cuda" or fast_bf16() else [])
    watch, steps = Stopwatch(), options.steps or (1 if options.size == "base" else 3)
    if options.size == "growth":
        with applied(settings := probe()):
            values = {"growth": growth(names, options.rounds, steps), "settings": settings, "scores": {}}
    else:
        shape, _ = SIZES[options.size]
        values = {"loss_difference": check_equal_losses(shape)}
        measured = measure(options.size, options.rounds, steps, names)
        values |= summarize(measured, flops_per_token(shape)) | {k: measured[k] for k in ("settings", "peaks")}
        values["rounds"] = [
            {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items() if k not in STAGES}
            for row in measured["rows"]
        ]
        values["scores"] |= memory_scores(options.size, names)
    config = {"size": options.size, "rounds": options.rounds, "steps": steps, "sequence": SEQUENCE}
    config["sequences"] = SIZES.get(options.size, (0, 0))[1]
    about = {"scale": "base" if options.size == "base" else "toy", "model": "student", "stopwatch": watch}
    record = new_record("benchmark", f"benchmark-pretraining-{options.size}", **about, config=config, **values)
    path = save_record(record)
    print(tables.table([{"measured": key, "value": f"{value:.4g}"} for key, value in values["scores"].items()]))
    for name, shares in values.get("stages", {}).items():
        print(f"{name}: " + ", ".join(f"{stage} {share:.0%}" for stage, share in shares.items()))
    for row in values.get("growth", []):
        print(row)
    print(f"record: {path}")


if __name__ == "__main__":
    main()
