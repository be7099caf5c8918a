"""The commands that pre-train: `distil` and `teacher`."""

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import BertConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from .. import paths, scales
from ..distillation.batches import make_samples
from ..distillation.estimate import counted
from ..distillation.growing import Growth, grow_teacher, stage_settings
from ..distillation.loop import check_output, check_positions, check_shares, pretrain
from ..distillation.recipe import PretrainingConfig
from ..distillation.training import check_hosts
from ..evidence.names import REHEARSAL, pretraining_run
from ..evidence.records import load_record, save_record
from ..machine import files, processes
from ..machine.device import make_accelerator, use_fast_settings
from ..models import dropout, families
from ..models.growth import new_teacher
from ..models.narrowing import narrow_config
from ..models.sources import (
    further,
    is_random,
    load_tokenizer,
    read_config,
    read_teacher,
    ready_teacher,
    shipped_name,
    trained_record,
)
from ..models.student import build_student, student_config
from ..models.teacher import load_encoder
from ..report import tables
from ..scales import Scale
from ..text import corpus
from ..text.corpus import corpus_budget, make_tokenizer
from ..text.forecast import forecast
from .options import StudentOptions, TeacherOptions, TrainingOptions
from .parsing import command


def _names(role: str, dial: Scale, out: str | None) -> dict[str, str]:
    """The defaults of every run; an unnamed one is called after its folder, else after its kind and scale."""
    name = Path(out).resolve().name if out else pretraining_run(role, dial.name)
    return {"scale": dial.name, "name": name, "leave_out": dial.leave_out}


def _distil_defaults(scale: str | None, out: str | None) -> dict[str, Any]:
    dial = scales.get(scale)
    models = {"text": dial.text, "teacher": ready_teacher(dial)}
    return _names("student", dial, out) | models | dial.pretraining


def _meet(where: TrainingOptions, config: PretrainingConfig) -> Accelerator:
    """The accelerator, after the processes have met; processes of other settings or libraries are refused.

    They are refused here because preparing text takes hours; the text itself is compared before training.
    """
    accelerator = make_accelerator(where.precision, where.cpu)
    check_hosts(accelerator, config.binding)
    return accelerator


@command(_distil_defaults)
def distil(where: TrainingOptions, what: StudentOptions, config: PretrainingConfig) -> None:
    """Distil a student from a teacher by the triple loss (paper section 2).

    The student has the teacher's class with half the layers; a BERT's is a DistilBERT. The causal GPT-2 learns the next
    word (L_clm) instead. --dry-run counts from the configuration, forecasts the text from a sample, and trains nothing.

    examples:
      distilnb distil --scale toy
      distilnb distil --scale mini --teacher google-bert/bert-base-uncased --tokens 2000000
      distilnb distil --scale toy --ce 0 --name without-soft-targets        one row of the ablation
      distilnb distil --scale toy --width 64 --heads 2 --name narrow        half as wide as its teacher too
      distilnb distil --scale toy --student runs/distil-toy/model --name further       more of the same
      distilnb distil --scale base --teacher random:google-bert/bert-base-uncased --tokens 20000     a rehearsal
      distilnb distil --scale base --teacher FacebookAI/roberta-base --revision e2da8e2f811d1448a5b465c236feacd80ffbac7b
      distilnb distil --scale base --teacher answerdotai/ModernBERT-base --layers every_other --dry-run
          --revision 8949b909ec900327062f0ebf497f51aef5e6f0c8
      distilnb distil --scale base --teacher openai-community/gpt2 --revision 607a30d783dfa663caf39e06633721c8d4cfcd7e
      accelerate launch --num_processes 8 -m distilnb distil --scale paper
    """
    scale = scales.get(where.scale)
    revision = what.revision or (scale.revision if what.teacher == scale.teacher else None)
    if what.dry_run:
        return _count(read_config(what.teacher, revision), where, what, config)
    check_output(where.folder, config)
    accelerator = _meet(where, config)
    check_shares(config, accelerator.num_processes)
    done = _done(where.folder / "model", accelerator.is_main_process)
    teacher, tokenizer = read_teacher(what.teacher, revision)
    check_positions(config, teacher)
    student, made = _student(teacher, tokenizer, what, config.seed)
    dropout.speed_up(student, accelerator.device)
    budget = corpus_budget(where.sources, scale.corpus_tokens, config.tokens)
    read = partial(where.read_text, tokenizer, config.seq_length, budget, config.layout)
    text = processes.once_a_disk(paths.cache("corpora"), accelerator, read)
    record = pretrain(
        student,
        text,
        make_samples(tokenizer, text.token_counts, families.of(teacher).objective, config),
        accelerator,
        config,
        teacher=teacher,
        out=where.folder,
        name=where.name,
        scale=REHEARSAL if is_random(what.teacher) else scale.name,
        made_from=made | {"teacher": shipped_name(what.teacher), "revision": revision},
        machine=use_fast_settings(accelerator.device),
    )
    if accelerator.is_main_process and not (done and done["name"] == where.name):
        keep(student, tokenizer, record, where.folder)
    processes.finish(accelerator)


