"""The options of the commands: one dataclass each, whose fields are the flags of `distilnb COMMAND --help`."""

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from .. import paths, scales
from ..distillation.recipe import PretrainingConfig
from ..models.student import chosen_layers
from ..settings import setting
from ..studies import ablation
from ..studies.benchmark import SHAPES
from ..studies.formats import FORMATS
from ..studies.runtimes import LENGTH, RUNTIMES
from ..tasks import glue, own
from ..tasks.finetuning import FinetuningConfig
from ..tasks.scored import scored_texts
from ..text import corpus
from ..text.sources import TextSource, parse_sources


@dataclass(frozen=True)
class RunOptions:
    """Options that every training command has."""

    scale: str = setting("", "the dial: toy, mini, small, base or paper; it sets the defaults of the rest")
    out: str = setting("", "folder of the records, and of the models that are kept (default: runs/)", place="runs")
    precision: str = setting("auto", "auto, no, bf16 or fp16; auto takes what the hardware is fast in")
    cpu: bool = setting(False, "use the processor even when there is a GPU")


@dataclass(frozen=True)
class TrainingOptions(RunOptions):
    """Options of the commands that read text."""

    out: str = setting(
        "",
        "folder for checkpoints and model (default: runs/NAME); a run found there is taken up again",
        place="and runs",
    )
    name: str = setting(
        "", "name of the run and of its record (default: the name of the folder that --out gives, else COMMAND-SCALE)"
    )
    text: str = setting(
        "", "toyworld, a file or folder, or a Hub data set NAME[:CONFIG[:SPLIT]]; join several with +", several="+"
    )
    text_column: str = setting("", "column of the text where it has columns (default: text, or a guess that is told)")
    encoding: str = setting("", "encoding of text files that are neither UTF-8 nor begin with a byte order mark")
    allow_unknown: bool = setting(False, "train also on text of which the vocabulary does not know a large share")
    leave_out: str = setting(
        "",
        "tasks joined by commas, also your own: documents that hold a text which one of them scores are left out",
        several=",",
    )

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return Path(self.out or paths.home() / "runs" / self.name)

    @property
    def sources(self) -> tuple[TextSource, ...]:
        """The sources of the text; ValueError for an unusable one."""
        return parse_sources(self.text, self.text_column, self.encoding)

    def read_text(
        self, tokenizer: PreTrainedTokenizerBase, seq_length: int, max_tokens: int | None, layout: str = "packed"
    ) -> corpus.Corpus:
        """The corpus in blocks of `seq_length` tokens, without documents that hold scored texts of `leave_out`."""
        return corpus.build_corpus(
            self.sources,
            tokenizer,
            seq_length=seq_length,
            layout=layout,
            max_tokens=max_tokens,
            without=scored_texts(self.leave_out, self.encoding),
            allow_unknown=self.allow_unknown,
        )


SHAPING = "layers", "n_layers", "width", "heads", "init", "token_types"  # settings of a new student


