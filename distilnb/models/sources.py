"""Models by their addresses: a folder, NAME@REVISION on the Hub, random:ADDRESS or untrained:ADDRESS."""

import os
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .. import paths, scales
from ..evidence.names import pretraining_run, tokens_learned
from ..evidence.records import load_record
from ..machine import hub
from ..scales import Scale
from . import families
from .families import FAMILIES
from .student import build_student
from .teacher import check_vocabulary, load_teacher, pad_causal, pad_with_end, tie_as_loaded

Source = PreTrainedModel | str | Path
RANDOM, UNTRAINED = "random:", "untrained:"  # before an address


def locate(source: str | Path) -> tuple[str, dict[str, Any]]:
    """The name in NAME or NAME@REVISION, and the arguments for `from_pretrained`; a folder has no revision."""
    name, _, revision = str(source).partition("@")
    if Path(source).is_dir():
        name, revision = str(source), ""
    what = {"revision": revision or None, "trust_remote_code": False}
    return name, what | hub.reach(name, "model", f"model '{name}'")


def class_named(name: str) -> type[PreTrainedModel] | None:
    """The class called `name`, if it belongs to one of our families and has a known head; else None."""
    stems = [kind.model.__name__.removesuffix("ForMaskedLM").removesuffix("LMHeadModel") for kind in FAMILIES.values()]
    heads = ("ForMaskedLM", "LMHeadModel", "ForSequenceClassification", "ForQuestionAnswering")
    return getattr(transformers, name, None) if name in {stem + head for stem in stems for head in heads} else None


def load_model(path: str) -> PreTrainedModel:
    """The float32 model in a folder or on the Hub, with the head that its configuration names.

    Raises ValueError where there is no such model.
    """
    path, where = locate(path)
    config = hub.fetch_or_say(f"model '{path}' has no readable config.json", AutoConfig.from_pretrained, path, **where)
    name = (config.architectures or [config.model_type])[0]
    kind = class_named(name)
    if kind is None:
        raise ValueError(
            f"model '{path}' is a {name}; use a language model, a classifier or a question answerer of one of these "
            f"families: {', '.join(family.name for family in FAMILIES.values())}"
        )
    told = f"model '{path}' has no readable weights (model.safetensors)"
    model = hub.fetch_or_say(told, kind.from_pretrained, path, dtype=torch.float32, use_safetensors=True, **where)
    tie_as_loaded(model)
    return model.eval()


def read_config(source: str, revision: str | None = None) -> PreTrainedConfig:
    """The configuration of the model at an address (also random:ADDRESS), without loading its weights."""
    if source == "random:base":
        return BertConfig()
    name, where = locate(source.removeprefix(RANDOM))
    told, where = f"there is no readable config.json at '{name}'", where | ({"revision": revision} if revision else {})
    config = hub.fetch_or_say(told, AutoConfig.from_pretrained, name, **where)
    families.of(config, f"model '{name}'")
    return config


