"""Every family: predicted sizes, exact starts, and the same loop, on models small enough to build in milliseconds."""

import copy
import json
import re
import warnings
from dataclasses import replace
from operator import attrgetter

import pytest
import torch
from accelerate import Accelerator
from conftest import make_teacher
from safetensors.torch import load_file, save_file
from test_layout import TOKENIZERS
from transformers import (
    AutoModel,
    BertConfig,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from distilnb import scales
from distilnb.cli import main
from distilnb.distillation import checkpoints
from distilnb.distillation.batches import MaskedRows, collate, make_samples
from distilnb.distillation.loop import pretrain
from distilnb.distillation.losses import LossWeights, triple_loss
from distilnb.distillation.recipe import PretrainingConfig
from distilnb.distillation.step import Distillation
from distilnb.evidence.names import OBJECTIVES
from distilnb.evidence.records import load_record
from distilnb.machine.device import forget_accelerator
from distilnb.models import dropout, families, half, narrowing
from distilnb.models.arithmetic import count_groups, parameter_groups
from distilnb.models.families import FAMILIES
from distilnb.models.forward import decoder, head_input
from distilnb.models.guessing import best_guesses, mask_logits
from distilnb.models.sources import load_model
from distilnb.models.student import (
    build_student,
    check_student,
    chosen_layers,
    expected_tensors,
    student_config,
    tensor_sources,
)
from distilnb.models.teacher import load_encoder, load_teacher
from distilnb.studies import benchmark, formats
from distilnb.tasks import finetuning, heads
from distilnb.text.masking import IGNORE, NextWord

SHAPE = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 6,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "initializer_range": 0.3,
}
IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
DEBERTA = {
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "conv_kernel_size": 3,
    "conv_act": "gelu",
}
CONFIGS = {
    "bert": BertConfig(**SHAPE),
    "distilbert": DistilBertConfig(vocab_size=60, dim=16, n_layers=6, n_heads=2, hidden_dim=24, initializer_range=0.3),
    "roberta": RobertaConfig(**SHAPE, max_position_embeddings=130, type_vocab_size=1, layer_norm_eps=1e-5),
    "xlm-roberta": XLMRobertaConfig(**SHAPE, max_position_embeddings=130, type_vocab_size=1, layer_norm_eps=1e-5),
    "camembert": CamembertConfig(**SHAPE, max_position_embeddings=130, type_vocab_size=1, layer_norm_eps=1e-5),
    "electra": ElectraConfig(**SHAPE, embedding_size=8),
    "mpnet": MPNetConfig(**SHAPE, max_position_embeddings=130, layer_norm_eps=1e-5),
    "deberta-v2": DebertaV2Config(**SHAPE, **DEBERTA),
    "deberta-v2, legacy=false": DebertaV2Config(**SHAPE, **DEBERTA, legacy=False),
    "modernbert": ModernBertConfig(**SHAPE, **IDS, max_position_embeddings=128, local_attention=8),
    "gpt2": GPT2Config(vocab_size=60, n_embd=16, n_layer=6, n_head=2, n_positions=128, initializer_range=0.3, **IDS),
}
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
FAIRSEQ = {"max_position_embeddings": 514, "type_vocab_size": 1}
V3 = {
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
}
PUBLISHED = {  # shapes of published models: millions of parameters of the teacher and of its half, tied ones once
    "FacebookAI/roberta-base": (RobertaConfig(**BASE, **FAIRSEQ, vocab_size=50265), 124.7, 82.2),
    "FacebookAI/xlm-roberta-base": (XLMRobertaConfig(**BASE, **FAIRSEQ, vocab_size=250002), 278.3, 235.8),
    "google-bert/bert-base-multilingual-cased": (BertConfig(**BASE, vocab_size=119547), 178.0, 135.4),
    "answerdotai/ModernBERT-base": (ModernBertConfig(), 149.7, 94.5),
    "answerdotai/ModernBERT-large": (
        ModernBertConfig(hidden_size=1024, num_hidden_layers=28, num_attention_heads=16, intermediate_size=2624),
        395.9,
        224.3,
    ),
    "openai-community/gpt2": (GPT2Config(), 124.4, 81.9),
    "microsoft/mpnet-base": (MPNetConfig(**BASE, max_position_embeddings=514, vocab_size=30527), 109.5, 67.0),
    "microsoft/deberta-v3-base": (DebertaV2Config(**BASE, **V3, vocab_size=128100), 184.6, 142.0),
}
CHOICES = ("original", "every_other", "first", "last", (0, 3, 4), (0, 2), (0, 4, 2))


def make(config: PreTrainedConfig, seed: int = 0) -> torch.nn.Module:
    """A random model of this configuration whose biases and norms are random too: zeros and ones hide wrong copies."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = families.of(config).model(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "bias" in name or "orm" in name or "ln_" in name:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def size(model: torch.nn.Module) -> int:
    """Parameters, tied ones once."""
    return sum(p.numel() for p in model.parameters())


def test_every_family_is_tested():
    assert set(CONFIGS) == {*FAMILIES, "deberta-v2, legacy=false"}


@pytest.mark.parametrize("kind", CONFIGS)
def test_sizes_are_predicted(kind):
    config = CONFIGS[kind]
    with torch.device("meta"):
        model, bare = families.of(config).model(config), AutoModel.from_config(config)
    assert sum(parameter_groups(config).values()) == size(model)
    assert parameter_groups(config) == count_groups(model)
    assert parameter_groups(config, head=False) == count_groups(bare)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_and_their_halves_come_out(name):
    config, teacher, half = PUBLISHED[name]
    student = student_config(config, chosen_layers(config))
    for each, millions in ((config, teacher), (student, half)):
        with torch.device("meta"):
            assert size(families.of(each).model(each)) == sum(parameter_groups(each).values())
        assert round(sum(parameter_groups(each).values()) / 1e6, 1) == millions


def test_the_published_distilled_models_come_out():
    """82 M (DistilRoBERTa), 82 M (DistilGPT2) and 134 M (DistilmBERT), the last without its head."""
    roberta, _, bert, _, _, gpt2 = (config for config, *_ in list(PUBLISHED.values())[:6])
    assert round(sum(parameter_groups(student_config(roberta, 6)).values()) / 1e6) == 82
    assert round(sum(parameter_groups(student_config(gpt2, 6)).values()) / 1e6) == 82
    assert int(sum(parameter_groups(student_config(bert, 6), head=False).values()) / 1e6) == 134


# the start


def cut(teacher: torch.nn.Module, layers: tuple[int, ...]) -> torch.nn.Module:
    """The teacher with its list of layers cut down: the same modules, nothing copied by us."""
    rest = copy.deepcopy(teacher)
    path, _, last = families.of(teacher).layers.rpartition(".")
    kept = torch.nn.ModuleList([getattr(attrgetter(path)(rest), last)[i] for i in layers])
    setattr(attrgetter(path)(rest), last, kept)
    if teacher.config.model_type == "bert":  # its student has no token types
        torch.nn.init.zeros_(rest.bert.embeddings.token_type_embeddings.weight)
    return rest


def apart(first: torch.nn.Module, second: torch.nn.Module) -> float:
    """The largest difference of last hidden states and logits, on rows with padding."""
    ids = torch.randint(5, 60, (2, 21), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 13:] = 0
    ids[1, 13:] = first.config.pad_token_id
    with torch.no_grad():
        a, b = (m(input_ids=ids, attention_mask=mask, output_hidden_states=True) for m in (first, second))
    real = mask.bool()
    return max(
        (a.hidden_states[-1] - b.hidden_states[-1])[real].abs().max().item(),
        (a.logits - b.logits)[real].abs().max().item(),
    )


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_student_starts_as_its_teacher_cut_to_its_layers(kind, choice, tmp_path):
    teacher = make(CONFIGS[kind])
    if kind == "modernbert" and choice == "last":
        with pytest.raises(ValueError, match="layer"):
            build_student(teacher, choice)
        return
    student = build_student(teacher, choice).eval()
    layers = student.config.initialized_from["layers"]
    student.save_pretrained(tmp_path)
    again = type(student).from_pretrained(tmp_path).eval()
    for model in (student, again):
        assert apart(model, cut(teacher, tuple(layers))) <= 1e-6
    assert check_student(student, teacher, layers) == len(student.state_dict())
    named = dict(tensor_sources(teacher, layers))
    assert named.keys() == student.state_dict().keys() and set(named.values()) <= teacher.state_dict().keys()
    assert sum(parameter_groups(student.config).values()) == size(student)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_careless_copy_is_found_out(kind):
    """A fresh configuration with unrenamed keys silently takes the first layers."""
    teacher, layers = make(CONFIGS[kind]), (0, 2, 4)
    config = student_config(teacher.config, layers)
    careless = families.of(config).model(config).eval()
    if kind != "bert":
        careless.load_state_dict(teacher.state_dict(), strict=False)
    assert apart(careless, cut(teacher, layers)) > 0.1
    with pytest.raises(ValueError, match="differs"):
        check_student(careless, teacher, layers)


@pytest.mark.parametrize("layers", [(1, 2, 4), (0, 0, 3), (2, 0, 4)])
def test_modernberts_first_layer_stays_first(layers):
    with pytest.raises(ValueError, match="layer"):
        build_student(make(CONFIGS["modernbert"]), layers)


def test_a_pattern_of_local_layers_that_breaks_is_told():
    teacher = make(CONFIGS["modernbert"])
    with pytest.warns(UserWarning, match="local"):
        build_student(teacher, (0, 1, 2, 4, 5))
    assert build_student(teacher, (0, 1, 3)).config.layer_types == [
        "full_attention",
        "sliding_attention",
        "full_attention",
    ]


def test_a_family_that_is_not_in_the_table_is_named_with_those_that_are():
    with pytest.raises(ValueError, match="ModernBERT"):
        families.of(PreTrainedConfig())


@pytest.mark.parametrize("kind", CONFIGS)
def test_untied_decoders_stay_untied(kind, tmp_path):
    config = copy.deepcopy(CONFIGS[kind])
    config.tie_word_embeddings = False
    teacher, layers = make(config), (0, 2, 3)
    student = build_student(teacher, layers).eval()
    student.save_pretrained(tmp_path)
    for model in (student, type(student).from_pretrained(tmp_path).eval()):
        assert apart(model, cut(teacher, layers)) <= 1e-6
    assert sum(parameter_groups(student.config).values()) == size(student)


@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if "legacy" not in kind])
def test_a_decoder_of_its_own_is_kept_where_the_configuration_says_one_table(kind, tokenizer, tmp_path):
    """The file holds two; a student that shared one would begin with other logits."""
    config = copy.deepcopy(CONFIGS[kind])
    config.vocab_size, config.pad_token_id, config.tie_word_embeddings = len(tokenizer), tokenizer.pad_token_id, False
    make(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tie_word_embeddings": True}))
    for teacher in (load_teacher(tmp_path)[0], load_model(str(tmp_path))):
        student = build_student(teacher, (0, 2, 3)).eval()
        assert apart(student, cut(teacher, (0, 2, 3))) <= 1e-6
        assert sum(parameter_groups(student.config).values()) == size(student)


def test_a_command_says_once_that_the_student_stays_a_bert():
    """It chooses the layers twice, once for the configuration and once for the model."""
    config = copy.deepcopy(CONFIGS["bert"])
    config.layer_norm_eps = 1e-3
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        chosen_layers(config)
        chosen_layers(config)
    assert [str(one.message) for one in told if "stays a BERT" in str(one.message)] == [str(told[0].message)]


@pytest.mark.parametrize("change", [{"layer_norm_eps": 1e-3}, {"is_decoder": True}], ids=str)
def test_a_bert_with_what_a_distilbert_cannot_have_stays_a_bert(change):
    config = copy.deepcopy(CONFIGS["bert"])
    config.update(change)
    teacher = make(config)
    with pytest.warns(UserWarning, match="DistilBERT"):
        student = build_student(teacher, (0, 2, 3)).eval()
    whole = copy.deepcopy(teacher)
    whole.bert.encoder.layer = torch.nn.ModuleList([whole.bert.encoder.layer[i] for i in (0, 2, 3)])
    assert student.config.model_type == "bert" and apart(student, whole) <= 1e-6


def test_scores_that_a_gpt2_divides_by_the_layers_number_stay_the_same(monkeypatch):
    config = copy.deepcopy(CONFIGS["gpt2"])
    config.scale_attn_by_inverse_layer_idx = True
    teacher, layers = make(config), (0, 2, 5)
    assert apart(build_student(teacher, layers).eval(), cut(teacher, layers)) < 1e-4  # rounded once more
    monkeypatch.setitem(FAMILIES, "gpt2", replace(FAMILIES["gpt2"], mend=None))
    assert apart(build_student(teacher, layers).eval(), cut(teacher, layers)) > 0.01


@pytest.mark.parametrize("kind", CONFIGS)
def test_building_copies_no_tensor_twice_and_leaves_the_teacher_alone(kind):
    config = copy.deepcopy(CONFIGS[kind])
    config.scale_attn_by_inverse_layer_idx = True  # of GPT-2: its rule must not write to the teacher either
    teacher = make(config)
    before, layers = copy.deepcopy(teacher.state_dict()), (0, 2, 5)
    own = {tensor.data_ptr() for tensor in teacher.state_dict().values()}
    expected = expected_tensors(teacher, layers)
    copied = {name for name, tensor in expected.items() if tensor.data_ptr() not in own}
    assert all("c_attn" in name for name in copied) and bool(copied) is (kind == "gpt2")
    student = build_student(teacher, layers)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


# as they are published


def published(kind: str, tokenizer, folder, bare: bool = False) -> torch.nn.Module:
    """A model of the small language as a folder, with its tokenizer; `bare` without a head."""
    config = copy.deepcopy(CONFIGS[kind])
    config.vocab_size, config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
    model = make(config)
    tokenizer.save_pretrained(folder)
    (model.base_model if bare else model).save_pretrained(folder)
    return model


def apply(way: str, folder, model: torch.nn.Module) -> torch.nn.Module:
    """Rewrite the weights in a folder in one of the ways that published ones have; what should be read from there."""
    if way == "half":
        model.half().save_pretrained(folder)
        return model.float()
    if way == "sharded":
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, max_shard_size="12KB")
        assert len(list(folder.glob("model-*.safetensors"))) > 2
        return model
    tensors = load_file(folder / "model.safetensors")
    norms = {name for name, module in model.named_modules() if isinstance(module, torch.nn.LayerNorm)}
    if way == "old names":  # norms of another name are younger
        norms = {name for name in norms if name.endswith("LayerNorm")}
    new = {"weight": "gamma", "bias": "beta"}
    save_file(
        {
            f"{module}.{new[last]}" if module in norms else name: tensor
            for name, tensor in tensors.items()
            for module, _, last in [name.rpartition(".")]
        },
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    return model


@pytest.mark.parametrize("way", ["half", "sharded", "old names", "unheard-of names"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_weights_as_they_are_published_are_read_to_the_last_bit(kind, way, tokenizer, tmp_path):
    """In float16, in shards, with a LayerNorm's gamma and beta as in 2018; other norms so called are refused."""
    expected = apply(way, tmp_path, published(kind, tokenizer, tmp_path)).state_dict()
    if way == "unheard-of names" and any(re.search("norm|ln_", name) for name in expected):  # norms of another name
        with pytest.raises(ValueError, match="weights"):
            load_teacher(tmp_path)
        return
    loaded, _ = load_teacher(tmp_path)
    assert loaded.dtype == torch.float32
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_encoder_of_any_family_is_given_a_head_and_trained(kind, tokenizer, text_file, tmp_path, monkeypatch):
    """As a published sentence encoder is; GPT-2's head is its table of words, and nothing new."""
    whole = published(kind, tokenizer, tmp_path / "encoder", bare=True)
    loaded, _, new = load_encoder(tmp_path / "encoder")
    assert bool(new) is (kind != "gpt2")
    theirs = whole.base_model.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in loaded.base_model.state_dict().items())
    if kind not in ("mpnet", "modernbert", "gpt2"):  # one of each kind is trained
        return
    stages = (scales.HEAD._replace(seq_length=32, tokens=256), scales.Stage(0, 1e-3, 32, 8, 512))
    monkeypatch.setattr(scales, "HEAD", stages[0])
    small = replace(scales.get("small"), teacher_stages=stages, leave_out="")
    monkeypatch.setitem(scales.SCALES, "small", small)
    flags = ["--start", str(tmp_path / "encoder"), "--text", str(text_file), "--out", str(tmp_path / "out"), "--cpu"]
    assert main.main(["teacher", "--scale", "small", *flags, "--name", f"teacher-{kind[:7]}"]) == 0
    record = load_record(tmp_path / "out" / "model" / "record.json")
    assert len(record["stages"]) == (2 if new else 1)
    assert build_student(load_teacher(tmp_path / "out" / "model")[0]).config.num_hidden_layers == 3


