"""The command line: composition only. Each command is the few lines that the notebooks write out.

distilnb run                          every notebook, offline, at toy scale
distilnb distil --scale toy           a teacher into a student by the triple loss
distilnb finetune --task sst2 ...     a model on a task, several seeds
distilnb teacher --scale toy          pre-train a teacher from nothing
distilnb figures                      redraw the figures from the records
"""

import gc
import sys
import traceback
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import AutoTokenizer, BertConfig, HfArgumentParser, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from . import __version__, corpus, paths, report, results, scales, toyworld
from .masking import Masker
from .pretraining import PretrainingConfig, check_output, pretrain
from .scales import Scale
from .student import build_student, choose_layers
from .teacher import grow, load_teacher, new_teacher


def _help(text: str, **more: Any) -> Any:
    return field(metadata={"help": text, **more.pop("metadata", {})}, **more)


@dataclass(frozen=True)
class Where:
    """Options that every training command has."""

    scale: str = _help("the dial: toy, mini, base or paper; sets the default of everything below", default="")
    text: str = _help(
        "toyworld, a file or folder, or a Hub data set NAME[:CONFIG[:SPLIT]]; join several with +", default=""
    )
    out: str = _help(
        "folder for checkpoints and the model (default: runs/NAME); a run found there is resumed", default=""
    )
    name: str = _help("name of the run and of its record", default="")
    precision: str = _help("auto, no, bf16 or fp16; auto takes what the hardware is fast in", default="auto")
    cpu: bool = _help("use the processor even when there is a GPU", default=False)


