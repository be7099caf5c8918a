"""Heads: what is kept of the encoder, what is new and drawn from the seed, what is refused."""

from dataclasses import replace

import pytest
import torch
from conftest import same_weights, weights_of
from safetensors.torch import load_file, save_file
from transformers import AlbertConfig, AlbertForMaskedLM, BertModel, GPT2Config, GPT2LMHeadModel

from distilnb.tasks.glue import TASKS
from distilnb.tasks.heads import classifier, fine_tuned, for_task, is_answerer, question_answerer, units
from distilnb.tasks.squad import SQUAD

NEW_IN_BERT = ("bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias")
NEW_IN_DISTILBERT = ("pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias")


def test_a_classifier_has_the_encoder_of_its_source_and_says_what_is_new(teacher, student):
    """BERT's pooler is new: a masked language model has none."""
    for source, new in ((teacher, NEW_IN_BERT), (student, NEW_IN_DISTILBERT)):
        before = weights_of(source)
        model, found = classifier(source, 3)
        assert found == new and model.config.num_labels == 3 and model.dtype == torch.float32
        theirs, compared = model.state_dict(), source.base_model.state_dict(prefix=f"{source.base_model_prefix}.")
        assert all(torch.equal(theirs[name], tensor) for name, tensor in compared.items())
        assert theirs.keys() == compared.keys() | set(new)
        with torch.no_grad():
            model.get_parameter("classifier.weight").add_(1.0)
            next(model.parameters()).add_(1.0)
        assert all(torch.equal(p, before[name]) for name, p in source.named_parameters()), "the source was changed"
        assert source.config.num_labels == 2


def test_the_new_head_is_drawn_from_the_seed_alone(teacher):
    """The global random state neither decides it nor is moved by it."""
    heads = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        heads.append(classifier(teacher, 2, seed)[0].classifier.weight)
        after = torch.rand(3)
        torch.manual_seed(noise)
        assert torch.equal(after, torch.rand(3))
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert 0.1 < heads[0].std() < 0.3  # the initializer range of this teacher is 0.2


def test_a_folder_gives_the_same_classifier_as_the_object(teacher, student, tmp_path, capsys):
    for source in (teacher, student):
        source.save_pretrained(tmp_path / source.config.model_type)
        model, new = classifier(tmp_path / source.config.model_type, 3, seed=7)
        expected, expected_new = classifier(source, 3, seed=7)
        assert new == expected_new and same_weights(model, expected)
    assert "MISSING" not in capsys.readouterr().err


def test_a_pooler_or_a_head_that_the_folder_brings_is_kept(teacher, tmp_path):
    """bert-base-uncased has a pooler trained by next-sentence prediction; a fine-tuned model has its whole head."""
    pooled, _ = classifier(teacher, 3, seed=1)
    pooled.save_pretrained(tmp_path)
    model, new = classifier(tmp_path, 3, seed=2)
    assert new == () and same_weights(model, pooled)
    assert classifier(pooled, 3, seed=2)[1] == ()
    with pytest.warns(UserWarning, match="head"):
        two, new = classifier(tmp_path, 2)
    assert new == ("classifier.weight", "classifier.bias") and two.classifier.out_features == 2


def test_outputs_are_brought_into_the_tasks_order_by_their_names(student, tmp_path):
    """Published models name MNLI's labels in other orders than GLUE; other names are another task."""
    mnli = TASKS["mnli"]
    model, _ = classifier(student, 3, seed=1)
    weight = model.classifier.weight.detach().clone()
    model.config.id2label = {0: "CONTRADICTION", 1: "entailment", 2: "neutral"}
    model.save_pretrained(tmp_path)
    for made in (fine_tuned(tmp_path, mnli), for_task(tmp_path, mnli)[0]):
        assert torch.equal(made.classifier.weight, weight[[1, 2, 0]])
        assert list(made.config.id2label.values()) == list(mnli.labels)
    model.config.id2label = {0: "red", 1: "green", 2: "blue"}
    model.save_pretrained(tmp_path / "colours")
    with pytest.raises(ValueError, match="red"):
        fine_tuned(tmp_path / "colours", mnli)
    with pytest.warns(UserWarning, match="head"):
        made, new = for_task(tmp_path / "colours", mnli)
    assert "classifier.weight" in new and not torch.equal(made.classifier.weight, weight)


def test_what_is_no_bert_with_a_whole_encoder_is_refused(teacher, tokenizer, tmp_path):
    shape = {
        "vocab_size": 20,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    with pytest.raises(ValueError, match="albert"):
        classifier(AlbertForMaskedLM(AlbertConfig(**shape)), 2)
    with pytest.raises(ValueError, match="BertModel"):
        classifier(BertModel(teacher.config), 2)
    teacher.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    cut = {name: tensor for name, tensor in tensors.items() if "layer.3." not in name}
    save_file(cut, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="tensors"):
        classifier(tmp_path, 2)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="configuration"):
        classifier(tmp_path, 2)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="readable"):
        classifier(tmp_path, 2)


def test_an_answerer_has_two_outputs_per_token_and_no_pooler(teacher, student, tmp_path):
    for source in (teacher, student):
        model, new = question_answerer(source, seed=3)
        assert new == ("qa_outputs.weight", "qa_outputs.bias") and model.qa_outputs.out_features == 2
        assert is_answerer(model) and not is_answerer(classifier(source, 2)[0])
        assert same_weights(for_task(source, SQUAD, seed=3)[0], model)
        source.save_pretrained(tmp_path / source.config.model_type)
        assert same_weights(question_answerer(tmp_path / source.config.model_type, seed=3)[0], model)


def test_the_task_decides_about_the_head(student):
    for name, outputs in (("sst2", 2), ("mnli", 3), ("stsb", 1)):
        model = for_task(student, TASKS[name])[0]
        assert model.config.num_labels == outputs and not is_answerer(model)


def test_a_model_that_was_not_fine_tuned_is_no_second_teacher(teacher, student, tmp_path):
    """Its head would be new: it would teach noise."""
    with pytest.raises(ValueError, match="BertForMaskedLM"):
        fine_tuned(teacher, TASKS["sst2"])
    model, _ = classifier(student, 2, seed=1)
    model.save_pretrained(tmp_path)
    assert same_weights(fine_tuned(tmp_path, TASKS["sst2"]), model)
    with pytest.raises(ValueError, match="fine-tuned"):
        fine_tuned(tmp_path, SQUAD)


def test_a_last_layer_without_a_bias_holds_no_mean(student):
    """GPT-2's: its labels are only scaled, or the kept model would answer too low by the mean."""
    task = replace(TASKS["stsb"], center=50.0, spread=10.0)
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2, pad_token_id=0))
    assert units(for_task(gpt2, task)[0], task) == (0.0, 10.0)
    assert units(for_task(student, task)[0], task) == (50.0, 10.0)
