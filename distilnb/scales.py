"""The one dial: the size of everything in a run, from a laptop's minutes to the paper's eight GPUs.

`DISTILNB_SCALE` (or `--scale`) is read here and nowhere else; single settings can still be given one by one. With
`DISTILNB_SHORT`, what notebooks train, time and score themselves becomes too small to say anything: for tests.
"""

import os
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from . import paths

WIKIPEDIA = "stream=wikimedia/wikipedia:20231101.en@b04c8d1ceb2f5cd4588862100d08de323dccfbaa"
IMDB, IMDB_REVISION = "stanfordnlp/imdb", "e6281661ce1c48d982bc483cf8a173c1bbeb5d31"
REVIEWS = f"{IMDB}:plain_text:unsupervised@{IMDB_REVISION}"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
BERT_BASE = "google-bert/bert-base-uncased"
BERT_BASE_REVISION = "86b5e0934494bd15c9632b12f734a8a67f723594"
DISTILBERT = "distilbert/distilbert-base-uncased"
DISTILBERT_REVISION = "12040accade4e8a0f71eabdb258fecc2e7e948be"


class Stage(NamedTuple):
    """One stage of a teacher's growth: number of layers (0: unchanged), learning rate, batch shape and token budget.

    `part` is what is trained: all weights, or a new masked-word head alone (`growth.train_only`).
    """

    layers: int
    learning_rate: float
    seq_length: int
    batch_size: int
    tokens: int
    part: str = "all"

    def title(self, depth: int) -> str:
        """The stage's part of a record's name, for a model of `depth` layers."""
        return f"{depth} layers" + (", head alone" if self.part == "head" else "")


HEAD = Stage(0, 2e-3, 128, 32, 1_000_000, "head")  # the first stage of an encoder without a masked-word head
WHOLE = Stage(0, 5e-4, 128, 32, 19_000_000)  # of a model of any depth


@dataclass(frozen=True)
class Scale:
    """All that one setting of the dial fixes.

    `teacher` is a folder or Hub repository, `text` a source for `sources.parse_sources`, `corpus_tokens` the tokens of
    it that are used (None: all). `pretraining` are settings of `PretrainingConfig`, `finetuning` of
    `FinetuningConfig`, `ablation` options of `distilnb ablate`. A teacher of this scale has the sizes `teacher_shape`
    and is grown in `teacher_stages`; where `teacher` is an `encoder` without a masked-word head, the stages give it
    one. Documents that hold a scored row of the tasks `leave_out` are left out of the text. `lesson` has the sizes of
    what a notebook trains, times and scores itself where those are not the scale's own.
    """

    name: str
    teacher: str
    text: str
    corpus_tokens: int | None
    pretraining: dict[str, Any]
    hardware: str
    revision: str | None = None
    precision: str = "auto"
    teacher_shape: dict[str, Any] = field(default_factory=dict)
    teacher_stages: tuple[Stage, ...] = ()
    finetuning: dict[str, Any] = field(default_factory=dict)
    ablation: dict[str, Any] = field(default_factory=dict)
    teacher_text: str = "toyworld"
    teacher_corpus_tokens: int | None = None
    teacher_pretraining: dict[str, Any] = field(default_factory=dict)
    encoder: bool = False
    leave_out: str = ""
    lesson: dict[str, int] = field(default_factory=lambda: dict(LESSON))

    @property
    def source(self) -> str:
        """The source of the tasks: "toyworld", or "hub" for real ones."""
        return "toyworld" if self.text == "toyworld" else "hub"


