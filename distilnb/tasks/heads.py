"""Task heads on a pre-trained encoder: a classifier, a regressor, or the two pointers of a span (notebooks 04 to 06).

A masked language model has no such head. New tensors are drawn from a seed and named, so that no loss of weights goes
unnoticed.
"""

import copy
import re
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from .. import paths
from ..evidence.names import finetuning_run
from ..machine import hub
from ..models import families
from ..models.sources import Source, locate
from ..models.teacher import draw
from .glue import Task

CLASSIFIERS, ANSWERERS = "SequenceClassification", "QuestionAnswering"
# made anew for a task
HEADS = re.compile(r"^(classifier|pre_classifier|qa_outputs|score|head|pooler|[a-z]+\.pooler)\.")
Made = tuple[PreTrainedModel, tuple[str, ...]]


def classifier(source: Source, num_labels: int, seed: int = 0) -> Made:
    """A classifier (num_labels = 1: a regressor) with the encoder of `source`, and the names of its new tensors.

    `source` is a model already built (it is copied, not changed), a folder, or a Hub repository as NAME or
    NAME@REVISION. The last layer is always new, and in DistilBERT also the layer before it; BERT's pooler is new
    unless the checkpoint has one, which a masked language model lacks. New tensors are drawn from `seed`.

    Raises ValueError for a model whose family is not in `families`, or that lacks a tensor of its encoder.
    """
    return _told(source, *_with_head(source, CLASSIFIERS, num_labels, seed))


def question_answerer(source: Source, seed: int = 0) -> Made:
    """The encoder of `source` with a layer that scores each token as start and end of the answer; its new tensors.

    Raises as `classifier` does.
    """
    return _told(source, *_with_head(source, ANSWERERS, 2, seed))


def for_task(source: Source, task: Task, seed: int = 0) -> Made:
    """The encoder of `source` with the head that `task` needs, and the names of its new tensors.

    A head with the labels of the task is kept, and its outputs are put in the task's order. A head of another size or
    with other labels is replaced, and a warning says so. Raises as `classifier` does.
    """
    if task.spans:
        return question_answerer(source, seed)
    model, new, replaced = _with_head(source, CLASSIFIERS, task.num_labels, seed)
    output = _output(model)
    if output[0] not in new and not _in_order(model, task):
        new, replaced = tuple(dict.fromkeys((*new, *output))), output
        draw(model, output, seed)
    if output[0] in new:
        center, spread = units(model, task)
        standardize(model, -center / spread, 1 / spread)
    return _told(source, model, new, replaced)


def units(model: PreTrainedModel, task: Task) -> tuple[float, float]:
    """The mean and the standard deviation of labels that a regression is trained in; 0.0 and 1.0 for other tasks.

    The mean is 0.0 where the last layer has no bias to hold it, as in GPT-2.
    """
    biased = task.regression and _output(model)[-1].endswith(".bias")
    return task.center if biased else 0.0, task.spread


def standardize(model: PreTrainedModel, center: float, spread: float) -> None:
    """Change the last layer in place so that it answers (x - center) / spread where it answered x.

    An update moves a weight by about the learning rate, so that labels such as prices are out of reach otherwise.
    """
    if (center, spread) != (0.0, 1.0):
        with torch.no_grad():
            for name in _output(model):
                tensor = model.get_parameter(name)
                tensor.sub_(center if name.endswith(".bias") else 0.0).div_(spread)


def fine_tuned(source: Source, task: Task, address: str = "") -> PreTrainedModel:
    """A model already fine-tuned on `task`; ValueError when its head would be new or has other labels.

    `address` is where a model in memory comes from.
    """
    address = address or (str(source) if isinstance(source, str | Path) else "")
    what = f"model '{address}'" if address else f"this {type(source).__name__}"
    model, new, _ = _with_head(source, ANSWERERS if task.spans else CLASSIFIERS, task.num_labels, 0)
    if new:
        raise ValueError(f"{what} has not been fine-tuned on a task like {task.name}: it lacks {new[0]}")
    if not task.spans and not _in_order(model, task):
        names = ", ".join(map(str, model.config.id2label.values()))
        raise ValueError(f"{what} has been fine-tuned on the labels {names}; task {task.name} has others")
    return model


def _told(source: Source, model: PreTrainedModel, new: tuple[str, ...], replaced: Sequence[str]) -> Made:
    if replaced:
        _warn(str(source) if isinstance(source, str | Path) else type(source).__name__)
    return model, new


@cache
def _warn(what: str) -> None:
    """Warn, once per model, that its head is replaced."""
    warnings.warn(f"the head of {what} is of another task: a new one is drawn and trained", stacklevel=4)


