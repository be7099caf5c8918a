"""Teachers: what is refused and why, the first layer that looks at its neighbours, and growing by repetition."""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from conftest import bert_config, make_teacher
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    BertTokenizer,
    GPT2Config,
    PreTrainedTokenizerFast,
)

from distilnb import scales
from distilnb.cli import training
from distilnb.machine import hub
from distilnb.models.growth import OFFSETS, fold_token_types, grow, new_teacher, sinusoids, train_only
from distilnb.models.teacher import check_vocabulary, load_encoder, load_teacher
from distilnb.text.corpus import TextSource, build_corpus


@pytest.fixture
def folder(teacher_folder, tmp_path) -> Path:
    """A copy of the teacher's folder that a test may damage."""
    return Path(shutil.copytree(teacher_folder, tmp_path / "teacher"))


def edit(path: Path, **changes) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# loading


def test_a_saved_teacher_comes_back(teacher_folder, teacher, tokenizer):
    loaded, its_tokenizer = load_teacher(teacher_folder)
    assert not loaded.training and {p.dtype for p in loaded.parameters()} == {torch.float32}
    expected = teacher.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    assert its_tokenizer.get_vocab() == tokenizer.get_vocab() and its_tokenizer.is_fast


def test_half_precision_weights_are_loaded_as_float32(folder, tokenizer, teacher):
    teacher.half().save_pretrained(folder)
    assert {p.dtype for p in load_teacher(folder)[0].parameters()} == {torch.float32}


def test_no_such_teacher(serve, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", serve((404, {"X-Error-Code": "RepoNotFound"}, b"{}")))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(ValueError, match="teacher"):
        load_teacher("nobody/nothing")


def test_a_hub_that_says_nothing(silent_server, monkeypatch):
    """A sentence in seconds; the deadline is shortened here."""
    monkeypatch.setattr(constants, "ENDPOINT", silent_server)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "DEADLINE", 1.0)
    began = time.monotonic()
    with pytest.raises(ValueError, match="nobody"):
        load_teacher("nobody/nothing")
    assert time.monotonic() - began < 5


def test_a_folder_without_config(tmp_path):
    with pytest.raises(ValueError, match="readable"):
        load_teacher(tmp_path)


def test_a_broken_config(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="readable"):
        load_teacher(folder)


def test_another_kind_of_model(folder):
    edit(folder / "config.json", model_type="albert")
    with pytest.raises(ValueError, match="albert"):
        load_teacher(folder)


def test_missing_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="configuration"):
        load_teacher(folder)


def test_a_missing_tokenizer(folder):
    """transformers makes one of five tokens up without a word."""
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ValueError, match="tokenizer"):
        load_teacher(folder)


def test_a_model_without_the_head(folder, teacher):
    """What BertModel.save_pretrained writes: from_pretrained would fill in a random head without a word."""
    BertModel(teacher.config).save_pretrained(folder)
    with pytest.raises(ValueError, match="distilnb"):
        load_teacher(folder)


def test_an_encoder_is_given_a_head_tied_to_its_words(folder, teacher):
    """The same one each time, whatever was drawn before; the encoder is the encoder's own, its pooler is dropped."""
    BertModel(teacher.config).save_pretrained(folder)
    encoder = BertModel.from_pretrained(folder)
    torch.manual_seed(1)
    first, _, new = load_encoder(folder, seed=3)
    second, other = load_encoder(folder, seed=3)[0], load_encoder(folder, seed=4)[0]
    assert len(new) == 5 and all(name.startswith("cls.predictions.") for name in new)
    head = first.cls.predictions
    assert head.decoder.weight is first.bert.embeddings.word_embeddings.weight and head.decoder.bias is head.bias
    assert not head.bias.any() and bool((head.transform.LayerNorm.weight == 1).all())
    assert torch.equal(head.transform.dense.weight, second.cls.predictions.transform.dense.weight)
    assert not torch.equal(head.transform.dense.weight, other.cls.predictions.transform.dense.weight)
    theirs = encoder.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in first.bert.state_dict().items())
    first.save_pretrained(folder)
    assert load_encoder(folder)[2] == ()


