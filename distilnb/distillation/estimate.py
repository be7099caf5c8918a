"""Estimates of a run's time, memory, disk and energy, measured before it starts or computed by formula."""

from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..machine.device import assumed_watts, memory_use, now, write_rate
from ..machine.progress import duration
from ..models import families
from ..models.arithmetic import GPUS, UTILISATION, distillation_flops, hours, parameter_groups
from ..text.masking import IGNORE
from .evaluation import masked_logits
from .recipe import PretrainingConfig
from .step import Distillation

STATE = 8  # bytes that AdamW keeps for a parameter


@dataclass(frozen=True)
class Estimate:
    """The expected cost of a run, measured on this machine before it starts; power and price come from the settings."""

    seconds: float
    memory_bytes: float
    disk_bytes: float
    tokens_per_second: float
    watts: float = 0.0
    kwh_price: float = 0.0

    @property
    def kwh(self) -> float:
        """The energy in kWh, at constant power."""
        return self.watts * self.seconds / 3.6e6

    def __str__(self) -> str:
        sentence = (
            f"estimate: about {duration(self.seconds)} at {self.tokens_per_second:,.0f} tokens/s, "
            f"{self.memory_bytes / 2**30:.1f} GiB of memory, {self.disk_bytes / 2**20:.0f} MiB of checkpoints"
        )
        if self.kwh < 0.01:  # less than anyone is billed for
            energy = f", {1000 * self.kwh:.2g} Wh ({self.watts:.0f} W assumed)"
        else:
            price = f"{self.kwh * self.kwh_price:.2g} at {self.kwh_price:g} a kWh"
            energy = f", {self.kwh:.2g} kWh ({self.watts:.0f} W assumed), which costs {price}"
        return sentence + (energy if self.watts else "")


def estimate_passes(
    step: Distillation, batch: dict[str, Tensor], accelerator: Accelerator, tokens: int, trials: int = 2
) -> Estimate:
    """The time and memory of `tokens` tokens, timed on passes over one micro-batch after a warm-up; nothing is updated.

    Memory is the expected peak of this process (or of the GPU), including the optimizer's state, which is taken not to
    be there yet, and, on a CPU, the copy of it that saving makes.
    """
    seen, device = int(batch["attention_mask"].sum()), accelerator.device
    for trial in range(trials + 1):
        if trial == 1:
            began = now(device)
        try:
            with accelerator.autocast():
                loss, _ = step(batch, seen, max(1, int((batch["labels"] != IGNORE).sum())))
            loss.backward()  # not by accelerate, whose scaler is left as it is
        finally:  # also where memory ran out in the middle, because an update adds to the gradients that are there
            step.zero_grad()
    rate = accelerator.num_processes * seen * trials / (now(device) - began)
    own = sum(p.numel() for p in step.student.parameters())
    held, peak = memory_use(device)
    saving = STATE * own if device.type == "cpu" else 0
    return Estimate(tokens / rate, max(peak, held + saving) + STATE * own, 2 * 12 * own, rate)


