"""What a run will take, measured before it starts: time, memory, disk, energy."""

from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..machine.device import memory, now, write_rate
from ..machine.progress import duration
from ..text.masking import IGNORE
from .step import Distillation


@dataclass(frozen=True)
class Estimate:
    """What a run will take, measured on this machine before it starts. Power and price are the settings' word."""

    seconds: float
    memory_bytes: float
    disk_bytes: float
    tokens_per_second: float
    watts: float = 0.0
    kwh_price: float = 0.0

    @property
    def kwh(self) -> float:
        """Energy, at constant power."""
        return self.watts * self.seconds / 3.6e6

    def __str__(self) -> str:
        said = (
            f"estimate: about {duration(self.seconds)} at {self.tokens_per_second:,.0f} tokens/s, "
            f"{self.memory_bytes / 2**30:.1f} GiB of memory, {self.disk_bytes / 2**20:.0f} MiB of checkpoints"
        )
        energy = (
            f", {self.kwh:.2g} kWh for {self.kwh * self.kwh_price:.2g} (assumed: {self.watts:.0f} W, "
            f"{self.kwh_price:g} a kWh)"
        )
        return said + (energy if self.watts else "")


def estimate_passes(
    step: Distillation, batch: dict[str, Tensor], accelerator: Accelerator, tokens: int, trials: int = 2
) -> Estimate:
    """Time and memory of forward and backward passes of one micro-batch (after one to warm up); nothing is updated.

    Memory is the most that this process will have held (on a GPU: that the GPU will have), with the optimizer's state
    and, on a CPU, the copy that saving makes of it.
    """
    seen, device = int(batch["attention_mask"].sum()), accelerator.device
    for trial in range(trials + 1):
        if trial == 1:
            began = now(device)
        with accelerator.autocast():
            loss, _ = step(batch, seen, max(1, int((batch["labels"] != IGNORE).sum())))
        loss.backward()
        step.zero_grad()
    rate = accelerator.num_processes * seen * trials / (now(device) - began)
    own = sum(p.numel() for p in step.student.parameters())
    held, peak = memory(device)
    saving = 8 * own if device.type == "cpu" else 0
    return Estimate(tokens / rate, max(peak, held + saving) + 8 * own, 2 * 12 * own, rate)


def estimate_run(run: Any, batch: dict[str, Tensor], tokens: int) -> Estimate:
    """What is left of a `pretraining.Run`, `tokens` tokens: passes, optimizer, held-out evaluations and checkpoints.

    Nothing in it waits for other processes, so that one alone may ask.
    """
    config, device, step = run.config, run.accelerator.device, run.accelerator.unwrap_model(run.module)
    passes = estimate_passes(step, batch, run.accelerator, tokens)
    updates, own = run.steps - run.step, sum(p.numel() for p in run.names)
    training = passes.seconds + updates * _optimizer_seconds(own, device)
    began = now(device)
    with torch.no_grad(), run.accelerator.autocast():
        step(batch, 1.0, 1.0)
    share = min(256, len(run.corpus.heldout)) / len(batch["input_ids"]) / run.accelerator.num_processes
    every = config.evaluate_every or max(1, run.steps // 10)
    judging = (updates // every + 1) * share * (now(device) - began)
    saves = 1 + training / 60 / config.checkpoint_minutes
    saves += updates // config.checkpoint_every if config.checkpoint_every else 0
    kept, saving = min(int(saves), config.keep), 0.0
    if run.folder:
        saving = saves * 12 * own / write_rate(run.folder, min(2**23, 12 * own))
    watts = config.watts or (300.0 if device.type == "cuda" else 65.0)
    return Estimate(
        training + judging + saving,
        passes.memory_bytes,
        kept * 12 * own if run.folder else 0,
        tokens / training,
        watts,
        config.kwh_price,
    )


def _optimizer_seconds(parameters: int, device: torch.device, tried: int = 2**20) -> float:
    """Seconds of clipping and of an AdamW step, judged by one on a million parameters."""
    made = nn.Parameter(torch.zeros(tried, device=device))
    made.grad = torch.zeros_like(made)
    optimizer = torch.optim.AdamW([made], fused=True)
    for _ in range(2):  # the first makes the optimizer's state
        began = now(device)
        nn.utils.clip_grad_norm_([made], 1.0)
        optimizer.step()
    return (now(device) - began) * parameters / tried
