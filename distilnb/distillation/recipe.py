"""The settings of a pre-training run: everything that changes what is learned, how fast, or what is saved of it."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from ..settings import setting
from ..text.corpus import Corpus
from .losses import LossWeights, check_temperature

# between two sittings of one run
MAY_CHANGE = (
    "workers",
    "checkpoint_every",
    "checkpoint_minutes",
    "keep",
    "backup",
    "max_skipped",
    "watts",
    "kwh_price",
)

RANGES = (  # settings, what their values are, and whether one is such a value; nan is none
    (
        "tokens seq_length batch_size micro_batch_size learning_rate clip keep max_skipped checkpoint_minutes",
        "above 0 and finite",
        lambda value: 0 < value < math.inf,
    ),
    (
        "weight_decay smoothing workers watts kwh_price evaluate_every checkpoint_every",
        "at least 0 and finite",
        lambda value: 0 <= value < math.inf,
    ),
    ("seed", "a whole number from 0 to below 2**63", lambda value: 0 <= value < 2**63),
    ("warmup", "a share of the updates, from 0 to below 1", lambda value: 0 <= value < 1),
    ("mask_probability", "a share of the tokens, between 0 and 1 (BERT's is 0.15)", lambda value: 0 < value < 1),
    ("positions", "'all' or 'masked'", ("all", "masked").__contains__),
    ("layout", "'packed' or 'grouped'", ("packed", "grouped").__contains__),
)


@dataclass(frozen=True)
class PretrainingConfig:
    """The settings of a pre-training run; defaults are the original code's single-GPU recipe where it has one."""

    tokens: int = setting(1_000_000, "token budget: tokens seen by the student, padding not counted")
    seq_length: int = setting(128, "tokens per block (the original: 512)")
    batch_size: int = setting(64, "sequences per update, over all processes (the paper: up to 4K)")
    micro_batch_size: int = setting(16, "sequences per forward pass and process, at most; the rest is accumulated")
    learning_rate: float = setting(5e-4, "peak learning rate of AdamW")
    warmup: float = setting(0.05, "share of the updates in which the rate climbs; then it falls to 0")
    weight_decay: float = setting(0.0, "AdamW's decoupled weight decay")
    clip: float = setting(5.0, "gradient norm above which gradients are scaled down")
    temperature: float = setting(2.0, "softens both distributions in L_ce")
    ce: float = setting(5.0, "weight of L_ce, the soft targets")
    mlm: float = setting(2.0, "weight of L_mlm, masked language modelling; of a causal model, L_clm")
    cos: float = setting(1.0, "weight of L_cos, the direction of hidden states")
    positions: str = setting("all", "what L_ce covers: all tokens, or masked ones only", choices=["all", "masked"])
    mask_probability: float = setting(0.15, "share of tokens chosen for masking")
    smoothing: float = setting(0.7, "exponent that favours rare words in masking; 0 is uniform")
    layout: str = setting("packed", "packed blocks, or documents grouped by length", choices=["packed", "grouped"])
    seed: int = setting(56, "fixes order, masks and dropout (56 in the original)")
    workers: int = setting(0, "processes that prepare batches; the result does not depend on it")
    watts: float = setting(0.0, "power the machine draws, for the estimate (0: 65 W, with a GPU 300 W, an assumption)")
    kwh_price: float = setting(0.3, "price of a kWh, for the estimate (an assumption, in your currency)")
    evaluate_every: int = setting(0, "updates between held-out evaluations; 0 is about ten in a run")
    checkpoint_every: int = setting(0, "updates between checkpoints; 0 is by minutes only")
    checkpoint_minutes: float = setting(10.0, "minutes between checkpoints")
    keep: int = setting(2, "checkpoints that are kept")
    backup: str = setting(
        "",
        "folder, such as a mounted Drive, that each checkpoint is copied to as one file; a run "
        "whose own folder is lost goes on from there",
        place=True,
    )
    max_skipped: int = setting(10, "updates in a row without a finite loss and gradient after which the run stops")

    def __post_init__(self) -> None:
        LossWeights(self.ce, self.mlm, self.cos)
        check_temperature(self.temperature)
        for names, what, fits in RANGES:
            for name in names.split():
                if not fits(value := getattr(self, name)):
                    raise ValueError(f"{name} is {value}; it must be {what}")

    @property
    def weights(self) -> LossWeights:
        """The three loss weights."""
        return LossWeights(self.ce, self.mlm, self.cos)

    @property
    def binding(self) -> dict[str, Any]:
        """The settings that all sittings and all processes of a run must have in common."""
        return {name: value for name, value in asdict(self).items() if name not in MAY_CHANGE}

    def steps(self, corpus: Corpus) -> int:
        """The number of updates that use up the token budget, for this corpus's mean length."""
        return max(1, math.ceil(self.tokens / (self.batch_size * float(corpus.train_lengths.mean()))))

    def rows(self, processes: int) -> int:
        """The sequences in a forward pass of each of `processes` processes, at most its share of an update."""
        return max(1, min(self.micro_batch_size, self.batch_size // processes))

    def learning_rate_at(self, step: int, steps: int) -> float:
        """The learning rate: a linear rise over the first `warmup` share of the updates, then a linear fall to zero."""
        climb = max(1, round(self.warmup * steps))
        return self.learning_rate * min((step + 1) / climb, (steps - step) / max(1, steps - climb))