def _done(model: Path, tell: bool) -> dict[str, Any] | None:
    """The record of a run that ended before, which is told; None where it did not."""
    record = trained_record(str(model))
    if record and tell:
        told = f"already done: {model}, {record['tokens']:,} tokens"
        print(f"{told}; whether its teacher and text are still the same is looked at", flush=True)
    return record


def _count(teacher: PreTrainedConfig, where: TrainingOptions, what: StudentOptions, config: PretrainingConfig) -> None:
    """Print the expected cost of the run, once, without meeting the other processes of a launcher."""
    if os.environ.get("RANK", "0") == "0":
        print(counted(_student_config(teacher, what), teacher, config, int(os.environ.get("WORLD_SIZE", 1))))
        print(_text_told(where, what, config))


def _text_told(where: TrainingOptions, what: StudentOptions, config: PretrainingConfig) -> str:
    """The expected cost of preparing the text, or the reason why it is unknown, in a sentence; ValueError for files
    that the run would refuse too."""
    scale, sources = scales.get(where.scale), where.sources
    revision = what.revision or (scale.revision if what.teacher == scale.teacher else None)
    address = what.teacher.removeprefix("random:") + (f"@{revision}" if revision else "")
    try:
        tokenizer = load_tokenizer(scales.get("toy").teacher if what.teacher == "random:base" else address)
        budget = corpus_budget(sources, scale.corpus_tokens, config.tokens)
        shape = {"seq_length": config.seq_length, "layout": config.layout, "max_tokens": budget}
        return str(forecast(sources, tokenizer, **shape))
    except (ValueError, OSError) as error:
        if isinstance(error, ValueError) and all(source.path or source.name == "toyworld" for source in sources):
            raise
        return f"text: not known beforehand ({error})"


def _student_config(teacher: PreTrainedConfig, what: StudentOptions) -> PreTrainedConfig:
    """The configuration of the student that these options ask for."""
    if what.student:
        return read_config(what.student)
    config = student_config(teacher, what.chosen_layers(teacher))
    return narrow_config(config, what.width, what.heads) if what.width or what.heads else config


