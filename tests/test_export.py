"""Formats for the device: each answers like PyTorch at any batch and length, or is refused before it is timed."""

import builtins
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import make_teacher, weights_of
from test_families import CONFIGS, IDS, SHAPE, make
from transformers import (
    AlbertConfig,
    AutoTokenizer,
    DistilBertForMaskedLM,
    DistilBertForQuestionAnswering,
    GPT2Config,
    GPT2LMHeadModel,
    ModernBertConfig,
)

from distilnb.cli import main, studies
from distilnb.models.arithmetic import count_parameters
from distilnb.models.sources import load_model
from distilnb.models.student import build_student
from distilnb.studies import benchmark, formats, graphs
from distilnb.studies.formats import FORMATS, Runner
from distilnb.tasks.heads import classifier


def make_model(vocabulary: int):
    """A model for questions, wide enough for its matrices to outweigh what a file says about itself."""
    return benchmark.with_head(build_student(make_teacher(vocabulary, hidden_size=128, num_attention_heads=4)), "qa")


@pytest.fixture(scope="module")
def model(tokenizer):
    return make_model(len(tokenizer))


@pytest.fixture(scope="module")
def runners(model, tmp_path_factory) -> dict[str, Runner]:
    """The same model in every format."""
    folder = tmp_path_factory.mktemp("formats")
    return {format: formats.make_runner(model, format, folder, "student", threads=1) for format in FORMATS}


@pytest.fixture
def by_hand(model):
    """Start and end logits as the model itself gives them, (batch, seq, 2)."""

    def answer(batch):
        with torch.no_grad():
            found = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        return torch.stack([found.start_logits, found.end_logits], -1).numpy()

    return answer


@pytest.mark.parametrize("format", FORMATS)
def test_a_format_answers_like_the_model_at_any_batch_size_and_length(runners, model, by_hand, format):
    """Exported with two rows of 16 tokens, asked with others; rows are padded, so the mask must be read too."""
    for batch in [*formats.sample(model, 4), {k: v[:1, :5] for k, v in formats.sample(model)[0].items()}]:
        found, expected = runners[format].answer(batch), by_hand(batch)
        assert found.shape == expected.shape == (*batch["input_ids"].shape, 2)
        assert formats.relative_error(found, expected) <= max(FORMATS[format].tolerance, 1e-6)


def test_gpt2s_transposed_matrices_are_rounded_to_int8_too():
    model = GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=2, n_head=2, vocab_size=60, pad_token_id=0)).eval()
    before = weights_of(model)
    made = formats.to_int8(model)
    kinds = [type(module).__name__ for module in made.modules()]
    assert "Conv1D" not in kinds and kinds.count("Linear") == 9, "the quantized kind, four in a layer and the decoder"
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        error = formats.relative_error(made(ids).logits.numpy(), model(ids).logits.numpy())
    assert 1e-4 < error < FORMATS["int8"].tolerance
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(model).items())


def test_formats_differ_where_they_round_and_only_there(runners, model):
    errors = {
        format: formats.check_agreement(runner, runners["float32"], formats.sample(model))
        for format, runner in runners.items()
    }
    assert errors["float32"] == 0 and errors["onnx_float32"] < 1e-5
    assert all(1e-4 < errors[format] for format in ("bfloat16", "int8", "onnx_int8"))


def test_the_mask_is_part_of_the_graph(runners, model):
    """Padding changes nothing for the tokens before it."""
    padded = formats.sample(model)[2]
    length = int(padded["attention_mask"][1].sum())
    short = {name: tensor[1:, :length] for name, tensor in padded.items()}
    for format in ("float32", "onnx_float32"):
        answer = runners[format].answer
        np.testing.assert_allclose(answer(padded)[1:, :length], answer(short), atol=1e-5)


def test_a_mask_of_one_row_stands_in_for_a_square_where_the_answers_are_the_same(runners):
    """GPT-2 would see what comes later, and ModernBERT beyond its windows: they keep theirs."""
    kept = {kind for kind, config in CONFIGS.items() if not graphs.takes_plain(make(config).eval())}
    assert kept == {"deberta-v2", "deberta-v2, legacy=false", "modernbert", "gpt2"}
    windows = make(ModernBertConfig(**SHAPE, **IDS, max_position_embeddings=128, local_attention=64))
    assert not graphs.takes_plain(windows.eval()), "what is asked is shorter than a window"
    graph = onnx.load(runners["onnx_float32"].path).graph
    assert not {"GatherND", "Range", "Where"} & {node.op_type for node in graph.node}


