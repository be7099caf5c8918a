"""Growing a teacher: a small BERT that starts well and becomes deeper, so that it can be trained on a laptop.

From the usual initialization, a deep and narrow BERT predicts by word frequency alone for millions of tokens.
Three measures shorten that plateau: sinusoidal positions with a first layer whose heads look at fixed neighbours (in
the spirit of mimetic initialization, Trockman and Kolter 2023); masks drawn uniformly, as BERT's were, because the
rare words that the original distillation prefers are the hardest to begin with; and growing the depth 3 → 6 → 12 by
repeating layers once the shallow model uses its context. `data/teachers/mini_probes.csv` holds the trials: three
layers, a million tokens of real text each, held-out loss under uniform masks.
"""

import copy
import math

import torch
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel

from .teacher import TRAINED_PARTS

OFFSETS = (-1, 1, -2, 2)  # where a new teacher's first heads look


def train_only(teacher: PreTrainedModel, part: str) -> None:
    """Make "all" weights trainable, or only those of the "head", without its decoder (the word embeddings)."""
    if part not in TRAINED_PARTS:
        raise ValueError(f"part is '{part}'; use {' or '.join(TRAINED_PARTS)}")
    teacher.requires_grad_(True)
    if part == "head":
        teacher.base_model.requires_grad_(False)


def new_teacher(config: BertConfig, offsets: tuple[int, ...] = OFFSETS, seed: int = 0) -> BertForMaskedLM:
    """A randomly initialized teacher whose first layer at first looks at the neighbours given by `offsets`.

    Head i of layer 0 looks at offset offsets[i]; positions start sinusoidal and stay trainable. `offsets=()` is the
    usual initialization.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        teacher = BertForMaskedLM(config)
    if offsets:
        with torch.no_grad():
            _look_at_offsets(teacher, offsets)
    return teacher


def sinusoids(positions: int, width: int, amplitude: float = 0.1, base: float = 1000.0) -> torch.Tensor:
    """Sine/cosine pairs, fastest first: (positions, width), pair p in columns 2p and 2p + 1."""
    angle = torch.arange(positions)[:, None] * base ** (-2 * torch.arange(width // 2) / width)
    return amplitude * torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def _look_at_offsets(teacher: BertForMaskedLM, offsets: tuple[int, ...], sharpness: float = 3.0) -> None:
    """Set each head's query to the fastest sine/cosine pairs and its key to those pairs rotated by the head's offset.

    The score then peaks at the offset. Word embeddings are made small in the columns of those pairs, because a word
    resembles itself and would keep most of the attention of the ±1 heads; larger sinusoids would drown the words.
    """
    config, embeddings = teacher.config, teacher.bert.embeddings
    embeddings.position_embeddings.weight.copy_(sinusoids(config.max_position_embeddings, config.hidden_size))
    attention = teacher.bert.encoder.layer[0].attention.self
    size = config.hidden_size // config.num_attention_heads
    embeddings.word_embeddings.weight[:, :size] *= 0.1
    for linear in (attention.query, attention.key):
        linear.weight.mul_(0.1)
    for head, offset in enumerate(offsets[: config.num_attention_heads]):
        for pair in range(size // 2):
            angle = offset * 1000.0 ** (-2 * pair / config.hidden_size)
            rows = slice(head * size + 2 * pair, head * size + 2 * pair + 2)
            columns = slice(2 * pair, 2 * pair + 2)
            cos, sin = math.cos(angle), math.sin(angle)
            attention.query.weight[rows, columns] += sharpness * torch.eye(2)
            attention.key.weight[rows, columns] += sharpness * torch.tensor([[cos, -sin], [sin, cos]])


def grow(teacher: BertForMaskedLM, layers: int) -> BertForMaskedLM:
    """The same model made deeper by repeating each layer in place: 3 → 6 gives layers 0 0 1 1 2 2.

    The copies of a layer share what the layer adds to its input (3 → 6: half each), because then less is lost:
    `data/teachers/mini_growth_probes.csv` compares ways to grow. Raises ValueError unless `layers` is a multiple of
    the present depth.
    """
    depth = teacher.config.num_hidden_layers
    if layers < depth or layers % depth:
        raise ValueError(f"{layers} layers is no multiple of {depth}: layers are repeated whole")
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = layers
    grown = BertForMaskedLM(config)
    grown.load_state_dict(teacher.state_dict(), strict=False)
    for i, layer in enumerate(grown.bert.encoder.layer):
        layer.load_state_dict(teacher.bert.encoder.layer[i * depth // layers].state_dict())
        with torch.no_grad():
            for parameter in (*layer.attention.output.dense.parameters(), *layer.output.dense.parameters()):
                parameter *= depth / layers
    grown.tie_weights()
    return grown


def fold_token_types(teacher: BertForMaskedLM) -> None:
    """Add token type 0 to the positions and set both types to zero; results for single segments are unchanged.

    The types are zeroed because pre-training without sentence pairs never trains type 1, and its random values would
    disturb every later pair task. A student without token types then loses nothing.
    """
    embeddings = teacher.bert.embeddings
    with torch.no_grad():
        embeddings.position_embeddings.weight += embeddings.token_type_embeddings.weight[0]
        embeddings.token_type_embeddings.weight.zero_()


def set_dropout(teacher: PreTrainedModel, probability: float) -> None:
    """Set a built model's dropout to `probability`, in its configuration and wherever it is applied.

    Families whose dropout has other names than BERT's (ModernBERT, where it is 0, and GPT-2) keep their own.
    """
    if not hasattr(teacher.config, "hidden_dropout_prob"):
        return
    teacher.config.update({"hidden_dropout_prob": probability, "attention_probs_dropout_prob": probability})
    for module in teacher.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability
