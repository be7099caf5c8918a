"""The student: which layers, every tensor where it belongs, the exact sizes, and an ordinary checkpoint."""

import pytest
import torch
from conftest import bert_config, make_teacher
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForQuestionAnswering,
    DistilBertModel,
)

from distilnb.evidence import paper
from distilnb.models.arithmetic import FORMULAS, count_groups, count_parameters, parameter_groups
from distilnb.models.student import (
    build_student,
    check_student,
    choose_layers,
    expected_tensors,
    parameter_sources,
    student_config,
)

VOCAB = 60


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    """Two sentences of word pieces."""
    return torch.randint(5, VOCAB, (2, 13), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def deep() -> BertForMaskedLM:
    """Six layers, so that choices differ."""
    return make_teacher(VOCAB, layers=6)


# which layers


@pytest.mark.parametrize(
    "choice, teacher, student, layers",
    [
        ("original", 12, 6, (0, 2, 4, 7, 9, 11)),
        ("every_other", 12, 6, (0, 2, 4, 6, 8, 10)),
        ("first", 12, 6, (0, 1, 2, 3, 4, 5)),
        ("last", 12, 6, (6, 7, 8, 9, 10, 11)),
        ("every_other", 24, 12, tuple(range(0, 24, 2))),
        ("first", 24, 12, tuple(range(12))),
        ("last", 24, 12, tuple(range(12, 24))),
        ("every_other", 6, 3, (0, 2, 4)),
        ("every_other", 4, 2, (0, 2)),
        ("every_other", 12, 4, (0, 3, 6, 9)),
        ("original", 4, 2, (0, 3)),
        ("last", 4, 2, (2, 3)),
        ("original", 12, 1, (0,)),
        ("every_other", 12, 1, (0,)),
        ("first", 12, 1, (0,)),
        ("last", 12, 1, (11,)),
        ("original", 5, 5, (0, 1, 2, 3, 4)),
    ],
)
def test_choices_by_name(choice, teacher, student, layers):
    assert choose_layers(choice, teacher, student) == layers


@pytest.mark.parametrize("teacher, student", [(24, 12), (6, 3), (12, 4), (7, 3)])
def test_the_originals_choice_keeps_both_ends_and_even_steps(teacher, student):
    layers = choose_layers("original", teacher, student)
    steps = {b - a for a, b in zip(layers, layers[1:], strict=False)}
    assert (layers[0], layers[-1], len(layers)) == (0, teacher - 1, student)
    assert max(steps) - min(steps) <= 1


def test_explicit_layers_are_taken_as_they_are():
    assert choose_layers([0, 5, 11], 12, 3) == (0, 5, 11)
    assert choose_layers((2, 2), 4, 2) == (2, 2)


@pytest.mark.parametrize(
    "choice, teacher, student, message",
    [
        ("middle", 12, 6, "'middle'"),
        ([0, 12], 12, 2, "layer 12"),
        ([-1, 3], 12, 2, "layer -1"),
        ([0, 1, 2], 12, 2, "3 layers"),
        ("first", 4, 5, "5 layers"),
        ("first", 4, 0, "0 layers"),
    ],
)
def test_wrong_choices_say_what_is_right(choice, teacher, student, message):
    with pytest.raises(ValueError, match=message):
        choose_layers(choice, teacher, student)


# every tensor from its place


def assert_layer_is(own: torch.nn.Module, theirs: torch.nn.Module) -> None:
    """Block by block, through the modules of both models and not through our table of names."""
    pairs = [
        (own.attention.q_lin, theirs.attention.self.query),
        (own.attention.k_lin, theirs.attention.self.key),
        (own.attention.v_lin, theirs.attention.self.value),
        (own.attention.out_lin, theirs.attention.output.dense),
        (own.sa_layer_norm, theirs.attention.output.LayerNorm),
        (own.ffn.lin1, theirs.intermediate.dense),
        (own.ffn.lin2, theirs.output.dense),
        (own.output_layer_norm, theirs.output.LayerNorm),
    ]
    for a, b in pairs:
        assert torch.equal(a.weight, b.weight) and torch.equal(a.bias, b.bias)


@pytest.mark.parametrize("layers", [(0, 2, 5), (5, 1), (3,)])
def test_every_tensor_comes_from_the_teacher(deep, layers):
    student = build_student(deep, layers)
    bert, head, own = deep.bert, deep.cls.predictions, student.distilbert
    for s, t in enumerate(layers):
        assert_layer_is(own.transformer.layer[s], bert.encoder.layer[t])
    assert len(own.transformer.layer) == len(layers)
    for a, b in [
        (own.embeddings.word_embeddings.weight, bert.embeddings.word_embeddings.weight),
        (own.embeddings.position_embeddings.weight, bert.embeddings.position_embeddings.weight),
        (own.embeddings.LayerNorm.weight, bert.embeddings.LayerNorm.weight),
        (own.embeddings.LayerNorm.bias, bert.embeddings.LayerNorm.bias),
        (student.vocab_transform.weight, head.transform.dense.weight),
        (student.vocab_transform.bias, head.transform.dense.bias),
        (student.vocab_layer_norm.weight, head.transform.LayerNorm.weight),
        (student.vocab_layer_norm.bias, head.transform.LayerNorm.bias),
        (student.vocab_projector.bias, head.decoder.bias),
        (student.vocab_projector.weight, head.decoder.weight),
    ]:
        assert torch.equal(a, b)


def test_student_has_weights_of_its_own(deep):
    student = build_student(deep)
    before = deep.bert.embeddings.word_embeddings.weight.clone()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert torch.equal(deep.bert.embeddings.word_embeddings.weight, before)


@pytest.mark.parametrize("init", ["teacher", "random"])
def test_input_and_output_embeddings_are_one_tensor(deep, init):
    student = build_student(deep, init=init)
    words = student.distilbert.embeddings.word_embeddings.weight
    assert student.get_output_embeddings().weight.data_ptr() == words.data_ptr()
    assert count_parameters(student) == sum(parameter_groups(student.config).values())


def test_default_is_half_the_depth_by_the_originals_choice(deep):
    student = build_student(deep)
    assert len(student.distilbert.transformer.layer) == 3
    for s, t in enumerate((0, 2, 5)):
        assert_layer_is(student.distilbert.transformer.layer[s], deep.bert.encoder.layer[t])


def test_a_full_depth_student_computes_what_its_teacher_computes(deep, ids):
    """All layers, token type 0 folded into the positions: nothing is left out, so the logits are the same.

    Tolerance 1e-5: the additions of the embeddings happen in another order.
    """
    student = build_student(deep, range(6), token_types="fold").eval()
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    with torch.no_grad():
        ours = student(ids, attention_mask=mask, output_hidden_states=True)
        theirs = deep(ids, attention_mask=mask, output_hidden_states=True)
    real = mask.bool()
    torch.testing.assert_close(ours.logits[real], theirs.logits[real], rtol=0, atol=1e-5)
    for a, b in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        torch.testing.assert_close(a[real], b[real], rtol=0, atol=1e-5)


def test_dropping_token_types_changes_the_embeddings_and_folding_does_not(deep, ids):
    folded, dropped = (build_student(deep, token_types=t).eval().distilbert.embeddings for t in ("fold", "drop"))
    with torch.no_grad():
        theirs = deep.bert.embeddings(ids, token_type_ids=torch.zeros_like(ids))
        torch.testing.assert_close(folded(ids), theirs, rtol=0, atol=1e-6)
        assert (dropped(ids) - theirs).abs().max() > 0.1


def test_folding_leaves_the_teacher_alone(deep):
    before = deep.bert.embeddings.position_embeddings.weight.clone()
    build_student(deep, token_types="fold")
    assert torch.equal(before, deep.bert.embeddings.position_embeddings.weight)


def test_config_is_the_teachers_without_token_types(deep):
    config = student_config(deep.config, 3)
    theirs = deep.config
    assert (config.n_layers, config.dim, config.n_heads, config.hidden_dim) == (3, 32, 4, 64)
    assert (config.vocab_size, config.max_position_embeddings) == (VOCAB, 128)
    assert (config.activation, config.initializer_range) == (theirs.hidden_act, theirs.initializer_range)
    assert (config.dropout, config.attention_dropout) == (0.1, 0.1)
    assert not config.sinusoidal_pos_embds


def test_dropout_of_the_teacher_is_the_students():
    config = student_config(bert_config(VOCAB, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.0), 2)
    assert (config.dropout, config.attention_dropout) == (0.3, 0.0)


# random initialization


def test_random_start_differs_from_the_teacher_and_follows_its_seed(deep):
    one, again, other = (build_student(deep, init="random", seed=seed).state_dict() for seed in (1, 1, 2))
    from_teacher = build_student(deep).state_dict()
    word = "distilbert.embeddings.word_embeddings.weight"
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one[word], other[word])
    matrices = [name for name, tensor in one.items() if tensor.dim() == 2]
    assert len(matrices) > 10 and not any(torch.equal(one[name], from_teacher[name]) for name in matrices)