def test_bytes_on_disk_are_what_arithmetic_says(runners, model):
    """Within a few kB of names and graph: 4 or 2 bytes for each weight; int8 rounds matrices, ONNX also embeddings."""
    weights = count_parameters(model)
    words = sum(p.numel() for p in model.base_model.embeddings.parameters())
    expected = {
        "float32": 4 * weights,
        "bfloat16": 2 * weights,
        "int8": weights + 3 * words,
        "onnx_float32": 4 * weights,
        "onnx_int8": weights,
    }
    for format, runner in runners.items():
        assert runner.bytes == runner.path.stat().st_size
        assert runner.bytes == pytest.approx(expected[format], abs=90_000), format


def test_making_formats_leaves_the_model_as_it_was(runners, model, tokenizer):
    before, after = weights_of(make_model(len(tokenizer))), weights_of(model)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert {p.dtype for p in model.parameters()} == {torch.float32} and model.config._attn_implementation == "sdpa"


def test_an_exported_file_does_not_tell_where_it_was_made(runners):
    assert str(Path(formats.__file__).parent).encode() not in runners["onnx_float32"].path.read_bytes()


def test_int8_graphs_hold_int8_matrices(runners):
    graph = onnx.load(runners["onnx_int8"].path).graph
    operations = {node.op_type for node in graph.node}
    assert "MatMulInteger" in operations
    large = {t.name: t.data_type for t in graph.initializer if np.prod(t.dims) > 10_000}
    assert large and set(large.values()) <= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}, large


@pytest.mark.parametrize("wrong", [lambda answer: -answer, lambda answer: answer * np.nan, lambda answer: answer + 9])
def test_a_format_that_answers_otherwise_is_refused(runners, model, wrong):
    good = runners["onnx_int8"]
    broken = good._replace(answer=lambda batch: wrong(good.answer(batch)))
    with pytest.raises(RuntimeError, match="student"):
        formats.check_agreement(broken, runners["float32"], formats.sample(model))


@pytest.mark.parametrize("format", ["float32", "onnx_float32"])
def test_a_text_that_is_too_long_for_a_model_is_told(runners, model, format):
    (batch,) = formats.sample(model, 1)
    long = {name: tensor.repeat(1, 40) for name, tensor in batch.items()}
    with pytest.raises(ValueError, match="320"):
        runners[format].answer(long)


def test_a_file_that_is_no_model_is_named(tmp_path):
    path = tmp_path / "notes.onnx"
    path.write_text("buy milk")
    with pytest.raises(ValueError, match="Runtime"):
        formats.open_onnx(path)