@dataclass(frozen=True)
class Distil:
    """Options of `distilnb distil`."""

    teacher: str = _help("a BERT masked language model: a folder or a Hub repository", default="")
    revision: str = _help("the teacher's revision on the Hub", default="")
    layers: str = _help("original, every_other, first, last, or indices such as 0,2,4,7,9,11", default="original")
    n_layers: int = _help("layers of the student; 0 is half the teacher's", default=0)
    init: str = _help(
        "start from the teacher's layers, or at random", default="teacher", metadata={"choices": ["teacher", "random"]}
    )
    token_types: str = _help("drop the token-type embeddings (the paper) or fold type 0 into the positions", default="drop",
                             metadata={"choices": ["drop", "fold"]})  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 when it worked, 2 for input that cannot be used, 1 for a run that failed, 130 for Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    show_traceback = "--traceback" in argv
    argv = [a for a in argv if a != "--traceback"]
    parser = ArgumentParser(prog="distilnb", description=__doc__, formatter_class=RawDescriptionHelpFormatter,
                            epilog="distilnb COMMAND --help explains a command; --traceback shows where an error arose.")  # fmt: skip
    parser.add_argument("--version", action="version", version=f"distilnb {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=", ".join(COMMANDS))
    command = parser.parse_args(argv[:1]).command
    transformers_logging.disable_progress_bar()
    try:
        return COMMANDS[command](argv[1:]) or 0
    except KeyboardInterrupt:
        print("\ndistilnb: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        if show_traceback:
            traceback.print_exc()
        print(f"distilnb: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1


def _parse(argv: list[str], command: str, *kinds: type, **defaults: Any) -> tuple[Any, ...]:
    """Dataclasses from flags, with defaults that depend on --scale."""
    parser = HfArgumentParser(kinds, prog=f"distilnb {command}", description=COMMANDS[command].__doc__,
                              formatter_class=_Formatter)  # fmt: skip
    parser.set_defaults(**defaults)
    return parser.parse_args_into_dataclasses(argv)


class _Formatter(RawDescriptionHelpFormatter):
    def _get_help_string(self, action: Any) -> str:
        default = action.default
        return action.help + ("" if default in (None, "", "==SUPPRESS==", False) else f" (default: {default})")


def _scale(argv: list[str]) -> Scale:
    """The dial, read ahead of the other flags because it sets their defaults."""
    early = ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--scale")
    return scales.get(early.parse_known_args(argv)[0].scale)


def choose_precision(cpu: bool = False) -> str:
    """bf16 where the hardware multiplies it fast, fp16 on older GPUs, else float32 ("no")."""
    if torch.cuda.is_available() and not cpu:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


def make_accelerator(precision: str = "auto", cpu: bool = False) -> Accelerator:
    """An Accelerator for this machine; under `accelerate launch` it joins the other processes."""
    cpu = cpu or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if precision not in ("auto", "no", "bf16", "fp16"):
        raise ValueError(f"precision is '{precision}'; use auto, no, bf16 or fp16")
    return Accelerator(cpu=cpu, mixed_precision=choose_precision(cpu) if precision == "auto" else precision)


def finish(accelerator: Accelerator) -> None:
    """Leave a run of several processes cleanly: gloo hangs now and then when collectives are still referenced."""
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    gc.collect()
    accelerator.end_training()


def distil(argv: list[str]) -> None:
    """Distil a student from a teacher by the triple loss (paper section 3).

    examples:
      distilnb distil --scale toy
      distilnb distil --scale mini --teacher google-bert/bert-base-uncased --tokens 2000000
      distilnb distil --scale toy --ce 0 --name without-soft-targets        one row of the ablation
      accelerate launch --num_processes 8 -m distilnb distil --scale paper
    """
    scale = _scale(argv)
    defaults = {"scale": scale.name, "name": f"distil-{scale.name}", "text": scale.text, "teacher": scale.teacher}
    where, what, config = _parse(argv, "distil", Where, Distil, PretrainingConfig,
                                 revision=scale.revision or "", **defaults, **scale.pretraining)  # fmt: skip
    out = Path(where.out or paths.home() / "runs" / where.name)
    check_output(out, config)
    sources = corpus.parse_sources(where.text)
    revision = what.revision if what.teacher == scale.teacher else None
    teacher, tokenizer = load_teacher(what.teacher, what.revision or revision or None)
    depth = teacher.config.num_hidden_layers
    layers = what.layers if not what.layers[:1].isdigit() else [int(i) for i in what.layers.split(",")]
    chosen = choose_layers(layers, depth, what.n_layers or (len(layers) if isinstance(layers, list) else depth // 2))
    student = build_student(teacher, chosen, init=what.init, token_types=what.token_types, seed=config.seed)
    accelerator = make_accelerator(where.precision, where.cpu)
    with accelerator.main_process_first():
        text = corpus.build_corpus(sources, tokenizer, seq_length=config.seq_length,
                                   max_tokens=corpus_budget(sources, scale.corpus_tokens), layout=config.layout)  # fmt: skip
    masker = Masker.of(tokenizer, text.token_counts, config.smoothing, config.mask_probability, config.seed)
    made = {"teacher": what.teacher, "revision": what.revision or None, "layers": list(chosen), "init": what.init,
            "token_types": what.token_types}  # fmt: skip
    record = pretrain(student, text, masker, accelerator, config, teacher=teacher, out=out, name=where.name,
                      scale=scale.name, student=made)  # fmt: skip
    if accelerator.is_main_process:
        _keep(student, tokenizer, record, out)
    finish(accelerator)


def corpus_budget(sources: tuple[corpus.TextSource, ...], tokens: int | None) -> int | None:
    """How many tokens of text to prepare: `tokens` for endless or streamed text, else all there is."""
    endless = any(s.name == "toyworld" or s.stream for s in sources)
    return (tokens or scales.get("toy").corpus_tokens) if endless else None


def _keep(model: Any, tokenizer: PreTrainedTokenizerBase, record: dict[str, Any], out: Path) -> None:
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    path = results.save(record)
    print(report.summary([record]))
    print(f"model:  {out / 'model'}\nrecord: {path}")


def teacher(argv: list[str]) -> None:
    """Pre-train a teacher from nothing: the same loop with L_mlm alone, grown from shallow to deep.

    Depth is added in stages by repeating layers, because a deep, narrow BERT started at full depth predicts by
    word frequency for millions of tokens. Only the scales toy and mini describe a teacher; their stages set depth,
    learning rate and sequence length, and --tokens stretches or shrinks all of them alike.

    examples:
      distilnb teacher --scale toy --out runs/teacher
      distilnb teacher --scale mini --text stanfordnlp/imdb:plain_text:unsupervised
    """
    scale = _scale(argv)
    if not scale.teacher_stages:
        raise ValueError(f"scale {scale.name} takes a published teacher ({scale.teacher}); use --scale toy or mini")
    budget = sum(tokens for *_, tokens in scale.teacher_stages)
    where, config = _parse(argv, "teacher", Where, PretrainingConfig, scale=scale.name, name=f"teacher-{scale.name}", tokens=budget,
                           text=scale.text, ce=0.0, mlm=1.0, cos=0.0, clip=1.0, **scale.teacher_pretraining)  # fmt: skip
    out = Path(where.out or paths.home() / "runs" / where.name)
    sources = corpus.parse_sources(where.text)
    accelerator = make_accelerator(where.precision, where.cpu)
    with accelerator.main_process_first():
        tokenizer = _tokenizer(out / "tokenizer", sources, scale.teacher_shape["vocab_size"])
    shape = scale.teacher_shape | {"vocab_size": len(tokenizer)}
    shape |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model, records = None, []
    for stage, (depth, rate, length, tokens) in enumerate(scale.teacher_stages):
        tokens = max(1, tokens * config.tokens // budget)
        settings = replace(config, tokens=tokens, learning_rate=rate, seq_length=length, seed=config.seed + stage)
        if model is None:
            model = new_teacher(BertConfig(num_hidden_layers=depth, **shape), seed=config.seed)
        elif depth != model.config.num_hidden_layers:
            model = grow(model, depth)
        with accelerator.main_process_first():
            text = corpus.build_corpus(
                sources, tokenizer, seq_length=length, max_tokens=corpus_budget(sources, scale.teacher_corpus_tokens)
            )
        masker = Masker.of(tokenizer, text.token_counts, settings.smoothing, settings.mask_probability, settings.seed)
        records.append(pretrain(model, text, masker, accelerator, settings, out=out / f"stage-{stage}",
                                name=f"{where.name}, {depth} layers", scale=scale.name))  # fmt: skip
        accelerator.free_memory()
    if accelerator.is_main_process:
        model.config.update({"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1})  # for those who train on
        _keep(model, tokenizer, join_stages(records, where.name), out)
    finish(accelerator)


def join_stages(records: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """One record for a teacher grown in stages: curves end to end, times and tokens added up."""
    last, joined = records[-1], {}
    for part in ("curve", "evaluations"):
        columns: dict[str, list] = {key: [] for key in last[part]}
        tokens = steps = 0
        for record in records:
            rows = record[part]
            columns["tokens"] += [tokens + t for t in rows["tokens"]]
            columns["step"] += [steps + s for s in rows["step"]]
            for key in columns.keys() - {"tokens", "step"}:
                columns[key] += rows[key]
            tokens, steps = tokens + record["tokens"], steps + record["steps"]
        joined[part] = columns
    total = {k: sum(r[k] for r in records) for k in ("tokens", "steps", "wall_seconds", "cpu_seconds")}
    stages = [{k: r[k] for k in ("name", "config", "tokens", "steps", "wall_seconds", "scores")} for r in records]
    return last | joined | total | {"name": name, "started": records[0]["started"], "stages": stages,
                                    "curve": results.thin(joined["curve"]), "sha256": None}  # fmt: skip


def _tokenizer(folder: Path, sources: tuple[corpus.TextSource, ...], pieces: int) -> PreTrainedTokenizerBase:
    """The tokenizer of an earlier sitting, else a new word-piece vocabulary trained on the text."""
    if not (folder / "tokenizer.json").is_file():
        toy = [s.name for s in sources] == ["toyworld"]
        made = toyworld.train_tokenizer(pieces) if toy else corpus.train_tokenizer(sources, pieces)
        made.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


COMMANDS = {"distil": distil, "teacher": teacher}

if __name__ == "__main__":
    sys.exit(main())