@dataclass(frozen=True)
class StudentOptions:
    """Options of `distilnb distil`: from which teacher which student is made."""

    teacher: str = setting(
        "",
        "a language model of a family that can be halved (BERT, RoBERTa, ModernBERT, GPT-2 and others): a folder or a "
        "Hub repository; random:FOLDER is the same network with random weights, to rehearse",
    )
    revision: str = setting("", "the teacher's revision on the Hub")
    student: str = setting("", "a student to train further, a folder of an earlier run, instead of a new one")
    width: int = setting(0, "width of the student (default: the teacher's, or that of --heads of the teacher's size)")
    heads: int = setting(0, "attention heads of the student (default: as many as keep the teacher's size)")
    dry_run: bool = setting(
        False, "count parameters, operations and what the text takes, and train nothing; reads no weights"
    )
    layers: str = setting("original", "original, every_other, first, last, or indices such as 0,2,4,7,9,11")
    n_layers: int = setting(0, "layers of the student (default: half the teacher's)")
    init: str = setting("teacher", "start from the teacher's layers or at random", choices=["teacher", "random"])
    token_types: str = setting("drop", "drop the token types, or fold type 0 into positions", choices=["drop", "fold"])

    def __post_init__(self) -> None:
        for name in ("n_layers", "width", "heads"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0")
        asked = [name for name in SHAPING if getattr(self, name) != getattr(type(self), name)]
        if self.student and asked:
            raise ValueError(f"--student trains a model that has its shape; leave out {', '.join(asked)}")

    def chosen_layers(self, teacher: PreTrainedConfig) -> tuple[int, ...]:
        """The teacher's layers that these options choose."""
        return chosen_layers(teacher, _layers(self.layers), self.n_layers or None)


@dataclass(frozen=True)
class TeacherOptions:
    """Options of `distilnb teacher`."""

    start: str = setting(
        "",
        "a model to train on, FOLDER or NAME@REVISION, with a new optimizer: only the stages of its depth are run; an "
        "encoder without a masked-word head is given one, which is trained alone first",
    )


def axis(text: str) -> Any:
    """A flag that takes several values; each value becomes one ablation variant."""
    return field(default_factory=list, metadata={"help": text + "; several values: a variant each"})


def jobs_flag(what: str) -> Any:
    """A flag for the number of processes that share the runs of a grid."""
    return setting(1, f"processes that share {what}, each on its part of the cores and with memory of its own")


@dataclass(frozen=True)
class AblationOptions:
    """Options of `distilnb ablate`: which variants, how often, at which budget."""

    teacher: str = setting("", "a language model of a family that can be halved: a folder or a Hub repository")
    revision: str = setting("", "the teacher's revision on the Hub")
    variants: str = setting(
        "",
        f"of {', '.join(ablation.VARIANTS)}, joined by commas (default: all, or triple and "
        "the values of an axis where one is given)",
        several=",",
    )
    seeds: int = setting(ablation.SEEDS, "how many seeds, from 0 on; every variant runs with each")
    temperature: list[float] = axis("axis: the temperature of L_ce")
    smoothing: list[float] = axis("axis: the exponent that favours rare words in masking; 0 is uniform")
    layers: list[str] = axis("axis: teacher layers that start the student, a name or indices such as 0,2,4,6,8,10")
    width: list[int] = axis("axis: the width of the student, such as 64 of a teacher's 128")
    heads: list[int] = axis("axis: its attention heads, at each --width, or without one of the teacher's size")
    ce_positions: list[str] = axis("axis: what L_ce covers, all or masked")
    weights: list[str] = axis("axis: the weights of L_ce, L_mlm and L_cos, such as 1,1,1")
    tokens: int = setting(1_000_000, "token budget of each distillation")
    learning_rate: float = setting(5e-4, "peak learning rate of each distillation")
    task: str = setting(
        ",".join(glue.GLUE),
        "tasks whose mean is the macro score, joined by commas; or your own, as for finetune",
        several=",",
    )
    source: str = setting("", "tasks of toyworld, or the real ones from the Hub", choices=["toyworld", "hub"])
    rows: int = setting(0, "training rows of each task; 0 is all")
    validation_rows: int = setting(0, "validation rows of each task; 0 is all")
    epochs: float = setting(3.0, "passes over the training rows in fine-tuning")
    finetuning_rate: float = setting(5e-5, "peak learning rate of fine-tuning")
    records: str = setting("", "folder of the records (default: runs/)", place="runs")
    jobs: int = jobs_flag("the cells")

    def settings(self, scale: scales.Scale) -> tuple[PretrainingConfig, FinetuningConfig]:
        """The settings of every cell's distillation and fine-tuning, apart from its variant's changes."""
        distilling = {"tokens": self.tokens, "learning_rate": self.learning_rate, "seed": 0}
        tuning = {"epochs": self.epochs, "learning_rate": self.finetuning_rate, "seed": 0}
        return (PretrainingConfig(**(scale.pretraining | distilling)), FinetuningConfig(**(scale.finetuning | tuning)))

    def chosen(self) -> list[ablation.Variant]:
        """The variants that these options name; ValueError for an unknown one."""
        names = [name.strip() for name in self.variants.split(",") if name.strip()]
        if unknown := [name for name in names if name not in ablation.VARIANTS]:
            raise ValueError(f"unknown variant '{unknown[0]}'; use some of {', '.join(ablation.VARIANTS)}")
        more = [
            *ablation.along("temperature", self.temperature),
            *ablation.along("smoothing", self.smoothing),
            *ablation.along("layers", [_layers(value) for value in self.layers]),
            *ablation.along("width", [] if self.heads else self.width),
            *ablation.along("heads", [(h, w) for w in self.width for h in self.heads] if self.width else self.heads),
            *ablation.along("positions", self.ce_positions),
            *ablation.along("weights", [_three(value) for value in self.weights]),
        ]
        names = names or ([ablation.REFERENCE] if more else list(ablation.VARIANTS))
        return [*(ablation.VARIANTS[name] for name in names), *more]


def _layers(text: str) -> str | tuple[int, ...]:
    """The name of a choice of layers, or their indices."""
    try:
        return tuple(int(i) for i in text.split(",")) if text[:1] in "-0123456789" else text
    except ValueError:
        raise ValueError(f"layers '{text}' are no indices; write them as 0,2,4,7,9,11") from None


def _three(text: str) -> tuple[float, ...]:
    try:
        ce, mlm, cos = (float(weight) for weight in text.split(","))
    except ValueError:
        raise ValueError(f"weights '{text}' are no three numbers; write L_ce, L_mlm and L_cos as 5,2,1") from None
    return ce, mlm, cos


def check_name(what: str, name: str) -> None:
    """Raise ValueError for a name that cannot be part of a file's name."""
    if not re.fullmatch(r"[\w.+-]+", name):
        raise ValueError(f"{what} is '{name}'; it becomes part of file names: use letters, digits and . + - _")


@dataclass(frozen=True)
class GridOptions:
    """Options of `distilnb finetune` and `distilnb glue`: which models on which tasks."""

    task: str = setting(
        "",
        f"one or several of {', '.join(own.KNOWN)}, joined by commas; or your own: a file "
        f"or folder ({', '.join(own.FORMATS)}, also packed) or a Hub data set NAME[:CONFIG]",
        several=",",
    )
    model: str = setting(
        "",
        "LABEL=FOLDER or LABEL=NAME@REVISION on the Hub, several joined by commas; LABEL=random:FOLDER for random "
        "weights (default: the scale's teacher and your students)",
        several=",",
    )
    seeds: int = setting(1, "how many seeds, from --seed on")
    source: str = setting("", "tasks of toyworld, or the real ones from the Hub", choices=["toyworld", "hub"])
    learning_rates: str = setting(
        "", "learning rates to choose from on a tenth of the training rows, joined by commas", several=","
    )
    trial_rows: int = setting(0, "training rows of each such trial (0: all)")
    trial_seeds: int = setting(1, "trials of each learning rate, with a seed each; the best mean is chosen")
    task_teacher: str = setting(
        "", "LABEL whose fine-tuned self teaches the other models once more, as in DistilBERT (D)"
    )
    train_rows: int = setting(0, "training rows of each task, drawn by seed 0 (0: all)")
    validation_rows: int = setting(0, "rows of each split that is scored (0: all)")
    suffix: str = setting("", "added to the names of these runs, so that two grids of one task stay apart")
    keep: bool = setting(False, "keep the fine-tuned models in runs/models")
    jobs: int = jobs_flag("the runs")
    allow_unequal: bool = setting(False, "compare students although they read unequal amounts of text")
    submission: str = setting(
        "", "folder for answers to GLUE's test splits by the first seed of each model", place=True
    )

    def __post_init__(self) -> None:
        for name in ("train_rows", "validation_rows", "trial_rows"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number of rows, or 0 for all")
        for name in ("seeds", "trial_seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least one is needed")
        check_name("--suffix", self.suffix or "a")

    def pairs(self) -> dict[str, str]:
        """The models as label → folder; ValueError for words of another form."""
        parts = [part.strip().partition("=")[::2] for part in self.model.split(",") if part.strip()]
        if not parts or not all(folder for _, folder in parts):
            raise ValueError(f"--model '{self.model}' names no models; write LABEL=FOLDER, several joined by commas")
        for i, (label, _) in enumerate(parts):
            check_name("the label of a model", label)
            if label in dict(parts[:i]):
                raise ValueError(f"--model gives the label '{label}' to two models; their records would be one")
        return {label: os.path.expanduser(folder) for label, folder in parts}  # no shell does so behind a "="

    def rates(self) -> list[float]:
        """The different learning rates among which each model chooses."""
        try:
            rates = [float(rate) for rate in self.learning_rates.split(",") if rate]
        except ValueError:
            raise ValueError(f"learning rates '{self.learning_rates}' are no numbers; write 1e-3,3e-4") from None
        if not all(0 < rate < math.inf for rate in rates):
            raise ValueError(f"learning rates '{self.learning_rates}': each must be a number above 0")
        return list(dict.fromkeys(rates))


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of `distilnb benchmark`: what is timed."""

    scale: str = setting("", "the dial: toy, mini, small, base or paper; it names the teacher")
    teacher: str = setting(
        "",
        "a language model of a family that can be halved: a folder, a Hub repository, or random:base (BERT-base with "
        "random weights, offline)",
    )
    student: str = setting("", "its student: a folder or Hub repository (default: half of the teacher's layers)")
    shape: str = setting("pairs", "pairs as in Table 3, or qa as on the paper's phone", choices=list(SHAPES))
    source: str = setting("", "texts of toyworld, or the real ones from the Hub", choices=["toyworld", "hub"])
    formats: str = setting(",".join(FORMATS), "formats to compare, joined by commas", several=",")
    runtimes: str = setting(
        "", f"further runtimes to compare: some of {', '.join(RUNTIMES)}, joined by commas", several=","
    )
    scored: str = setting(
        "",
        "a student, fine-tuned in toyworld to score the formats (default: the shipped one); with --scored-task the "
        "folder of a fine-tuned model, in which {task} and {model} stand for each task, and for student and teacher "
        "(default: the student's that `distilnb glue --keep` kept)",
    )
    scored_task: str = setting(
        "",
        "score models, fine-tuned already, on the rows of these tasks, joined by commas, or of your own",
        several=",",
    )
    scored_rows: int = setting(500, "rows they are scored on (0: none, but with --scored-task all)")
    choosing_rows: int = setting(600, "training rows of each --scored-task that choose a rounding to int8 (0: none)")
    name: str = setting("", "name of the record (default: benchmark-SCALE-SHAPE)")


@dataclass(frozen=True)
class ExportOptions:
    """Options of `distilnb export`."""

    model: str = setting("", "a model of a family that can be halved, with any head: a folder or a Hub repository")
    format: str = setting(
        "onnx",
        f"{', '.join(['onnx', *RUNTIMES])}, or one file of one, such as onnx_int8; joined by commas",
        several=",",
    )
    length: int = setting(LENGTH, "word pieces of a text, where a format has but one length (litert, coreml)")
    task: str = setting("", "the model's task, or your own as for finetune: its training rows choose int8's rounding")
    source: str = setting("hub", "rows of toyworld, or the real ones from the Hub", choices=["toyworld", "hub"])
    rows: int = setting(400, "training rows of the task, of which each second one chooses (0: all)")
    out: str = setting("", "folder for the files (default: runs/export)", place=True)


@dataclass(frozen=True)
class DemoOptions:
    """Options of `distilnb demo`."""

    teacher: str = setting("", "a masked language model: a folder or a Hub repository (default: the shipped mini one)")
    student: str = setting("", "its student (default: the shipped one)")
    twin: str = setting("", "a student without a teacher, to compare (default: the shipped one; none: leave it out)")
    out: str = setting("", "folder to write (default: runs/demo)", place=True)
    full: bool = setting(False, "add BERT-base and DistilBERT with random weights, to be timed on request")
    cdn: bool = setting(False, "let the page take its runtime from a CDN, by its hash, although npm is here")


@dataclass(frozen=True)
class PublishOptions:
    """Options of `distilnb publish`."""

    model: str = setting("", "folder of the model with its record.json (default: the shipped toy student)")
    repo: str = setting("", "repository of the Hub to upload to, owner/name; made where there is none")
    out: str = setting("", "folder to write (default: runs/publish/NAME)", place="runs")
    license: str = setting("apache-2.0", "licence of the weights, as the Hub spells it")
    language: str = setting("en", "language of the texts, as the Hub spells it")
    private: bool = setting(False, "make the repository private")
    dry_run: bool = setting(False, "write the folder and upload nothing")


@dataclass(frozen=True)
class NotebookOptions:
    """Options of `distilnb run`: which notebooks are executed, and where to."""

    scale: str = setting("", "the dial: toy, mini, small, base or paper")
    only: list[str] = field(default_factory=list, metadata={"help": "numbers of the notebooks to run"})
    in_place: bool = setting(False, "write the outputs into notebooks/ itself")
    solutions: bool = setting(False, "run notebooks/solutions/ instead")


@dataclass(frozen=True)
class ChainOptions:
    """Options of `distilnb evidence`: which steps of a scale's chain are run."""

    scale: str = setting("", "the dial: toy, mini, small, base or paper")
    jobs: int = setting(1, "steps side by side")
    only: list[str] = field(default_factory=list, metadata={"help": "these steps alone, by name"})
    dry_run: bool = setting(False, "print the steps and their cost, and run nothing")

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ValueError(f"--jobs is {self.jobs}; it must be 1 or more")


@dataclass(frozen=True)
class ReportOptions:
    """Options of `distilnb report`."""

    add: str = setting("", "a result that the page of `distilnb demo` saved on your device: kept among your runs")
    out: str = setting("", "folder to write to (default: runs/report)", place="runs")


@dataclass(frozen=True)
class UnpackOptions:
    """Options of `distilnb notebooks`."""

    to: str = setting("notebooks", "folder to copy the notebooks to", place=True)


@dataclass(frozen=True)
class LinkOptions:
    """Options of `distilnb links`."""

    repo: str = setting("", "owner/name on GitHub (default: what pyproject.toml says)")


@dataclass(frozen=True)
class CeilingOptions:
    """Options of `distilnb ceilings`."""

    tokenizer: str = setting(
        f"{scales.BERT_BASE}@{scales.BERT_BASE_REVISION}", "whose pieces are counted: a folder, or NAME@REVISION"
    )
    out: str = setting("", "folder of the record (default: runs/)", place="runs")