@pytest.mark.parametrize("init", ["teacher", "random"])
def test_building_a_student_leaves_the_global_generator_alone(deep, init):
    torch.manual_seed(12345)  # a state that no earlier student can have left behind
    before = torch.get_rng_state()
    build_student(deep, init=init)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"init": "zeros"}, "'zeros'"),
        ({"token_types": "keep"}, "token_types"),
        ({"layers": [0, 6]}, "layer 6"),
        ({"layers": [0, 1], "n_layers": 3}, "2 layers"),
        ({"n_layers": 7}, "7 layers"),
    ],
)
def test_wrong_options(deep, options, message):
    with pytest.raises(ValueError, match=message):
        build_student(deep, **options)


# the check of a student


@pytest.mark.parametrize("token_types", ["drop", "fold"])
def test_check_passes_and_counts_every_tensor(deep, token_types):
    student = build_student(deep, (0, 3), token_types=token_types)
    assert check_student(student, deep, (0, 3), token_types) == len(student.state_dict())


@pytest.mark.parametrize(
    "name", ["distilbert.transformer.layer.1.ffn.lin2.bias", "vocab_layer_norm.weight", "vocab_projector.bias"]
)
def test_check_names_the_tensor_that_differs(deep, name):
    student = build_student(deep, (0, 3))
    with torch.no_grad():
        student.get_parameter(name)[0] += 1e-3
    with pytest.raises(ValueError, match=name):
        check_student(student, deep, (0, 3))