# the head


@pytest.mark.parametrize("kind", CONFIGS)
def test_head_input_times_the_decoder_are_the_logits(kind):
    model = make(CONFIGS[kind])
    ids = torch.randint(5, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden = model.base_model(ids)[0]
        weight, bias = decoder(model)
        torch.testing.assert_close(head_input(model, hidden) @ weight.T + bias, model(ids).logits)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_longest_text_is_read_and_a_longer_one_is_not(kind):
    model = make(CONFIGS[kind])
    longest = families.longest(model.config)
    with torch.no_grad():
        model(torch.full((1, longest), 7))
        if not kind.startswith(("modernbert", "deberta-v2")):  # their positions are relative
            with pytest.raises((IndexError, RuntimeError, ValueError)):
                model(torch.full((1, longest + 1), 7))


# on devices


EXPORTED = [*((kind, "pairs") for kind in CONFIGS), *((kind, "words") for kind in ("electra", "modernbert", "gpt2"))]


@pytest.mark.parametrize("kind, head", EXPORTED)
def test_a_half_answers_alike_in_onnx(kind, head, tmp_path):
    """On rows longer than those it was exported with, and half padding; a layer, and a ModernBERT's local one too."""
    layers = (0, 1) if (kind, head) == ("modernbert", "pairs") else (0,)
    student = build_student(make(CONFIGS[kind]), layers).eval()
    model = student if head == "words" else benchmark.with_head(student, head)
    exact, *runners = (formats.make_runner(model, form, tmp_path) for form in ("float32", "onnx_float32", "onnx_int8"))
    errors = [formats.check_agreement(runner, exact, formats.sample(model)) for runner in runners]
    assert errors[0] < 1e-5 < errors[1]


# narrower

WIDTHS = CONFIGS | {
    "deberta-v2, positions projected apart": DebertaV2Config(**SHAPE, **DEBERTA | {"share_att_key": False})
}


@pytest.mark.parametrize("kind", WIDTHS)
def test_a_student_cut_to_its_full_width_is_the_exact_copy(kind):
    teacher = make(WIDTHS[kind])
    student = build_student(teacher, (0, 2, 5), width=16, heads=2)
    assert check_student(student, teacher, (0, 2, 5)) == len(student.state_dict())


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_narrower_student_keeps_columns_heads_and_units(kind, tmp_path):
    teacher = make(CONFIGS[kind])
    student = build_student(teacher, (0, 2, 5), width=4, heads=1).eval()
    assert (student.config.hidden_size, student.config.num_attention_heads) == (4, 1)
    words = student.get_input_embeddings().weight
    if kind != "electra":
        columns = teacher.get_input_embeddings().weight.norm(dim=0).topk(4).indices.sort().values
        assert torch.equal(words, teacher.get_input_embeddings().weight[:, columns])
    assert sum(parameter_groups(student.config).values()) == size(student)
    student.save_pretrained(tmp_path)
    assert apart(student, type(student).from_pretrained(tmp_path).eval()) == 0


def level(model: torch.nn.Module, first: float = 1.0) -> None:
    """Give every column of the word embeddings, as the layers read them, the same norm; `first` times at even ones."""
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith(("embeddings_project", "embed_proj")):
                module.weight /= module.weight.norm(dim=1, keepdim=True)
                module.weight[::2] *= first
                return
        words = model.get_input_embeddings().weight
        words /= words.norm(dim=0)
        words[:, ::2] *= first


def widened(small: torch.nn.Module, doubled: str) -> torch.nn.Module:
    """A model twice as wide, with twice the heads or heads of twice the size, that computes the same.

    Every column is there twice, so that norms see the same mean and variance, and only its first copy is read. Further
    heads, rows of heads and units are zeros; where rows are turned, they keep their angles.
    """
    row, config = families.of(small), copy.deepcopy(small.config)
    config.hidden_size, config.num_attention_heads = 32, 4 if doubled == "heads" else 2
    for name in {"intermediate_size", "hidden_dim"} & vars(config).keys():
        setattr(config, name, 48)
    big, first = families.of(config).model(config).eval(), torch.arange(64)
    rows = first if doubled == "heads" else first + first // 8 * 8
    turned = first * 2 if row.rotary and doubled == "size" else rows
    where = {"w": first * 2, "q": turned, "k": turned, "v": rows, "f": first, "a": first}

    def wider(block: torch.Tensor, axis: int, letter: str, written: bool) -> torch.Tensor:
        if letter == "w" and written:
            return block.repeat_interleave(2, axis)
        made = torch.cat([torch.zeros_like(block)] * 2, axis).index_copy(
            axis, where[letter][: block.shape[axis]], block
        )
        return made * 2**0.5 if letter == "q" and doubled == "size" else made

    for name, target in big.state_dict().items():
        tensor, within = small.state_dict()[name], re.sub(rf"^{re.escape(row.layers)}\.\d+\.", "", name)
        table = "embeddings." in name or re.search("wte|wpe", name) or name.startswith(row.decoder)
        axes, out = narrowing.axes_of(within, tensor, row), int(row.transposed if within != name else bool(table))
        axes = ["", "a"] if name in row.head_tables else axes
        for axis in range(tensor.ndim):
            if tensor.shape[axis] != target.shape[axis]:
                blocks = zip(axes[axis], tensor.chunk(len(axes[axis]), axis), strict=True)
                written = axis == min(out, tensor.ndim - 1)
                tensor = torch.cat([wider(block, axis, letter, written) for letter, block in blocks], axis)
        target.copy_(tensor)
    level(big, 1.0001)
    return big


@pytest.mark.parametrize("doubled", ["heads", "size"])
@pytest.mark.parametrize("kind", WIDTHS)
def test_a_model_that_was_made_wider_is_made_narrower_again(kind, doubled):
    """Which proves the letters of `parts`: with a wrong one, either the wide model or the student computes another."""
    small = make(WIDTHS[kind])
    level(small)
    big = widened(small, doubled)
    ids = torch.randint(5, 60, (2, 21), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(big.base_model(ids)[0][..., ::2], small.base_model(ids)[0], rtol=0, atol=0.01)
    student = build_student(big, tuple(range(6)), width=16, heads=2).eval()
    assert apart(student, cut(small, tuple(range(6)))) < 0.01


def test_all_layers_of_an_mpnet_keep_the_heads_of_its_one_table_of_positions():
    teacher = make(CONFIGS["mpnet"])
    with torch.no_grad():
        for i, factor in ((0, 1.0), (2, 3.0), (5, 0.9)):
            attention = teacher.mpnet.encoder.layer[i].attention.attn
            attention.v.weight[8:] *= factor  # the second head, which is the larger in one layer alone
            attention.v.weight[:8] *= 1.5
    student = build_student(teacher, (0, 2, 5), width=8, heads=1)
    columns = teacher.get_input_embeddings().weight.norm(dim=0).topk(8).indices.sort().values
    table = teacher.mpnet.encoder.relative_attention_bias.weight
    kept = [torch.equal(student.mpnet.encoder.relative_attention_bias.weight[:, 0], table[:, i]) for i in range(2)]
    for ours, i in zip(student.mpnet.encoder.layer, (0, 2, 5), strict=True):
        theirs = teacher.mpnet.encoder.layer[i].attention.attn.v.weight[:, columns].view(2, 8, 8)
        assert [torch.equal(ours.attention.attn.v.weight, head) for head in theirs] == kept
    assert sum(kept) == 1


def test_widths_that_do_not_fit_are_refused():
    teacher = make_teacher(60)
    for width, count in ((33, 4), (64, 4), (30, 4), (32, 8)):
        with pytest.raises(ValueError, match="width"):
            build_student(teacher, width=width, heads=count)
    with pytest.raises(ValueError, match="odd"):
        build_student(make(CONFIGS["modernbert"]), width=5, heads=1, init="random")
    with pytest.raises(ValueError, match="embeddings"):
        build_student(make(CONFIGS["electra"]), width=8)
    assert build_student(make(CONFIGS["gpt2"]), width=8, init="random").config.n_embd == 8
    assert build_student(teacher, heads=2).config.dim == 16, "the size of heads is kept"


# the loop


@pytest.fixture(params=CONFIGS)
def pair(request, tokenizer) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A teacher of each family that reads the small language, and its half, without dropout."""
    config = copy.deepcopy(CONFIGS[request.param])
    config.vocab_size, config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
    teacher = make(config)
    student = build_student(teacher, (0, 2, 3)).eval()
    with torch.no_grad():  # so that no loss is zero
        for parameter in student.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return student, teacher


def batch_of(corpus, tokenizer, objective: str, rows: int = 6) -> dict[str, torch.Tensor]:
    """The first samples of a corpus for this family's objective."""
    samples = make_samples(tokenizer, corpus.token_counts, objective, PretrainingConfig())
    return collate(
        MaskedRows(corpus.train, samples).__getitems__([(0, i) for i in range(rows)]), tokenizer.pad_token_id
    )


def step_of(student, teacher, batch, **settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and terms of one micro-batch that is a whole update."""
    words = max(1, int((batch["labels"] != IGNORE).sum()))
    return Distillation(student, teacher, PretrainingConfig(**settings))(
        batch, int(batch["attention_mask"].sum()), words
    )


@pytest.mark.parametrize("positions", ["all", "masked"])
def test_losses_are_those_of_the_readable_reference(pair, grouped, tokenizer, positions):
    student, teacher = pair
    batch = batch_of(grouped, tokenizer, families.of(student).objective)
    loss, terms = step_of(student, teacher, batch, positions=positions)
    loss.backward()
    fast = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    student.zero_grad()
    read = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "output_hidden_states": True}
    with torch.no_grad():
        theirs = teacher(**read)
    ours = student(**read)
    expected, parts = triple_loss(
        (ours.logits, ours.hidden_states[-1]),
        (theirs.logits, theirs.hidden_states[-1]),
        batch["labels"],
        batch["attention_mask"],
        LossWeights(),
        positions=positions,
    )
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(terms, torch.stack([*parts.values()]).detach(), rtol=1e-5, atol=1e-5)
    for name, parameter in student.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(fast[name], parameter.grad, rtol=1e-3, atol=1e-4)


def test_in_bf16_the_losses_are_close_and_the_tables_stay_float32(pair, grouped, tokenizer):
    student, teacher = pair
    batch = batch_of(grouped, tokenizer, families.of(student).objective)
    exact, _ = step_of(student, teacher, batch)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = step_of(student, teacher, batch)
    loss.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=0.05) and loss.item() != exact.item()
    assert {p.grad.dtype for p in student.parameters() if p.grad is not None} == {torch.float32}
    kept = [p for table in families.embeddings(student)[0] for p in table.parameters()]
    cast = half.cast(student, student, torch.bfloat16)
    assert all(cast[name].dtype == torch.float32 for name, p in student.named_parameters() if any(p is k for k in kept))
    assert not any(module._forward_hooks for module in student.modules())


def test_dropout_for_a_processor_changes_nothing_else(pair, grouped, tokenizer):
    """In evaluation the outputs stay; in training, with dropout and in bf16, the loss is a number."""
    student, teacher = pair
    batch = batch_of(grouped, tokenizer, families.of(student).objective)
    plain = step_of(student, teacher, batch)
    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    dropout.speed_up(student, torch.device("cpu"))
    torch.testing.assert_close(step_of(student, teacher, batch), plain, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = step_of(student.train(), teacher, batch)
    loss.backward()
    assert loss.isfinite() and all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())


def test_more_padding_changes_nothing(pair, grouped, tokenizer):
    student, teacher = pair
    batch = batch_of(grouped, tokenizer, families.of(student).objective)
    fillers = {"input_ids": tokenizer.pad_token_id, "labels": IGNORE, "attention_mask": 0}
    wider = {key: torch.nn.functional.pad(value, (0, 7), value=fillers[key]) for key, value in batch.items()}
    for a, b in zip(step_of(student, teacher, batch), step_of(student, teacher, wider), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_a_cut_run_ends_as_the_whole_one_and_the_loss_falls(pair, packed, tokenizer, tmp_path):
    _, teacher = pair
    samples = make_samples(tokenizer, packed.token_counts, families.of(teacher).objective, PretrainingConfig())
    shape = {"seq_length": 32, "batch_size": 8, "micro_batch_size": 4, "tokens": 8 * 32 * 6, "learning_rate": 3e-3}
    config, weights = PretrainingConfig(**shape, evaluate_every=6), []
    for name, stops in (("whole", [None]), ("cut", [3, None])):
        for stop in stops:
            forget_accelerator()
            student = build_student(teacher, (0, 2, 3), init="random")
            accelerator = Accelerator(cpu=True)
            out = tmp_path / name
            made = {"out": out, "stop_after": stop, "quiet": True}
            record = pretrain(student, packed, samples, accelerator, config, teacher=copy.deepcopy(teacher), **made)
        weights.append({name: p.detach().clone() for name, p in student.named_parameters()})
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    objective = OBJECTIVES[families.of(teacher).objective]
    assert record["scores"].keys() == {objective.loss, "accuracy", "agreement"}
    assert {"mlm", "clm"} & record["curve"].keys() == {objective.term}
    assert record["curve"]["loss"][-1] < record["curve"]["loss"][0]


def test_a_checkpoint_of_a_causal_run_that_says_mlm_is_still_read(packed, tokenizer, tmp_path):
    config = copy.deepcopy(CONFIGS["gpt2"])
    config.vocab_size, config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
    settings = PretrainingConfig(seq_length=32, batch_size=8, micro_batch_size=8, tokens=1000, checkpoint_every=2)
    made = {}
    for name, stop in (("whole", None), ("cut", 2)):
        teacher, out = make(config), tmp_path / name
        arguments = packed, NextWord(), Accelerator(cpu=True), settings
        made[name] = pretrain(build_student(teacher), *arguments, teacher=teacher, out=out, stop_after=stop, quiet=True)
    folder = out / "checkpoints"
    saved = checkpoints.read_checkpoint(folder / "step-00000002", identity := checkpoints.identity(folder))
    old = json.loads(json.dumps(saved.state).replace('"clm', '"mlm'))
    assert old != saved.state
    checkpoints.save(tmp_path / "old" / "checkpoints", saved._replace(state=old), identity)
    record = pretrain(build_student(teacher), *arguments, teacher=teacher, out=tmp_path / "old", quiet=True)
    for part in ("curve", "evaluations"):
        for name, column in made["whole"][part].items():
            assert record[part][name] == column or name == "tokens_per_second"
    assert record["scores"] == made["whole"]["scores"]


def test_the_blank_or_the_next_word_is_guessed(pair, tokenizer):
    _, teacher = pair
    causal = families.of(teacher).objective == "causal"
    text = "anna sees the old" + ("" if causal else " [MASK]")
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    place = -1 if causal else ids[0].tolist().index(tokenizer.mask_token_id)
    with torch.no_grad():
        expected = teacher(ids).logits[0, place]
    torch.testing.assert_close(mask_logits(teacher, tokenizer, text), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_rows_that_pad_a_table_are_no_guess(kind):
    tokenizer, config = TOKENIZERS[kind](), copy.deepcopy(CONFIGS[kind])
    config.vocab_size, config.pad_token_id = len(tokenizer) + 4, tokenizer.pad_token_id
    model = make(config)
    with torch.no_grad():
        decoder(model)[1][-4:] = 50.0
    guesses = best_guesses(model, tokenizer, "anna sees the [MASK]")
    assert len(guesses) == 5 and all(isinstance(guess.word, str) for guess in guesses)


def test_a_narrower_student_learns_a_projection_and_loses_it(packed, tokenizer, tmp_path):
    teacher, weights = make_teacher(len(tokenizer)), []
    shape = {"seq_length": 32, "batch_size": 8, "micro_batch_size": 8, "tokens": 8 * 32 * 6}
    samples = make_samples(tokenizer, packed.token_counts, "masked", PretrainingConfig())
    for name, stops in (("whole", [None]), ("cut", [3, None])):
        for stop in stops:
            forget_accelerator()
            student = build_student(teacher, width=16, heads=2)
            made = {"out": tmp_path / name, "stop_after": stop, "quiet": True}
            accelerator = Accelerator(cpu=True)
            record = pretrain(
                student, packed, samples, accelerator, PretrainingConfig(**shape), teacher=teacher, **made
            )
        assert not hasattr(student, "projection")
        weights.append({name: p.detach().clone() for name, p in student.named_parameters()})
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert record["curve"]["cos"][-1] < record["curve"]["cos"][0]


# tasks


@pytest.mark.parametrize("kind", CONFIGS)
def test_task_heads_keep_the_encoder_and_learn(kind):
    teacher = make(CONFIGS[kind])
    ids = torch.randint(5, 60, (4, 12), generator=torch.Generator().manual_seed(0))
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": (torch.arange(12) > 5).long().expand(4, 12),
    }
    batch["attention_mask"][0, 9:], batch["input_ids"][0, 9:] = 0, teacher.config.pad_token_id
    for model, new in (heads.classifier(teacher, 3), heads.question_answerer(teacher)):
        assert new and not any(name.startswith(families.of(teacher).layers) for name in new)
        logits = finetuning.forward(model, batch)
        assert logits.shape == ((4, 12, 2) if heads.is_answerer(model) else (4, 3)) and logits.isfinite().all()
        with torch.autocast("cpu", torch.bfloat16):
            half_logits = finetuning.forward(model, batch)
        assert (logits - half_logits)[logits > finetuning.NEVER].abs().max() < 0.5
        half_logits.square().mean().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        with torch.no_grad():
            wider = {
                key: torch.nn.functional.pad(value, (0, 5), value=teacher.config.pad_token_id if "ids" in key else 0)
                for key, value in batch.items()
            }
            wider["token_type_ids"][:, 12:] = 0
            torch.testing.assert_close(
                finetuning.forward(model, wider)[:, : logits.shape[1]], logits, rtol=1e-4, atol=1e-4
            )