def _output(model: PreTrainedModel) -> tuple[str, ...]:
    """The names of the tensors of a classifier's last layer, weight first."""
    names = [name for name in model.state_dict() if HEADS.match(name)]
    last = names[-1].rpartition(".")[0]
    return tuple(name for name in names if name.rpartition(".")[0] == last)


def _in_order(model: PreTrainedModel, task: Task) -> bool:
    """Whether the outputs of a classifier mean the labels of `task`; outputs in another order are rearranged.

    A configuration without label names ("LABEL_0") is taken to have the right order.
    """
    names = [str(model.config.id2label.get(i, "")).casefold() for i in range(task.num_labels)]
    wanted = [label.casefold() for label in task.labels]
    if not wanted or names == wanted or all(name.startswith("label_") for name in names):
        return True
    if sorted(names) != sorted(wanted):
        return False
    order = [names.index(label) for label in wanted]
    with torch.no_grad():
        for name in _output(model):
            parameter = model.get_parameter(name)
            parameter.copy_(parameter[order].clone())
    name_labels(model, task)
    return True


def name_labels(model: PreTrainedModel, task: Task) -> None:
    """Write the names of the labels into the configuration that is saved with the model."""
    if task.spans:
        return
    if task.labels:
        model.config.id2label = dict(enumerate(task.labels))
        model.config.label2id = {label: i for i, label in enumerate(task.labels)}
    kind = "multi_label" if task.several else "single_label"
    model.config.problem_type = "regression" if task.regression else f"{kind}_classification"


def fine_tuned_run(scale: str, task: str, label: str) -> tuple[Path, Path]:
    """The folder of a model fine-tuned on `task`, and its record: the shipped one, else your own.

    `distilnb finetune --keep` keeps your own models. Raises ValueError where there is neither.
    """
    name = finetuning_run(scale, label, task)
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


def _with_head(
    source: Source, head: str, outputs: int, seed: int
) -> tuple[PreTrainedModel, tuple[str, ...], tuple[str, ...]]:
    """The model, the names of its new tensors, and those of them that the source has in another size."""
    if isinstance(source, PreTrainedModel):
        model, missing, differing = _around(source, head, outputs)
        what = f"this {type(source).__name__}"
    else:
        model, missing, differing = _read(source, head, outputs)
        what = f"model '{source}'"
    if lost := [name for name in missing if not HEADS.match(name)]:
        raise ValueError(f"{what} lacks {len(lost)} tensors of its encoder, first {lost[0]}: nothing to fine-tune")
    draw(model, missing, seed)
    return model.eval(), tuple(missing), tuple(differing)


def class_for(config: PreTrainedConfig, head: str, what: str) -> type[PreTrainedModel]:
    """The class of a family with a head for classes (`CLASSIFIERS`) or spans (`ANSWERERS`); ValueError without one."""
    name = families.of(config, what).model.__name__.removesuffix("ForMaskedLM").removesuffix("LMHeadModel")
    kind = getattr(transformers, f"{name}For{head}", None)
    if kind is None:
        raise ValueError(f"{what} is a {name}, for which transformers has no head for such a task")
    return kind


def _around(source: PreTrainedModel, head: str, outputs: int) -> tuple[PreTrainedModel, list[str], list[str]]:
    """The tensors of a model in memory under a head, the names of its missing tensors, and those of them that
    it has in another size."""
    config = copy.deepcopy(source.config)
    config.num_labels = outputs
    with torch.random.fork_rng(devices=[]):
        model = class_for(config, head, f"this {type(source).__name__}")(config)
    wanted, theirs = model.state_dict(), source.state_dict()
    known = {
        name: theirs[name] for name, tensor in wanted.items() if name in theirs and theirs[name].shape == tensor.shape
    }
    model.load_state_dict(known, strict=False)
    return model, [name for name in wanted if name not in known], [n for n in wanted if n in theirs and n not in known]


def _read(source: str | Path, head: str, outputs: int) -> tuple[PreTrainedModel, list[str], list[str]]:
    """The results of `_around` for safetensors in a folder or on the Hub."""
    path, where = locate(source)
    with hub.no_report():
        told = f"model '{path}' has no readable config.json"
        config = hub.fetch_or_say(told, AutoConfig.from_pretrained, path, num_labels=outputs, **where)
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
                ignore_mismatched_sizes=True,
                **where,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"model '{path}' has a configuration, but weights (model.safetensors) that fit it and a head of "
            f"{outputs} cannot be read{hub.cause(path, error)}"
        ) from error
    differing = {key[0] for key in report["mismatched_keys"]}
    missing = {*report["missing_keys"], *differing}
    return model, *([name for name in model.state_dict() if name in names] for names in (missing, differing))