def estimate_run(
    step: Distillation,
    batch: dict[str, Tensor],
    accelerator: Accelerator,
    config: PretrainingConfig,
    *,
    tokens: int,
    updates: int,
    evaluations: int,
    heldout_rows: int,
    folder: Path | None,
) -> Estimate:
    """The time, memory and disk of the rest of a run: passes, optimizer, held-out evaluations and checkpoints.

    No other process is waited for, so that one process alone may call this.
    """
    device, own = accelerator.device, sum(p.numel() for p in step.student.parameters())
    passes = estimate_passes(step, batch, accelerator, tokens)
    training = passes.seconds + updates * optimizer_seconds(own, device)
    share = heldout_rows / len(batch["input_ids"]) / accelerator.num_processes
    judging = share * evaluations * reading_seconds(step.student, batch, accelerator)
    if step.teacher is not None:
        judging += share * reading_seconds(step.teacher, batch, accelerator)  # once: its guesses are kept
    memory = max(passes.memory_bytes, memory_use(device)[1] + STATE * own)  # with evaluation
    saves = 1 + (updates // config.checkpoint_every if config.checkpoint_every else 0)
    saves += training / 60 / config.checkpoint_minutes
    kept, saving = min(int(saves), config.keep), 0.0
    if folder:
        saving = saves * 12 * own / write_rate(folder, min(2**23, 12 * own))
    watts = config.watts or assumed_watts(device.type == "cuda")
    seconds, disk = training + judging + saving, kept * 12 * own if folder else 0
    return Estimate(seconds, memory, disk, tokens / training, watts, config.kwh_price)


def reading_seconds(model: PreTrainedModel, batch: dict[str, Tensor], accelerator: Accelerator) -> float:
    """Seconds in which a model reads a micro-batch and names the masked words."""
    began = now(accelerator.device)
    for _ in masked_logits(model, batch, accelerator):
        pass
    return now(accelerator.device) - began


def optimizer_seconds(parameters: int, device: torch.device, tried: int = 2**20) -> float:
    """Seconds for gradient clipping and one AdamW step, extrapolated from a million parameters."""
    made = nn.Parameter(torch.zeros(tried, device=device))
    made.grad = torch.zeros_like(made)
    optimizer = torch.optim.AdamW([made], fused=True)
    for _ in range(2):  # the first pass creates the optimizer's state
        began = now(device)
        nn.utils.clip_grad_norm_([made], 1.0)
        optimizer.step()
    return (now(device) - began) * parameters / tried


def counted(student: PreTrainedConfig, teacher: PreTrainedConfig, config: PretrainingConfig, processes: int = 1) -> str:
    """The sizes, operations, hours and memory of a run, computed from the configurations without loading anything.

    Hours assume `arithmetic.UTILISATION` of a GPU's rated peak. Memory is that of weights, gradients and AdamW's state
    in float32, without activations.
    """
    groups = [parameter_groups(each) for each in (teacher, student)]
    own, theirs = sum(groups[1].values()), sum(groups[0].values())
    head = 1.0 if config.ce and config.positions == "all" else config.mask_probability
    flops = distillation_flops(student, teacher, config.tokens, config.seq_length, head)
    first = distillation_flops(student, teacher, 1, config.seq_length, head)
    count = "one" if processes == 1 else str(processes)
    times = ", ".join(f"{hours(flops, gpu) / processes:.1f} h on {count} {gpu}" for gpu in GPUS)
    rows = [f"{'parameters':24}{'teacher':>14}{'student':>14}"]
    names = dict.fromkeys((*groups[0], *groups[1]))
    rows += [f"{name:24}{groups[0].get(name, 0):>14,}{groups[1].get(name, 0):>14,}" for name in names]
    rows += [f"{'all':24}{theirs:>14,}{own:>14,}"]
    kinds = getattr(student, "layer_types", None)
    seen = ", ".join("all" if kind == "full_attention" else "local" for kind in kinds or ())
    return "\n".join(
        [
            f"teacher: {families.of(teacher).name}, {teacher.num_hidden_layers} layers, width {teacher.hidden_size}",
            f"student: {families.of(student).name}, {student.num_hidden_layers} layers, width {student.hidden_size}, "
            f"{100 * own / theirs:.0f} % of its teacher's parameters",
            *([f"its layers see: {seen}"] if seen else []),
            *rows,
            f"{config.tokens:,} tokens at {first / 1e6:,.0f} million operations each: {times} (an estimate, at "
            f"{100 * UTILISATION:.0f} % of the rated peak)",
            *([f"{4 * own / 1e6:.0f} MB of gradients to exchange, an update"] if processes > 1 else []),
            f"memory without activations: {(16 * own + 4 * theirs) / 2**30:.1f} GiB; checkpoints: "
            f"{config.keep * 12 * own / 2**30:.1f} GiB of disk",
        ]
    )