def further(
    source: str, teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A student to be trained further, and its history, in which `tokens_before` is its token budget so far.

    Raises ValueError for a model that `teacher`, whose tokenizer is given, cannot teach.
    """
    check_same_words(source, tokenizer, f"--student {source}", "than its teacher: soft targets need one vocabulary")
    student = load_model(source)
    ours, theirs = families.of(student), families.of(teacher)
    if not isinstance(student, ours.model) or ours.objective != theirs.objective:
        raise ValueError(f"--student {source} is a {type(student).__name__}, which {theirs.name} cannot teach")
    if student.config.vocab_size != teacher.config.vocab_size:
        raise ValueError(
            f"--student {source} has {student.config.vocab_size:,} words, its teacher {teacher.config.vocab_size:,}: "
            "soft targets need one vocabulary"
        )
    file = Path(source, "record.json")
    record = load_record(file) if file.is_file() else {}
    made = {"layers": [], "init": "student", "token_types": "", **record.get("made_from", {})}
    made |= {"family": ours.name, "student": shipped_name(source), "student_record": record.get("name")}
    made["tokens_before"] = tokens_learned(record) if record else None
    student.config.initialized_from = made | {"seed": record.get("seed"), "sha256": record.get("sha256")}
    return student, made


def shipped_name(path: str) -> str:
    """A model's name for the record: below data/ or runs/ its place there, else the folder's own, none above it; of the
    Hub its address."""
    for start in (RANDOM, UNTRAINED):
        if path.startswith(start):
            return start + shipped_name(path.removeprefix(start))
    if not (Path(path).is_absolute() or Path(path).is_dir()):
        return path
    place = Path(os.path.abspath(path))
    for start, folder in (("data", paths.data()), ("runs", paths.home().absolute() / "runs")):
        if place.is_relative_to(folder):
            return str(Path(start, place.relative_to(folder)))
    return str(Path(*place.parts[-2:] if place.name == "model" else place.parts[-1:]))


def ready_teacher(scale: Scale) -> str:
    """The address of the teacher that commands use; for an encoder, the `distilnb teacher` model, own or shipped."""
    own = paths.home() / "runs" / pretraining_run("teacher", scale.name) / "model"
    made = (own, shipped_teacher(scale)) if scale.encoder else ()
    return next((str(folder) for folder in made if (folder / "model.safetensors").is_file()), scale.teacher)


def shipped_teacher(scale: Scale) -> Path:
    """The folder of a scale's teacher in data/; it may not exist."""
    return paths.data("teachers", scale.name)


def shipped_student(scale: Scale, role: str = "student") -> Path:
    """The folder in data/ of a scale's student, or of its twin with `role` "undistilled"; it may not exist."""
    return paths.data("students", scale.name + ("" if role == "student" else f"-{role}"))


def models_of(scale: Scale) -> list[str]:
    """LABEL=FOLDER for the teacher of a scale, its students that exist or are shipped, and released models."""
    teacher = ready_teacher(scale)
    pairs = [f"teacher={teacher}" + (f"@{scale.revision}" if scale.revision and teacher == scale.teacher else "")]
    for label in ("student", "undistilled"):
        own = paths.home() / "runs" / pretraining_run(label, scale.name) / "model"
        made = (own, shipped_student(scale, label))
        folder = next((f for f in made if (f / "model.safetensors").is_file()), None)
        if folder:
            pairs.append(f"{label}={folder}")
    if scale.teacher == scales.BERT_BASE:
        pairs.append(f"released={scales.DISTILBERT}@{scales.DISTILBERT_REVISION}")
    return pairs


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model (also of random:ADDRESS and untrained:ADDRESS), with a padding token.

    Raises ValueError when the model has no tokenizer.
    """
    name, where = locate(source.removeprefix(RANDOM).removeprefix(UNTRAINED))
    told = f"no model with its tokenizer can be read at '{source}'"
    tokenizer = hub.fetch_or_say(told, AutoTokenizer.from_pretrained, name, **where)
    pad_with_end(tokenizer)
    return tokenizer


def check_same_words(source: str, tokenizer: PreTrainedTokenizerBase, what: str, advice: str) -> None:
    """Raise ValueError, naming it `what`, if the model at an address brings other word pieces than `tokenizer` has.

    A folder without a tokenizer is taken to have the same.
    """
    folder = Path(source.removeprefix(RANDOM).removeprefix(UNTRAINED))
    if source == "random:base" or folder.exists() and not hub.has_tokenizer(folder):
        return
    if load_tokenizer(source).get_vocab() != tokenizer.get_vocab():
        raise ValueError(f"{what} was trained with other word pieces {advice}")


def is_random(source: str) -> bool:
    """Whether an address means a network with random weights."""
    return source.startswith(RANDOM)


def resolve_model(source: str) -> Any:
    """The address itself for a folder or repository; for "random:FOLDER" its network with random weights; for
    "untrained:FOLDER" the student made of its layers, before any training."""
    if source.startswith(UNTRAINED):
        name, _, revision = source.removeprefix(UNTRAINED).partition("@")
        teacher, _ = load_teacher(name, revision or None)
        return build_student(teacher)
    if not is_random(source):
        return source
    config = read_config(source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return families.of(config).model(config)


def trained_record(source: str) -> dict[str, Any] | None:
    """The record, beside the model in folder `source`, of the run that made it; None where there is none."""
    path = Path(source, "record.json")
    return load_record(path) if path.is_file() else None


def read_teacher(source: str, revision: str | None = None) -> tuple[Any, PreTrainedTokenizerBase]:
    """A teacher and its tokenizer; random:FOLDER has random weights, and random:base needs no folder."""
    if source == "random:base":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return BertForMaskedLM(BertConfig()), load_tokenizer(scales.get("toy").teacher)
    if is_random(source):
        teacher, tokenizer = resolve_model(source).eval(), load_tokenizer(source)
        check_vocabulary(teacher.config, tokenizer)
        pad_causal(teacher.config, tokenizer)
        return teacher, tokenizer
    return load_teacher(source, revision)
