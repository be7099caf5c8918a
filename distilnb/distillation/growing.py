"""A teacher grown stage by stage: the loop of `loop.py` with L_mlm alone, deeper after each stage (notebook 03)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import BertForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from ..evidence.comparing import join_records
from ..machine.device import use_fast_settings
from ..models import families
from ..models.growth import fold_token_types, grow, set_dropout, train_only
from ..scales import Stage
from ..text.corpus import Corpus
from .batches import make_samples
from .loop import pretrain
from .recipe import PretrainingConfig

DROPOUT = 0.1  # of the finished teacher, the usual value for fine-tuning


@dataclass(frozen=True)
class Growth:
    """The settings that all stages of a teacher share. `text(seq_length)` prepares the blocks of a stage; `made_from`
    goes into the record; `before` is the record of earlier stages."""

    name: str
    scale: str
    folder: Path
    tokenizer: PreTrainedTokenizerBase
    text: Callable[[int], Corpus]
    config: PretrainingConfig
    made_from: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] | None = None


def grow_teacher(
    model: PreTrainedModel, stages: Sequence[Stage], growth: Growth, accelerator: Accelerator
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The trained teacher, and one record of all its stages; `config.tokens` is divided in the stages' proportions.

    Each stage repeats layers up to its depth and trains the model on blocks of its length. At the end, a teacher that
    has never seen sentence pairs gets its token type 0 folded into the positions.
    """
    set_dropout(model, 0.0)  # because the training is too short to overfit
    folds = isinstance(model, BertForMaskedLM)  # other models have no token types, or learned them with their encoder
    if folds and growth.made_from:  # an encoder was trained on pairs
        folds = not model.bert.embeddings.token_type_embeddings.weight[1:].any()
    records = [growth.before] if growth.before else []
    first = len(growth.before["stages"]) if growth.before else 0
    configs = stage_settings(growth.config, stages, growth.folder, first)
    for number, (stage, config) in enumerate(zip(stages, configs, strict=True), first):
        if stage.layers not in (0, model.config.num_hidden_layers):
            model = grow(model, stage.layers)
        train_only(model, stage.part)
        text = growth.text(stage.seq_length)
        record = pretrain(
            model,
            text,
            make_samples(growth.tokenizer, text.token_counts, families.of(model).objective, config),
            accelerator,
            config,
            out=growth.folder / f"stage-{number}",
            name=f"{growth.name}, {stage.title(model.config.num_hidden_layers)}",
            scale=growth.scale,
            **({"made_from": growth.made_from} if growth.made_from else {}),
            machine=use_fast_settings(accelerator.device),
        )
        records.append(record)
        accelerator.free_memory()
    set_dropout(model, DROPOUT)
    if folds:
        fold_token_types(model)
    return model, join_records(records, growth.name)


def stage_settings(
    config: PretrainingConfig, stages: Sequence[Stage], folder: Path, first: int = 0
) -> list[PretrainingConfig]:
    """The settings of each stage of a teacher in `folder`, of which the first has the number `first`."""
    budget = sum(stage.tokens for stage in stages)
    return [
        replace(
            config,
            learning_rate=stage.learning_rate,
            seq_length=stage.seq_length,
            batch_size=stage.batch_size,
            micro_batch_size=stage.batch_size,
            tokens=max(1, stage.tokens * config.tokens // budget),
            seed=config.seed + number,
            backup=str(Path(config.backup, folder.name)) if config.backup else config.backup,
        )
        for number, stage in enumerate(stages, first)
    ]