def test_check_sees_another_choice_of_layers(deep):
    with pytest.raises(ValueError, match="differs"):
        check_student(build_student(deep, (0, 3)), deep, (0, 4))
    with pytest.raises(ValueError, match="disagree"):
        check_student(build_student(deep, (0, 3)), deep, (0, 3, 4))


def test_the_map_names_each_student_tensor_once(deep):
    pairs = list(parameter_sources((0, 2, 5)))
    student = build_student(deep).state_dict()
    assert sorted(own for own, _ in pairs) == sorted(student)
    assert {theirs for _, theirs in pairs} <= set(deep.state_dict())
    assert sorted(expected_tensors(deep, (0, 2, 5))) == sorted(student)


# sizes


@pytest.mark.parametrize(
    "model, config, head, count",
    [
        (BertModel, BertConfig, False, 109_482_240),
        (BertForMaskedLM, BertConfig, True, 109_514_298),
        (DistilBertModel, DistilBertConfig, False, 66_362_880),
        (DistilBertForMaskedLM, DistilBertConfig, True, 66_985_530),
    ],
)
def test_base_sizes_by_counting_and_by_arithmetic(model, config, head, count):
    with torch.device("meta"):
        assert count_parameters(model(config())) == count
    assert sum(parameter_groups(config(), head=head).values()) == count
    assert paper.parameters(model.__name__) == count


