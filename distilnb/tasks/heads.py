"""A pre-trained encoder with the head of a task: a classifier or regressor, or the two pointers of an answer span.

A masked language model has neither. What is new is drawn from a seed and named, so that nothing is lost unnoticed.
"""

import copy
import re
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from .. import paths
from ..machine import hub
from ..models import families
from ..models.sources import Source, locate
from .glue import Task

CLASSIFIERS, ANSWERERS = "SequenceClassification", "QuestionAnswering"
HEADS = re.compile(
    r"^(classifier|pre_classifier|qa_outputs|score|head|pooler|[a-z]+\.pooler)\."
)  # made anew for a task
Made = tuple[PreTrainedModel, tuple[str, ...]]


def classifier(source: Source, num_labels: int, seed: int = 0) -> Made:
    """A classifier (num_labels = 1: a regressor) with the encoder of `source`, and the names of its new tensors.

    `source` is a model already built (it is copied, not changed), a folder, or a Hub repository as NAME or
    NAME@REVISION. New are always the
    last layer and, for DistilBERT, the layer before it. BERT's pooler is new as well unless the checkpoint brings
    one: a masked language model has none. New tensors are drawn from `seed`.

    Raises ValueError for a model of a family that `families` lacks, or that lacks a tensor of its encoder.
    """
    return _with_head(source, CLASSIFIERS, num_labels, seed)


def question_answerer(source: Source, seed: int = 0) -> Made:
    """The encoder of `source` with one new layer that scores each token as start and as end of the answer.

    As `classifier`, which see.
    """
    return _with_head(source, ANSWERERS, 2, seed)


def for_task(source: Source, task: Task, seed: int = 0) -> Made:
    """The encoder of `source` with the head that `task` needs; as `classifier`, which see."""
    if task.spans:
        return question_answerer(source, seed)
    return classifier(source, task.num_labels, seed)


def fine_tuned(source: Source, task: Task) -> PreTrainedModel:
    """A model that has been fine-tuned on `task` already; ValueError when its head would be new."""
    model, new = for_task(source, task)
    if new:
        what = f"model '{source}'" if isinstance(source, str | Path) else f"this {type(source).__name__}"
        raise ValueError(f"{what} has not been fine-tuned on a task like {task.name}: it lacks {new[0]}")
    return model


def fine_tuned_run(scale: str, task: str, label: str) -> tuple[Path, Path]:
    """The folder of a model fine-tuned on `task`, and its record: shipped with the lessons, else your own.

    Your own are kept by `distilnb finetune --keep`. Raises ValueError in one sentence where there is neither.
    """
    name = f"finetuning-{scale}-{label}-{task}-seed0"
    shipped, own = paths.data("heads", name), paths.home() / "runs"
    for folder, record in ((shipped, shipped / "record.json"), (own / "models" / name, own / f"{name}.json")):
        if (folder / "model.safetensors").is_file() and record.is_file():
            return folder, record
    raise ValueError(
        f"no {label} fine-tuned on {task} at scale {scale} is here: make one by "
        f"`distilnb finetune --scale {scale} --task {task} --keep`"
    )


def is_answerer(model: PreTrainedModel) -> bool:
    """Whether the model points at spans instead of naming classes."""
    return type(model).__name__.endswith(f"For{ANSWERERS}")


def _with_head(source: Source, head: str, outputs: int, seed: int) -> Made:
    if isinstance(source, PreTrainedModel):
        model, missing = _around(source, head, outputs)
        what = f"this {type(source).__name__}"
    else:
        model, missing = _read(source, head, outputs)
        what = f"model '{source}'"
    lost = [name for name in missing if not HEADS.match(name)]
    if lost:
        raise ValueError(f"{what} lacks {len(lost)} tensors of its encoder, first {lost[0]}: nothing to fine-tune")
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in missing:
            tensor = model.get_parameter(name)
            if name.endswith(".bias"):
                tensor.zero_()
            elif tensor.ndim == 1:  # of a norm
                tensor.fill_(1.0)
            else:
                tensor.normal_(0, model.config.initializer_range, generator=draw)
    return model.eval(), tuple(missing)


def class_for(config: PreTrainedConfig, head: str, what: str) -> type[PreTrainedModel]:
    """The class of a family with a head for classes (`CLASSIFIERS`) or spans (`ANSWERERS`); ValueError without one."""
    name = families.of(config, what).model.__name__.removesuffix("ForMaskedLM").removesuffix("LMHeadModel")
    kind = getattr(transformers, f"{name}For{head}", None)
    if kind is None:
        raise ValueError(f"{what} is a {name}, for which transformers has no head for such a task")
    return kind


def _around(source: PreTrainedModel, head: str, outputs: int) -> tuple[PreTrainedModel, list[str]]:
    """The tensors of a model in memory under a head, and the names of those that it did not have."""
    config = copy.deepcopy(source.config)
    config.num_labels = outputs
    with torch.random.fork_rng(devices=[]):
        model = class_for(config, head, f"this {type(source).__name__}")(config)
    wanted, theirs = model.state_dict(), source.state_dict()
    known = {
        name: theirs[name] for name, tensor in wanted.items() if name in theirs and theirs[name].shape == tensor.shape
    }
    model.load_state_dict(known, strict=False)
    return model, [name for name in wanted if name not in known]


def _read(source: str | Path, head: str, outputs: int) -> tuple[PreTrainedModel, list[str]]:
    """The same from safetensors in a folder or on the Hub."""
    path, where = locate(source)
    try:
        config = hub.fetch(AutoConfig.from_pretrained, path, num_labels=outputs, **where)
    except (OSError, ValueError) as error:
        raise ValueError(f"model '{path}' has no readable config.json{hub.cause(path, error)}") from error
    kind = class_for(config, head, f"model '{path}'")
    try:
        with torch.random.fork_rng(devices=[]), hub.no_report():
            model, report = hub.fetch(
                kind.from_pretrained,
                path,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **where,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"model '{path}' has a configuration, but weights (model.safetensors) that fit it and a head of "
            f"{outputs} cannot be read{hub.cause(path, error)}"
        ) from error
    missing = set(report["missing_keys"])
    return model, [name for name in model.state_dict() if name in missing]