def test_a_head_of_which_a_part_is_missing_is_none(folder):
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if "transform.dense" not in k}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"cls\.predictions\.transform\.dense"):
        load_encoder(folder)


def test_layers_that_the_configuration_does_not_name(folder):
    edit(folder / "config.json", num_hidden_layers=3)
    with pytest.raises(ValueError, match=r"encoder\.layer\.3"):
        load_encoder(folder)


@pytest.mark.parametrize("kind", ["sharded", "half", "old names", "one token type", "untied"])
def test_encoders_as_they_are_published(kind, folder, teacher, tokenizer):
    """Each is loaded to the last bit that it holds: shards, float16, names of 2018, a single token type, no tie."""
    bare = BertModel(teacher.config)
    if kind == "one token type":
        bare = BertModel(bert_config(len(tokenizer), type_vocab_size=1))
    (folder / "model.safetensors").unlink()
    saved = bare.half() if kind == "half" else bare
    saved.save_pretrained(folder, **({"max_shard_size": "20KB"} if kind == "sharded" else {}))
    if kind == "old names":
        renamed = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
            for name, tensor in load_file(folder / "model.safetensors").items()
        }
        save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    if kind == "untied":
        edit(folder / "config.json", tie_word_embeddings=False)
    assert (folder / "model.safetensors").is_file() is (kind != "sharded")
    loaded, _, new = load_encoder(folder)
    expected = saved.float().state_dict()
    assert len(new) == 5 and loaded.dtype == torch.float32
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.bert.state_dict().items())
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight


def test_a_tokenizer_that_cuts_and_pads_does_neither_here(folder, tokenizer, text_file):
    """Sentence encoders bring a tokenizer.json that switches both on."""
    brought = json.loads((folder / "tokenizer.json").read_text())
    brought["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    brought["padding"] = {
        "strategy": {"Fixed": 8},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    (folder / "tokenizer.json").write_text(json.dumps(brought))
    assert AutoTokenizer.from_pretrained(folder).backend_tokenizer.truncation
    _, loaded = load_teacher(folder)
    assert loaded.backend_tokenizer.truncation is None and loaded.backend_tokenizer.padding is None
    sources = [TextSource(str(text_file))]
    ours, expected = (build_corpus(sources, made, seq_length=32) for made in (loaded, tokenizer))
    assert ours.info["tokens"] == expected.info["tokens"]
    assert ours.info["fingerprint"] == expected.info["fingerprint"] and not (ours.token_counts[0])


def test_the_head_alone_is_trained(teacher):
    train_only(teacher, "head")
    trained = {name for name, parameter in teacher.named_parameters() if parameter.requires_grad}
    assert len(trained) == 5 and all(name.startswith("cls.predictions.") for name in trained)
    train_only(teacher, "all")
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    with pytest.raises(ValueError, match="encoder"):
        train_only(teacher, "encoder")


def test_a_missing_layer(folder):
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if ".layer.2.output.dense" not in k}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"bert\.encoder\.layer\.2\.output\.dense"):
        load_teacher(folder)


def test_pickled_weights_are_refused(folder):
    """A pickle can run code when it is opened; this one says so if it is."""
    (folder / "model.safetensors").unlink()

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (folder / "code-was-run",))

    torch.save({"bert.embeddings.word_embeddings.weight": Bomb()}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="weights"):
        load_teacher(folder)
    assert not (folder / "code-was-run").exists()


def test_code_in_the_repository_is_not_run(folder):
    edit(folder / "config.json", auto_map={"AutoConfig": "evil.Config"}, model_type="evil")
    (folder / "evil.py").write_text(f"open({str(folder / 'code-was-run')!r}, 'w')\n")
    with pytest.raises(ValueError):
        load_teacher(folder)
    assert not (folder / "code-was-run").exists()


def test_weights_of_another_size(folder):
    edit(folder / "config.json", intermediate_size=128)
    with pytest.raises(ValueError, match="teacher"):
        load_teacher(folder)


def test_tokenizer_of_another_model(folder, teacher):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat"]
    BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}).save_pretrained(folder)
    rows = teacher.config.vocab_size
    words = f"vocabularies of tokenizer and model differ: 6 word pieces against {rows} embeddings"
    with pytest.raises(ValueError, match=words):
        load_teacher(folder)


def test_a_tokenizer_without_mask(teacher, tokenizer):
    class NoMask:
        mask_token_id = None

        def __len__(self) -> int:
            return teacher.config.vocab_size

    check_vocabulary(teacher.config, tokenizer)
    with pytest.raises(ValueError, match="mask"):
        check_vocabulary(teacher.config, NoMask())


def test_spare_embeddings_are_told_and_missing_ones_refused():
    """bert-base-italian-xxl has 32,102 rows for 31,102 pieces; tables that are padded are nothing special."""

    class Words(PreTrainedTokenizerFast):
        def __len__(self) -> int:
            return 31_102

        def __call__(self, text: str) -> None:
            pass

    words = Words(tokenizer_object=Tokenizer(WordLevel({"[UNK]": 0})), **SPECIALS)
    with pytest.warns(UserWarning, match="1,000 are spare"):
        check_vocabulary(BertConfig(vocab_size=32_102), words)
    check_vocabulary(BertConfig(vocab_size=31_168), words)
    for rows in (31_101, 50_000):
        with pytest.raises(ValueError, match="vocabularies"):
            check_vocabulary(BertConfig(vocab_size=rows), words)


