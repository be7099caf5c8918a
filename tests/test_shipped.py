"""The weights in data/: they load, they are what their records say, and they are the twins they claim to be."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from distilnb import paths, scales
from distilnb.distillation.evaluation import evaluate
from distilnb.evidence.records import load_record
from distilnb.models.guessing import best_guesses
from distilnb.models.sources import models_of, ready_teacher
from distilnb.models.student import build_student
from distilnb.models.teacher import load_teacher
from distilnb.tasks import heads
from distilnb.tasks.glue import get_task
from distilnb.tasks.squad import SQUAD
from distilnb.text import corpus, sources
from distilnb.text.masking import Masker

STUDENTS = {"toy": "distil-toy", "toy-undistilled": "undistilled-toy"}
TWINS = {("toy", "toy-undistilled"): {"ce", "mlm", "cos"}, ("mini", "mini-undistilled"): {"ce", "cos"}}


@pytest.fixture(scope="module")
def teacher():
    """The shipped toy teacher and its tokenizer."""
    return load_teacher(paths.data("teachers", "toy"))


@pytest.fixture(scope="module")
def text(teacher):
    """Toyworld sentences that were not chosen for being easy."""
    return corpus.build_corpus(sources.parse_sources("toyworld"), teacher[1], seq_length=64, max_tokens=150_000)


def shipped(name: str) -> torch.nn.Module:
    """A student of data/students as float32."""
    return AutoModelForMaskedLM.from_pretrained(paths.data("students", name), dtype=torch.float32).eval()


@pytest.mark.parametrize("name", STUDENTS)
def test_a_shipped_student_is_the_one_of_its_record(name, teacher, text, accelerator):
    """On some 200 masked words (standard errors 0.13 and 3 points): loss and agreement within 0.35 and 8 points."""
    record = load_record(paths.data("students", name) / "record.json")
    assert record == load_record(paths.data("runs") / f"{STUDENTS[name]}.json")
    masker = Masker.of(teacher[1], text.token_counts, 0.7, 0.15, 0)
    found = evaluate(shipped(name), text, masker, accelerator, teacher[0])
    assert found["mlm_loss"] == pytest.approx(record["scores"]["mlm_loss"], abs=0.35)
    assert found["agreement"] == pytest.approx(record["scores"]["agreement"], abs=0.08)


@pytest.mark.parametrize("twins", TWINS)
def test_the_twins_start_from_the_same_layers_and_end_apart(twins):
    """Same layers of the same teacher, same tokens; one learned from masked words alone."""
    mine, twin = (load_record(paths.data("students", name) / "record.json") for name in twins)
    assert mine["made_from"] == twin["made_from"] and mine["tokens"] == twin["tokens"]
    same = {key for key in mine["config"] if mine["config"][key] == twin["config"][key]}
    assert set(mine["config"]) - same == TWINS[twins] and twin["config"]["ce"] == twin["config"]["cos"] == 0
    teacher, _ = load_teacher(paths.data("teachers", twins[0]))
    start = build_student(teacher, mine["made_from"]["layers"]).distilbert.transformer.layer[0].ffn.lin1.weight
    moved = [(shipped(name).distilbert.transformer.layer[0].ffn.lin1.weight - start).norm() for name in twins]
    assert all(0 < distance < start.norm() for distance in moved)


def test_the_mini_teacher_speaks_english():
    """Its record is published, it is small enough for a repository, and grammar and company of words are there."""
    folder = paths.data("teachers", "mini")
    record = load_record(folder / "record.json")
    assert record == load_record(paths.data("runs") / "teacher-mini.json")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 15e6
    mini, tokenizer = load_teacher(folder)
    assert (mini.config.num_hidden_layers, mini.config.hidden_size, len(tokenizer)) == (12, 128, 8192)
    for sentence, word in (("They [MASK] married in 1950.", "were"), ("The worst film I have ever [MASK].", "seen")):
        assert best_guesses(mini, tokenizer, sentence, 1)[0].word == word


@pytest.mark.parametrize("name, run", [("mini", "distil-mini"), ("mini-undistilled", "undistilled-mini")])
def test_the_mini_students_are_those_of_their_records_and_speak_english(name, run):
    folder = paths.data("students", name)
    assert load_record(folder / "record.json") == load_record(paths.data("runs") / f"{run}.json")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6e6
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert best_guesses(shipped(name), tokenizer, "The worst film I have ever [MASK].", 1)[0].word == "seen"


@pytest.fixture(scope="module")
def reviews():
    """Reviews of films: real text, on the Hub."""
    _, tokenizer = load_teacher(paths.data("teachers", "mini"))
    return corpus.build_corpus(
        sources.parse_sources(f"stream={scales.REVIEWS}"), tokenizer, seq_length=128, max_tokens=400_000
    )


@pytest.mark.hub
def test_the_mini_teacher_guesses_real_words_as_often_as_its_record_says(reviews, accelerator):
    """On some 600 masked words of reviews, a kind of text of its own (standard error 2 points): within 10 points."""
    folder = paths.data("teachers", "mini")
    mini, tokenizer = load_teacher(folder)
    found = evaluate(mini, reviews, Masker.of(tokenizer, reviews.token_counts, 0.0, 0.15, 0), accelerator)
    assert found["accuracy"] == pytest.approx(load_record(folder / "record.json")["scores"]["accuracy"], abs=0.1)


@pytest.mark.hub
def test_the_distilled_mini_student_is_nearer_to_its_teacher_than_its_twin(reviews, accelerator):
    """On the same masked words (a difference of 8 points by the records, its standard error about 2.5)."""
    mini, tokenizer = load_teacher(paths.data("teachers", "mini"))
    masker = Masker.of(tokenizer, reviews.token_counts, 0.7, 0.15, 0)
    mine, twin = (evaluate(shipped(name), reviews, masker, accelerator, mini) for name in ("mini", "mini-undistilled"))
    assert mine["agreement"] > twin["agreement"] and mine["mlm_loss"] < twin["mlm_loss"]
    record = load_record(paths.data("students", "mini") / "record.json")["scores"]
    assert mine["agreement"] == pytest.approx(record["agreement"], abs=0.1)


@pytest.mark.parametrize("scale", ["toy", "mini"])
def test_the_dial_finds_the_shipped_students(scale):
    found = dict(pair.split("=") for pair in models_of(scales.get(scale)))
    assert {"teacher", "student", "undistilled"} == found.keys()


HEADS = sorted(path.name for path in paths.data("heads").glob("*"))


@pytest.mark.parametrize("name", HEADS)
def test_a_shipped_head_has_learned_its_task_and_loads(name):
    """A lesson that explains what a model says must not explain a coin."""
    _, scale, label, task, _ = name.split("-")
    folder, made_by = heads.fine_tuned_run(scale, task, label)
    record = load_record(made_by)
    assert folder == paths.data("heads", name) and record["name"] == name
    matching_words = 0.377  # what `answers.word_matching` scores on toy SQuAD, F1
    assert record["interval"][0] > record["scores"].get("majority", matching_words), "it has not learned"
    data_task = SQUAD if task == "squad" else get_task(task)
    assert heads.fine_tuned(folder, data_task).dtype == torch.float32
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.float16}


def test_a_fine_tuned_model_that_is_not_here_is_told_with_the_command_that_makes_it():
    with pytest.raises(ValueError, match="distilnb"):
        heads.fine_tuned_run("mini", "cola", "nobody")


def test_the_small_teacher_is_an_encoder_that_has_learned_to_fill_blanks():
    """A modified copy of a published encoder: its record says what it was and what it can, its notice whose it was."""
    folder = paths.data("teachers", "small")
    record, scale = load_record(folder / "record.json"), scales.get("small")
    assert record == load_record(paths.data("runs") / "teacher-small.json")
    assert record["made_from"]["start"] == scale.teacher and record["made_from"]["revision"] == scale.revision
    assert record["scores"]["accuracy"] > 0.45 and record["tokens"] >= 20_000_000
    assert scale.teacher in (folder / "NOTICE.md").read_text() and ready_teacher(scale) == str(folder)
    teacher, tokenizer = load_teacher(folder)
    assert teacher.config.num_hidden_layers == 6 and teacher.config.hidden_size == 384
    for sentence, word in (("The worst film I have ever [MASK].", "seen"), ("Born in [MASK] York City.", "new")):
        assert best_guesses(teacher, tokenizer, sentence, 1)[0].word == word


def test_the_small_student_is_half_its_teacher_and_agrees_with_it():
    """A published encoder's half, distilled for 20 M tokens: its record and notice say so, and it fills blanks."""
    folder, scale = paths.data("students", "small"), scales.get("small")
    record = load_record(folder / "record.json")
    assert record == load_record(paths.data("runs") / "distil-small.json")
    assert record["tokens"] >= 20_000_000 and record["made_from"]["init"] == "teacher"
    agreement, loss = (record["evaluations"][column] for column in ("agreement", "mlm_loss"))
    assert agreement[-1] > agreement[0] and loss[-1] < loss[0]
    assert scale.teacher in (folder / "NOTICE.md").read_text()
    student, tokenizer = shipped("small"), AutoTokenizer.from_pretrained(folder)
    assert student.config.n_layers == 3 and student.config.dim == 384
    assert best_guesses(student, tokenizer, "The worst film I have ever [MASK].", 1)[0].word == "seen"