@pytest.fixture(scope="module")
def student_folder(tokenizer, tmp_path_factory) -> Path:
    """A distilled masked language model on disk."""
    folder = tmp_path_factory.mktemp("student")
    build_student(make_teacher(len(tokenizer), layers=2)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def one_sentence(argv: list[str], capsys) -> str:
    """Run a command that must fail with status 2 and a single line on standard error; that line."""
    assert main.main(argv) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("distilnb: ") and "\n" not in told
    return told


def test_the_export_command_writes_files_that_onnxruntime_opens(student_folder, tmp_path, capsys):
    assert main.main(["export", "--model", str(student_folder), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "ONNX float32" in told and "ONNX int8" in told
    model = DistilBertForMaskedLM.from_pretrained(student_folder).eval()
    batch = formats.sample(model)[1]
    answer = formats.open_onnx(tmp_path / "out" / "onnx" / "model_quantized.onnx")(batch)
    with torch.no_grad():
        expected = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.numpy()
    assert formats.relative_error(answer, expected) < FORMATS["onnx_int8"].tolerance


def test_a_format_that_answers_otherwise_is_not_kept_and_the_others_are(student_folder, tmp_path, capsys, monkeypatch):
    real = formats.check_agreement

    def strict(runner, *rest):
        if runner.format == "onnx_int8":
            raise formats.Disagrees("ONNX int8 answers otherwise")
        return real(runner, *rest)

    monkeypatch.setattr(studies, "check_agreement", strict)
    given = ["--format", "onnx_int8,onnx_float32", "--out", str(tmp_path / "out")]
    assert main.main(["export", "--model", str(student_folder), *given]) == 1
    told = capsys.readouterr()
    assert "ONNX float32" in told.out and "answers otherwise" in told.err
    assert [path.name for path in (tmp_path / "out" / "onnx").glob("*.onnx")] == ["model.onnx"]


def test_every_head_is_loaded_as_what_it_is(tokenizer, tmp_path):
    source = build_student(make_teacher(len(tokenizer), layers=2))
    benchmark.with_head(source, "qa").save_pretrained(tmp_path / "qa")
    assert type(load_model(str(tmp_path / "qa"))) is DistilBertForQuestionAnswering


def test_what_cannot_be_exported_gets_one_sentence(student_folder, tmp_path, capsys, monkeypatch):
    text = tmp_path / "thesis.txt"
    text.write_text("years of work")
    AlbertConfig(architectures=["AlbertForMaskedLM"]).save_pretrained(tmp_path / "albert")
    (tmp_path / "empty").mkdir()
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text((student_folder / "config.json").read_text())
    cases = {
        str(text): "is no model: give the folder",
        str(tmp_path / "albert"): "AlbertForMaskedLM",
        str(tmp_path / "empty"): "no readable config.json",
        str(bare): "no readable weights",
        "": "--model is missing",
    }
    for model, words in cases.items():
        assert words in one_sentence(["export", "--model", model, "--out", str(tmp_path / "new")], capsys)
    for format in ("int4", ""):
        told = one_sentence(["export", "--model", str(student_folder), "--format", format], capsys)
        assert f"unknown format '{format}'" in told and "onnx_int8" in told
    new = ["--out", str(tmp_path / "new")]
    told = one_sentence(["export", "--model", str(student_folder), "--length", "0", *new], capsys)
    assert "--length is 0; the model reads 2 to 128 word pieces" in told
    assert not (tmp_path / "new").exists()


def test_a_model_that_cannot_be_traced_gets_one_sentence(student_folder, tmp_path, capsys, monkeypatch):
    """Its way through the layers depends on what it reads, which no fixed graph can follow."""
    forward = DistilBertForMaskedLM.forward

    def moody(self, input_ids, **more):
        return forward(self, input_ids if input_ids.sum() > 7 else 0 * input_ids, **more)

    monkeypatch.setattr(DistilBertForMaskedLM, "forward", moody)
    told = one_sentence(["export", "--model", str(student_folder), "--out", str(tmp_path / "new")], capsys)
    assert "this DistilBertForMaskedLM cannot be exported to ONNX: " in told


@pytest.mark.parametrize("package", formats.PACKAGES)
def test_a_missing_package_names_the_extra_to_install(student_folder, capsys, monkeypatch, package):
    monkeypatch.setattr(graphs, "find_spec", lambda name: None if name == package else object())
    told = one_sentence(["export", "--model", str(student_folder)], capsys)
    assert f"{package} is not installed" in told and 'pip install "distilnb[export]"' in told
    told = one_sentence(["benchmark"], capsys)
    assert 'pip install "distilnb[export]"' in told


def test_pytorchs_own_formats_need_no_extra(student_folder, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        assert name.split(".")[0] not in formats.PACKAGES, f"{name} was imported"
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(graphs, "find_spec", lambda name: None)
    model = load_model(str(student_folder))
    for format in ("float32", "bfloat16", "int8"):
        formats.make_runner(model, format, tmp_path).answer(formats.sample(model)[0])


# what others read


@pytest.fixture(scope="module")
def classifier_folder(student_folder, tmp_path_factory) -> Path:
    """A classifier with named labels, its tokenizer as sentence encoders bring it: cutting and padding at 16."""
    folder = tmp_path_factory.mktemp("classifier")
    model, _ = classifier(str(student_folder), 3, seed=1)
    model.config.id2label = {0: "down", 1: "flat", 2: "up"}
    model.config.label2id = {name: i for i, name in model.config.id2label.items()}
    model.save_pretrained(folder)
    cutting = AutoTokenizer.from_pretrained(student_folder)
    cutting.backend_tokenizer.enable_truncation(16)
    cutting.backend_tokenizer.enable_padding(length=16)
    cutting.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(classifier_folder, tmp_path_factory) -> Path:
    """What the export command makes of it."""
    out = tmp_path_factory.mktemp("exported") / "out"
    assert main.main(["export", "--model", str(classifier_folder), "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("shape, names", [("pairs", ["logits"]), ("qa", ["start_logits", "end_logits"])])
def test_outputs_are_named_as_others_look_for_them(tokenizer, tmp_path, shape, names):
    source = build_student(make_teacher(len(tokenizer), layers=1))
    model = benchmark.with_head(source, shape)
    runner = formats.make_runner(model, "onnx_float32", tmp_path)
    assert [output.name for output in onnx.load(runner.path).graph.output] == names
    batch = formats.sample(model)[1]
    with torch.inference_mode():
        expected = formats.answers(model, formats.inputs(model, batch)).numpy()
    assert formats.relative_error(runner.answer(batch), expected) < 1e-5


def test_the_folder_is_laid_out_for_others(exported, student_folder):
    """config.json with the labels, a tokenizer that cuts and pads nothing by itself, the graphs in onnx/."""
    files = {str(path.relative_to(exported)) for path in exported.rglob("*") if path.is_file()}
    assert files == {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "onnx/model.onnx",
        "onnx/model_quantized.onnx",
        "onnx/rounding.json",
    }
    assert json.loads((exported / "config.json").read_text())["id2label"] == {"0": "down", "1": "flat", "2": "up"}
    saved = json.loads((exported / "tokenizer.json").read_text())
    assert saved["truncation"] is None and saved["padding"] is None
    text = "anna sees the old cat in the garden and then hears it again and never finds the small dog"
    ids = AutoTokenizer.from_pretrained(exported)(text)["input_ids"]
    assert len(ids) > 16 and ids == AutoTokenizer.from_pretrained(student_folder)(text)["input_ids"]


NODE = """
import { AutoTokenizer, AutoModelForSequenceClassification, env } from "@huggingface/transformers";
env.allowRemoteModels = false;
env.localModelPath = process.argv[2];
const read = { dtype: process.argv[3] };
const tokenizer = await AutoTokenizer.from_pretrained("out");
const model = await AutoModelForSequenceClassification.from_pretrained("out", read);
const { logits } = await model(await tokenizer(process.argv[4]));
console.log(JSON.stringify({ logits: Array.from(logits.data), labels: model.config.id2label }));
"""


@pytest.fixture(scope="session")
def transformers_js(tmp_path_factory) -> Path:
    """A folder in which Node knows transformers.js, installed by npm."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("transformers.js: node and npm are not installed")
    folder = Path(os.environ.get("DISTILNB_NODE") or tmp_path_factory.mktemp("node"))
    if not (folder / "node_modules" / "@huggingface" / "transformers").is_dir():
        quiet = ["--no-audit", "--no-fund", "--loglevel", "error"]
        done = subprocess.run(
            ["npm", "install", *quiet, "@huggingface/transformers@^3 || ^4"],
            cwd=folder,
            env=os.environ | {"ONNXRUNTIME_NODE_INSTALL": "skip"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode:
            pytest.skip(f"transformers.js: npm could not install it ({done.stderr.strip()[:200]})")
    return folder


@pytest.mark.parametrize("dtype, tolerance", [("fp32", 1e-4), ("q8", 0.3)])
def test_transformers_js_reads_the_folder(
    transformers_js, student_folder, classifier_folder, exported, dtype, tolerance
):
    script, text = transformers_js / "answer.mjs", "boris feeds the young fox near the tower"
    script.write_text(NODE)
    done = subprocess.run(
        ["node", str(script), str(exported.parent), dtype, text],
        cwd=transformers_js,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.strip().splitlines()[-1])
    model = load_model(str(classifier_folder))
    batch = AutoTokenizer.from_pretrained(student_folder)(text, return_tensors="pt")
    with torch.no_grad():
        expected = model(input_ids=batch["input_ids"]).logits.flatten().numpy()
    assert formats.relative_error(np.array(told["logits"]), expected) < tolerance
    assert told["labels"] == {"0": "down", "1": "flat", "2": "up"}