SPECIALS = {"mask_token": "[MASK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


@pytest.mark.parametrize("named, missing", [(("mask_token",), "eos_token"), (("mask_token", "cls_token"), "sep_token")])
@pytest.mark.parametrize("config", [BertConfig, GPT2Config])
def test_a_tokenizer_without_a_token_that_parts_documents(config, named, missing):
    """As one that is made of a tokenizer.json alone: what its tokens are for has to be named."""
    words = Tokenizer(WordLevel({"[UNK]": 0, **{token: i for i, token in enumerate(SPECIALS.values(), 1)}}, "[UNK]"))
    made = PreTrainedTokenizerFast(tokenizer_object=words, **{name: SPECIALS[name] for name in named})
    with pytest.raises(ValueError, match=missing):
        check_vocabulary(config(vocab_size=len(made)), made)
    whole = PreTrainedTokenizerFast(tokenizer_object=words, **SPECIALS)
    check_vocabulary(config(vocab_size=len(whole)), whole)


def test_a_tokenizer_that_cannot_read_unknown_words(teacher, tokenizer):
    """As an MPNet's without [UNK]; `tokenizers` would raise a bare Exception in the middle of a text."""
    pieces = [piece for piece in tokenizer.get_vocab() if piece != "[UNK]"]
    mute = BertTokenizer(vocab={piece: i for i, piece in enumerate(["[XXX]", *pieces])})
    with pytest.raises(ValueError, match="text"):
        check_vocabulary(BertConfig(vocab_size=len(mute)), mute)


@pytest.mark.hub
def test_a_repository_without_weights_is_an_error_in_a_sentence():
    """The Hub of these tests has bert-base-uncased's configuration and tokenizer only; the real one has all."""

    try:
        teacher, tokenizer = load_teacher(scales.BERT_BASE, scales.BERT_BASE_REVISION)
    except ValueError as error:
        assert "has a configuration, but its weights" in str(error) and "\n" not in str(error)
    else:
        assert sum(p.numel() for p in teacher.parameters()) == 109_514_298 and len(tokenizer) == 30522


@pytest.mark.hub
def test_no_such_repository():
    with pytest.raises(ValueError, match="such-model"):
        load_teacher("no/such-model")


# a new teacher


NARROW = {"hidden_size": 128, "intermediate_size": 512, "initializer_range": 0.05}  # the shape of the shipped teachers


def attention_of_the_first_layer(model: BertForMaskedLM, length: int = 32) -> torch.Tensor:
    """(heads, length, length), averaged over random sentences."""
    model.set_attn_implementation("eager")
    ids = torch.randint(5, model.config.vocab_size, (32, length), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.eval().bert(ids, output_attentions=True).attentions[0].mean(0)


@pytest.mark.parametrize("offsets", [OFFSETS, (3, -3, 1, 0), (5,)])
def test_the_first_layer_sees_fixed_offsets_in_the_positions(offsets):
    """With the words taken away, head i looks at position + offsets[i] from every inner position."""
    model = new_teacher(bert_config(300, layers=1, **NARROW), offsets=offsets)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.zero_()
        model.bert.embeddings.token_type_embeddings.weight.zero_()
    attention = attention_of_the_first_layer(model)
    inner = torch.arange(5, 27)
    for head, offset in enumerate(offsets):
        assert attention[head].argmax(-1)[inner].tolist() == (inner + offset).tolist(), offset


@pytest.mark.parametrize("head, offset", list(enumerate(OFFSETS)))
def test_heads_of_the_first_layer_look_at_their_offsets(head, offset):
    """On random words too, most of a head's attention goes to its offset (0.83), little to the word itself."""
    attention = attention_of_the_first_layer(new_teacher(bert_config(3000, layers=1, **NARROW)))[head]
    inner = torch.arange(5, 27)
    assert attention[inner, inner + offset].mean() > 0.75
    assert attention[inner, inner].mean() < 0.15


def test_without_offsets_the_initialization_is_the_usual():
    config = bert_config(300, initializer_range=0.05)
    usual = new_teacher(config, offsets=(), seed=3)
    torch.manual_seed(3)
    for (name, a), (_, b) in zip(usual.state_dict().items(), BertForMaskedLM(config).state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_offsets_touch_embeddings_and_the_first_layers_queries_and_keys_only():
    config = bert_config(300, initializer_range=0.05)
    usual, special = new_teacher(config, offsets=()).state_dict(), new_teacher(config).state_dict()
    changed = {name for name in usual if not torch.equal(usual[name], special[name])}
    words, positions = "bert.embeddings.word_embeddings.weight", "bert.embeddings.position_embeddings.weight"
    first, tied = "bert.encoder.layer.0.attention.self", "cls.predictions.decoder.weight"
    assert changed == {words, tied, positions, f"{first}.query.weight", f"{first}.key.weight"}
    size = config.hidden_size // config.num_attention_heads
    assert torch.equal(usual[words][:, size:], special[words][:, size:])


def test_new_teachers_follow_their_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(12345)
    config, before = bert_config(300), torch.get_rng_state()
    one, again, other = (new_teacher(config, seed=seed).bert.embeddings.word_embeddings.weight for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


def test_new_teacher_trains_all_it_has():
    assert all(p.requires_grad for p in new_teacher(bert_config(300)).parameters())


def test_sinusoids_are_pairs_of_falling_speed():
    table = sinusoids(50, 8, amplitude=0.5, base=100.0)
    assert table.shape == (50, 8)
    positions = torch.arange(50.0)
    for pair in range(4):
        speed = 100.0 ** (-2 * pair / 8)
        torch.testing.assert_close(table[:, 2 * pair], 0.5 * torch.sin(positions * speed), atol=1e-5, rtol=0)
        torch.testing.assert_close(table[:, 2 * pair + 1], 0.5 * torch.cos(positions * speed), atol=1e-5, rtol=0)


# growing


def test_grow_repeats_each_layer_in_place():
    """Unchanged but for what a layer adds to its input, which its copies share."""
    small = make_teacher(60, layers=3)
    for layers, sources in ((6, [0, 0, 1, 1, 2, 2]), (9, [0, 0, 0, 1, 1, 1, 2, 2, 2]), (3, [0, 1, 2])):
        grown = grow(small, layers)
        assert grown.config.num_hidden_layers == len(grown.bert.encoder.layer) == layers
        for layer, source in zip(grown.bert.encoder.layer, sources, strict=True):
            theirs = small.bert.encoder.layer[source].state_dict()
            for name, tensor in layer.state_dict().items():
                share = 3 / layers if "output.dense" in name else 1
                assert torch.equal(tensor, theirs[name] * share), name


def test_shared_steps_keep_a_grown_model_near_the_small_one():
    """Nearer than plain copies of the layers."""
    small = make_teacher(60, layers=3, initializer_range=0.1)
    grown, ids = grow(small, 6).eval(), torch.arange(5, 37)[None]
    with torch.no_grad():
        target, near = small(ids).logits, grown(ids).logits
        for i, layer in enumerate(grown.bert.encoder.layer):
            layer.load_state_dict(small.bert.encoder.layer[i // 2].state_dict())
        plain = grown(ids).logits
    assert (near - target).norm() < 0.8 * (plain - target).norm()


def test_grow_twice_keeps_the_order():
    small = make_teacher(60, layers=3)
    norms = [layer.output.LayerNorm.bias[0].item() for layer in grow(grow(small, 6), 12).bert.encoder.layer]
    assert norms == [small.bert.encoder.layer[i // 4].output.LayerNorm.bias[0].item() for i in range(12)]


def test_grow_keeps_everything_else_and_ties():
    small = make_teacher(60, layers=2)
    grown = grow(small, 4)
    theirs = small.state_dict()
    for name, tensor in grown.state_dict().items():
        if ".layer." not in name:
            assert torch.equal(tensor, theirs[name]), name
    words = grown.bert.embeddings.word_embeddings.weight
    assert grown.get_output_embeddings().weight.data_ptr() == words.data_ptr()
    assert words.data_ptr() != small.bert.embeddings.word_embeddings.weight.data_ptr()


def test_grown_layers_are_independent_and_the_old_model_is_left_alone():
    small = make_teacher(60, layers=2)
    before = small.bert.encoder.layer[0].output.dense.weight.clone()
    grown = grow(small, 4)
    with torch.no_grad():
        grown.bert.encoder.layer[0].output.dense.weight.zero_()
    assert torch.equal(grown.bert.encoder.layer[1].output.dense.weight, before / 2)
    assert torch.equal(small.bert.encoder.layer[0].output.dense.weight, before)
    assert small.config.num_hidden_layers == 2


def test_folded_token_types_change_nothing_for_single_segments():
    """Tolerance 1e-5: the additions of the embeddings happen in another order."""
    model = make_teacher(60, layers=2)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        before = model(ids).logits
        fold_token_types(model)
        torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=1e-5)
        pairs = model(ids, token_type_ids=torch.ones_like(ids)).logits
    torch.testing.assert_close(pairs, before, rtol=0, atol=1e-5)
    assert not model.bert.embeddings.token_type_embeddings.weight.any()


@pytest.mark.parametrize("layers", [4, 5, 2, 1])
def test_grow_refuses_what_is_no_multiple(layers):
    with pytest.raises(ValueError, match=f"{layers} layers"):
        grow(make_teacher(60, layers=3), layers)


def test_the_stages_of_a_teacher_that_is_trained_on():
    """A head that is there is not trained alone; a new one is, first; depths without a stage get that of any depth."""
    small, mini = scales.get("small"), scales.get("mini")
    assert [stage.part for stage in training.stages_of(4, False, small)] == ["all"]
    assert [stage.part for stage in training.stages_of(4, True, small)] == ["head", "all"]
    assert {stage.layers for stage in training.stages_of(6, False, mini)} == {6}
    assert training.stages_of(4, True, mini) == [scales.HEAD, scales.WHOLE]