def _student(
    teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, what: StudentOptions, seed: int
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A new student, or one to train further, and the record's entries about its origin."""
    if what.student:
        return further(what.student, teacher, tokenizer)
    layers = what.chosen_layers(teacher.config)
    shape = {"width": what.width or None, "heads": what.heads or None}
    student = build_student(teacher, layers, init=what.init, token_types=what.token_types, seed=seed, **shape)
    if student.config.hidden_size != teacher.config.hidden_size:
        kept = "its columns, heads and units with the largest norms" if what.init == "teacher" else "nothing of them"
        print(
            f"the student is {student.config.hidden_size} wide, its teacher {teacher.config.hidden_size}: {kept} are "
            "kept; L_cos is computed behind a linear map to the teacher's width that is learned and not saved",
            flush=True,
        )
    return student, {"family": families.of(student).name} | student.config.initialized_from


def keep(model: Any, tokenizer: PreTrainedTokenizerBase, record: dict[str, Any], folder: Path) -> None:
    """Save the model with its tokenizer (plain transformers loads it) and the record, and say where."""
    made = folder / "model"
    with files.written("the model, which is trained and in its last checkpoint,", made):
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        path = save_record(record)
        shutil.copyfile(path, made / ".record.part")
        (made / ".record.part").rename(made / "record.json")  # last, because it says that the model is whole
    print(f"{tables.summary([record])}\nmodel:  {made}\nrecord: {path}")
    print(f"try it: {next_command(record, made)}")


def next_command(record: dict[str, Any], model: Path) -> str:
    """A command that goes on with a new model: on its scale's tasks, or on a file where it left that scale."""
    scale = record["scale"]
    if record["kind"] == "teacher":
        return f"distilnb distil --scale {scale} --teacher {model}"
    if scale == REHEARSAL:
        return "the same command with the teacher itself, without random:"
    usual = {shipped_name(source) for source in (scales.get(scale).teacher, ready_teacher(scales.get(scale)))}
    known = record["made_from"]["teacher"] in usual
    return f"distilnb finetune --scale {scale} --task {'sst2' if known else 'YOUR-FILE.csv'} --model student={model}"


def _teacher_defaults(scale: str | None, out: str | None) -> dict[str, Any]:
    dial = scales.get(scale)
    if not dial.teacher_stages:
        raise ValueError(
            f"scale {dial.name} takes a published teacher ({dial.teacher}); use --scale toy, mini or small"
        )
    start = {"text": dial.teacher_text, "start": f"{dial.teacher}@{dial.revision}" if dial.encoder else ""}
    budget = {"tokens": sum(s.tokens for s in dial.teacher_stages), "batch_size": dial.teacher_stages[0].batch_size}
    alone = {"ce": 0.0, "mlm": 1.0, "cos": 0.0, "clip": 1.0}
    return _names("teacher", dial, out) | start | budget | alone | dial.teacher_pretraining


@command(_teacher_defaults)
def teacher(where: TrainingOptions, what: TeacherOptions, config: PretrainingConfig) -> None:
    """Pre-train a teacher by the same loop with L_mlm alone: from nothing, grown from shallow to deep, or from a model.

    Depth is added in stages by repeating layers, because a deep, narrow BERT started at full depth predicts by
    word frequency for millions of tokens. At scale small a published encoder without a masked-word head gets one: the
    head alone is trained first, then all weights. Only the scales toy, mini and small describe a teacher; their stages
    set depth, learning rate, batch and sequence length, and --tokens stretches or shrinks all of them alike. The
    weights are saved in float16, half the size on disk; these commands load them as float32, and whoever trains them
    elsewhere gives from_pretrained dtype=torch.float32. A teacher can be trained on.

    examples:
      distilnb teacher --scale toy --out runs/teacher
      distilnb teacher --scale mini --start data/teachers/mini --tokens 50000000 --name teacher-mini-more
      distilnb teacher --scale small
      distilnb teacher --scale small --start intfloat/e5-small-v2 --name teacher-e5
      distilnb teacher --scale small --start sentence-transformers/all-mpnet-base-v2 --name teacher-mpnet
      distilnb teacher --scale mini --text stanfordnlp/imdb:plain_text:unsupervised
    """
    scale, sources = scales.get(where.scale), where.sources
    accelerator = _meet(where, config)
    stages, made = scale.teacher_stages, {}
    if what.start:
        model, tokenizer, made = _started(what.start, config.seed)
        stages = stages_of(model.config.num_hidden_layers, bool(made["new_tensors"]), scale)
    for each in stage_settings(config, stages, where.folder):  # before the text, which may take hours
        check_shares(each, accelerator.num_processes)
        if what.start:
            check_positions(each, model)
    if not what.start:
        folder = where.folder / "tokenizer"
        pieces = scale.teacher_shape["vocab_size"]
        tokenizer = processes.once_a_disk(folder, accelerator, partial(make_tokenizer, folder, sources, pieces))
        shape = scale.teacher_shape | {"vocab_size": len(tokenizer), "num_hidden_layers": stages[0].layers}
        model = new_teacher(BertConfig(**shape), seed=config.seed)
    dropout.speed_up(model, accelerator.device)
    budget = corpus_budget(sources, scale.teacher_corpus_tokens)

    def text(seq_length: int) -> corpus.Corpus:
        read = partial(where.read_text, tokenizer, seq_length, budget, config.layout)
        return processes.once_a_disk(paths.cache("corpora"), accelerator, read)

    earlier = Path(what.start, "record.json")
    before = load_record(earlier) if what.start and not made["new_tensors"] and earlier.is_file() else None
    growth = Growth(where.name, scale.name, where.folder, tokenizer, text, config, made, before)
    model, record = grow_teacher(model, stages, growth, accelerator)
    if accelerator.is_main_process:
        keep(model.half(), tokenizer, record, where.folder)
    processes.finish(accelerator)


def _started(start: str, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, Any]]:
    """The model to train further, its tokenizer, and the record's entries about its origin."""
    name, revision = (start, "") if Path(start).is_dir() else start.partition("@")[::2]
    model, tokenizer, new = load_encoder(name, revision or None, seed)
    made = {"start": shipped_name(name), "revision": revision or None, "new_tensors": list(new)}
    model.config.initialized_from = made  # kept with the model, because it distinguishes runs of different starts
    return model, tokenizer, made


def stages_of(depth: int, headless: bool, scale: Scale) -> list[scales.Stage]:
    """The stages of the scale that train a model of `depth` layers, else the one for any depth; first a new head."""
    stages = [s for s in scale.teacher_stages if s.layers in (0, depth) and s.part == "all"] or [scales.WHOLE]
    return [scales.HEAD, *stages] if headless else stages
