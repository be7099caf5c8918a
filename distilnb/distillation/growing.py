"""A teacher made by the loop of this room, stage after stage: grown from nothing, or trained on from a BERT.

From nothing, depth is added by repeating layers once the shallow model has learned to use its context
(`models.growth`). An encoder without a masked-word head is given one, which is trained alone first: trained at once
with the rest, its random answers would wash out what the encoder knows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import BertConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..evidence.comparing import join_records
from ..evidence.records import load_record
from ..machine.device import settle
from ..models import dropout
from ..models.growth import fold_token_types, grow, new_teacher, set_dropout, train_only
from ..models.sources import shipped_name
from ..models.teacher import load_encoder
from ..scales import HEAD, Scale, Stage
from ..text.corpus import Corpus
from .batches import make_samples
from .loop import pretrain
from .recipe import PretrainingConfig


@dataclass
class Growth:
    """A teacher on its way: the model as it is, the stages before it and, of an earlier teacher, its record.

    `made_from` says for the record what it was begun with; `pairs` whether its token types already tell two texts
    apart, so that they must be kept.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stages: list[Stage]
    records: list[dict[str, Any]] = field(default_factory=list)
    made_from: dict[str, Any] = field(default_factory=dict)
    pairs: bool = False

    def __post_init__(self) -> None:
        set_dropout(self.model, 0.0)  # too little text to overfit


def from_nothing(tokenizer: PreTrainedTokenizerBase, scale: Scale, seed: int) -> Growth:
    """The teacher of a scale before its first update, as shallow as its first stage."""
    stages = list(scale.teacher_stages)
    shape = scale.teacher_shape | {"vocab_size": len(tokenizer), "num_hidden_layers": stages[0].layers}
    return Growth(new_teacher(BertConfig(**shape), seed=seed), tokenizer, stages)


def from_encoder(start: str, scale: Scale, seed: int) -> Growth:
    """A BERT that is there, FOLDER or NAME@REVISION, and the stages of the scale that train it on.

    Raises ValueError as `load_encoder`, for a model that is no BERT, and where no stage of the scale has its depth.
    """
    name, revision = (start, "") if Path(start).is_dir() else start.partition("@")[::2]
    model, tokenizer, new = load_encoder(name, revision or None, seed)
    if model.config.model_type != "bert":
        raise ValueError(f"'{name}' is a {model.config.model_type} model; only a BERT can be trained on as a teacher")
    stages = stages_of(model.config.num_hidden_layers, bool(new), scale)
    made = {"start": shipped_name(name), "revision": revision or None, "new_tensors": list(new)}
    model.config.initialized_from = made  # stays with the model, and tells its run from that of another start
    earlier = Path(start, "record.json")
    records = [load_record(earlier)] if earlier.is_file() and not new else []
    types = model.get_submodule("bert.embeddings.token_type_embeddings").weight
    return Growth(model, tokenizer, stages, records, made, pairs=bool(types[1:].any()))


def stages_of(depth: int, headless: bool, scale: Scale) -> list[Stage]:
    """The stages that train a teacher of `depth` layers on, a new head alone first; ValueError where there is none."""
    stages = [s for s in scale.teacher_stages if s.layers in (0, depth) and s.part == "all"]
    if not stages:
        raise ValueError(f"the teacher has {depth} layers, and no stage of scale {scale.name} has as many")
    return [HEAD, *stages] if headless else stages


def run_stages(
    growth: Growth,
    text_of: Callable[[int], Corpus],
    accelerator: Accelerator,
    config: PretrainingConfig,
    out: Path,
    name: str,
    scale: str,
) -> dict[str, Any]:
    """Train all stages, each in its folder below `out`, taken up where it was stopped; the record of the whole.

    `text_of` gives the text in blocks of so many tokens. Depth, rate, batch and length are the stages'; the token
    budget of `config` stretches or shrinks all of them alike.
    """
    budget = sum(stage.tokens for stage in growth.stages)
    if accelerator.device.type == "cpu":
        dropout.for_cpu(growth.model)
    more = {"made_from": growth.made_from} if growth.made_from else {}
    done = len(growth.records[0]["stages"]) if growth.records else 0
    for number, stage in enumerate(growth.stages, start=done):
        growth.model = grow(growth.model, stage.layers or growth.model.config.num_hidden_layers)
        train_only(growth.model, stage.part)
        settings = replace(
            config,
            learning_rate=stage.learning_rate,
            seq_length=stage.seq_length,
            batch_size=stage.batch_size,
            micro_batch_size=stage.batch_size,
            tokens=max(1, stage.tokens * config.tokens // budget),
            seed=config.seed + number,
            backup=str(Path(config.backup, out.name)) if config.backup else "",
        )
        text = text_of(stage.seq_length)
        samples = make_samples(growth.tokenizer, text.token_counts, "masked", settings)
        title = f"{name}, {stage.title(growth.model.config.num_hidden_layers)}"
        more |= {"out": out / f"stage-{number}", "name": title, "scale": scale, "machine": settle(accelerator.device)}
        growth.records.append(pretrain(growth.model, text, samples, accelerator, settings, **more))
        accelerator.free_memory()
    return join_records(growth.records, name)


def finished(growth: Growth) -> PreTrainedModel:
    """The model as those who fine-tune it expect it, with dropout, in float16 (half the size on disk)."""
    set_dropout(growth.model, 0.1)
    if not growth.pairs:
        fold_token_types(growth.model)
    return growth.model.half()