def test_student_of_bert_base_has_distilberts_size():
    assert sum(parameter_groups(student_config(BertConfig(), 6), head=False).values()) == 66_362_880


@pytest.mark.parametrize("head", [True, False])
def test_groups_are_the_models_own_parts(deep, head):
    """Each group against the parameters of that part, so that two mistakes cannot cancel."""
    model = deep if head else BertModel(deep.config)
    bert = model.bert if head else model

    def size(*parts) -> int:
        return sum(count_parameters(part) for part in parts)

    layers = bert.encoder.layer
    norms = [norm for layer in layers for norm in (layer.attention.output.LayerNorm, layer.output.LayerNorm)]
    groups = parameter_groups(deep.config, head=head)
    assert groups["word embeddings"] == size(bert.embeddings.word_embeddings)
    assert groups["position embeddings"] == size(bert.embeddings.position_embeddings)
    assert groups["token-type embeddings"] == size(bert.embeddings.token_type_embeddings)
    assert groups["embedding LayerNorm"] == size(bert.embeddings.LayerNorm)
    assert groups["layer LayerNorms"] == size(*norms)
    attention = [part for layer in layers for part in (layer.attention.self, layer.attention.output.dense)]
    assert groups["attention"] == size(*attention)
    assert groups["feed-forward"] == size(*(p for layer in layers for p in (layer.intermediate, layer.output.dense)))
    if head:
        assert groups["MLM head"] == size(model.cls.predictions.transform) + VOCAB and "pooler" not in groups
    else:
        assert groups["pooler"] == size(bert.pooler) and "MLM head" not in groups


# an ordinary checkpoint


@pytest.mark.parametrize("load", [DistilBertForMaskedLM, AutoModelForMaskedLM])
def test_saved_student_opens_in_plain_transformers(deep, ids, tmp_path, load):
    student = build_student(deep).eval()
    student.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    loaded, report = load.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is DistilBertForMaskedLM
    assert not report["missing_keys"] and not report["unexpected_keys"]
    with torch.no_grad():
        assert torch.equal(loaded.eval()(ids).logits, student(ids).logits)
    assert count_parameters(loaded) == count_parameters(student)


@pytest.mark.parametrize(
    "kind, head",
    [
        (BertModel, False),
        (BertForMaskedLM, True),
        (BertForQuestionAnswering, "qa"),
        (DistilBertModel, False),
        (DistilBertForMaskedLM, True),
        (DistilBertForQuestionAnswering, "qa"),
    ],
)
def test_each_groups_formula_is_what_the_model_has(kind, head):
    """Pencil, arithmetic and counting agree group by group, at the paper's sizes and at others."""
    odd = {"vocab_size": 101, "max_position_embeddings": 33}
    bert = kind.config_class is BertConfig
    odd |= (
        dict(hidden_size=24, num_attention_heads=3, intermediate_size=40, num_hidden_layers=5, type_vocab_size=3)
        if bert
        else dict(dim=24, n_heads=3, hidden_dim=40, n_layers=5)
    )
    for config in (kind.config_class(), kind.config_class(**odd)):
        with torch.device("meta"):
            counted = count_groups(kind(config))
        assert counted == parameter_groups(config, head=head)
        sizes = {
            "h": config.hidden_size,
            "v": config.vocab_size,
            "p": config.max_position_embeddings,
            "f": config.intermediate_size if bert else config.hidden_dim,
            "L": config.num_hidden_layers,
            "t": config.type_vocab_size if bert else 0,
        }
        assert counted == {group: eval(FORMULAS[group], {}, sizes) for group in counted}


def test_no_parameter_is_left_out_of_the_groups():
    with torch.device("meta"):
        classifier = BertForSequenceClassification(BertConfig(num_labels=3))
    groups = count_groups(classifier)
    assert sum(groups.values()) == count_parameters(classifier)
    assert groups["task head"] == 3 * 768 + 3
    with pytest.raises(ValueError, match="parameter"):
        count_groups(torch.nn.Linear(2, 2))