LESSON = {"rows": 200, "format_rows": 50, "scored_rows": 400}
SHORT = {"tokens": 8_000, "rows": 20, "format_rows": 10, "scored_rows": 32}
NARROW = {"hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 512, "initializer_range": 0.05}
SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            "toy",
            str(paths.data("teachers", "toy")),
            "toyworld",
            2_000_000,
            {"tokens": 1_000_000, "seq_length": 64, "batch_size": 32, "micro_batch_size": 32, "learning_rate": 1e-3},
            "any laptop, minutes",
            finetuning={"epochs": 2.0, "batch_size": 16, "learning_rate": 3e-4, "max_length": 128},
            ablation={
                "task": "cola,qnli,qqp",
                "tokens": 200_000,
                "epochs": 2,
                "finetuning_rate": 3e-4,
                "validation_rows": 1000,
            },
            teacher_shape=NARROW | {"vocab_size": 3072, "max_position_embeddings": 512},
            teacher_corpus_tokens=8_000_000,
            teacher_stages=(
                Stage(3, 2e-3, 64, 16, 2_000_000),
                Stage(6, 1.5e-3, 64, 16, 2_000_000),
                Stage(12, 1e-3, 64, 16, 6_000_000),
                Stage(12, 5e-4, 256, 16, 2_000_000),
            ),
            teacher_pretraining={"mask_probability": 0.3},
            lesson=LESSON | {"tokens": 300_000},
        ),
        Scale(
            "mini",
            str(paths.data("teachers", "mini")),
            f"{WIKIPEDIA}+{REVIEWS}",
            30_000_000,
            {"tokens": 20_000_000, "seq_length": 128, "batch_size": 64, "micro_batch_size": 32, "learning_rate": 1e-3},
            "CPU hours, or minutes of a T4",
            finetuning={"learning_rate": 3e-4},  # that of the published runs without trials; 5e-5 is for BERT's width
            ablation={
                "task": "cola,sst2,mrpc,stsb,rte",
                "tokens": 2_500_000,
                "rows": 8000,
                "epochs": 2,
                "finetuning_rate": 5e-4,
            },
            teacher_shape=NARROW | {"vocab_size": 8192, "max_position_embeddings": 512},
            teacher_text=f"{WIKIPEDIA}+{REVIEWS}",
            teacher_corpus_tokens=60_000_000,
            teacher_stages=(
                Stage(3, 1e-3, 64, 16, 8_000_000),
                Stage(6, 1e-3, 64, 32, 12_000_000),
                Stage(12, 1e-3, 64, 64, 120_000_000),
                Stage(12, 3e-4, 128, 32, 20_000_000),
            ),
            teacher_pretraining={"mask_probability": 0.3, "smoothing": 0.0},
        ),
        Scale(
            "small",
            MINILM,
            f"{WIKIPEDIA}+{REVIEWS}",
            60_000_000,
            {
                "tokens": 20_000_000,
                "seq_length": 128,
                "batch_size": 32,
                "micro_batch_size": 32,
                "learning_rate": 5e-4,
                "checkpoint_minutes": 5.0,
            },
            "days of two cores, or minutes of a GPU",
            MINILM_REVISION,
            ablation={
                "task": "cola,sst2,mrpc,stsb,rte",
                "tokens": 2_500_000,
                "rows": 8000,
                "epochs": 2,
                "finetuning_rate": 3e-4,  # the best of the three on average, in the trials of student, twin and start
            },
            teacher_shape={
                "num_hidden_layers": 6,
                "hidden_size": 384,
                "num_attention_heads": 12,
                "intermediate_size": 1536,
            },
            teacher_text=f"{WIKIPEDIA}+{REVIEWS}",
            teacher_corpus_tokens=60_000_000,
            teacher_stages=(HEAD, WHOLE),
            teacher_pretraining={"mask_probability": 0.2, "smoothing": 0.0, "checkpoint_minutes": 5.0},
            encoder=True,
            leave_out="cola,sst2,mrpc,stsb,rte,wnli,qnli,qqp,mnli,imdb,squad",
        ),
        Scale(
            "base",
            BERT_BASE,
            WIKIPEDIA,
            120_000_000,
            {"tokens": 100_000_000, "seq_length": 128, "batch_size": 256, "micro_batch_size": 64},
            "one Colab GPU, hours",
            BERT_BASE_REVISION,
        ),
        Scale(
            "paper",
            BERT_BASE,
            WIKIPEDIA.removeprefix("stream="),
            None,
            {"tokens": 3 * 3_300_000_000, "seq_length": 512, "batch_size": 4096, "micro_batch_size": 32},
            "eight GPUs, accelerate launch",
            BERT_BASE_REVISION,
        ),
    )
}


def get(name: str | None = None) -> Scale:
    """The scale called `name`, else the one in `$DISTILNB_SCALE`, else toy; ValueError for an unknown name."""
    name = name or os.environ.get("DISTILNB_SCALE") or "toy"
    if name not in SCALES:
        raise ValueError(f"unknown scale '{name}'; use one of {', '.join(SCALES)}")
    return replace(SCALES[name], lesson=SHORT) if os.environ.get("DISTILNB_SHORT") else SCALES[name]
