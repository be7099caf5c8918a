"""int8 that holds: each way to round keeps what it promises, and the choice follows from what was measured."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import make_teacher, stories
from transformers import GPT2Config, GPT2LMHeadModel

from distilnb.cli import main
from distilnb.models.student import build_student
from distilnb.studies import accuracy, benchmark, formats, graphs, rounding
from distilnb.studies.rounding import ChoosingRows
from distilnb.tasks.heads import for_task
from distilnb.tasks.own import find

pytest.importorskip("onnxruntime", reason='ONNX needs: pip install "distilnb[export]"')


@pytest.fixture(scope="module")
def model(tokenizer):
    """A classifier with outliers, as pretrained models have them: one number in each layer is far above the rest."""
    made = benchmark.with_head(
        build_student(make_teacher(len(tokenizer), layers=2, hidden_size=128, num_attention_heads=4)), "pairs"
    )
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("sa_layer_norm.weight"):
                parameter[7] *= 100
    return made


@pytest.fixture(scope="module")
def source(model, tmp_path_factory):
    return graphs.to_onnx(model, tmp_path_factory.mktemp("rounding") / "model.onnx")


@pytest.fixture(scope="module")
def rows(model) -> ChoosingRows:
    """Single rows, and a score that counts agreement with the exact model."""
    batches = [{k: v[:1] for k, v in batch.items()} for batch in formats.sample(model, 8)]
    with torch.no_grad():
        right = np.concatenate([graphs.answers(model, graphs.inputs(model, batch)) for batch in batches]).argmax(-1)
    return ChoosingRows(
        batches, lambda logits, chosen: float((np.concatenate(logits).argmax(-1) == right[chosen]).mean())
    )


@pytest.fixture(scope="module")
def found(source, rows, tmp_path_factory) -> dict:
    return {row["rounding"]: row for row in rounding.measure(source, tmp_path_factory.mktemp("made"), rows)}


def test_blocks_err_less_than_one_scale_for_all_and_know_no_neighbours(found):
    assert found["blocks"]["error"] < 0.7 * found["dynamic"]["error"]
    assert found["weights"]["error"] < found["blocks"]["error"]
    assert found["dynamic"]["neighbours"] > 1e-3 > 1e-5 > found["blocks"]["neighbours"]
    assert found["float32"]["error"] == found["float32"]["lost"] == 0


def test_a_gpt2_finds_its_last_token_beside_a_longer_row(tmp_path):
    """Which it knows from its padding id, the last of the vocabulary in the published ones."""
    ids = {"pad_token_id": 59, "eos_token_id": 59, "bos_token_id": 59}
    model = benchmark.with_head(
        GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=60, **ids)), "pairs"
    )
    rows = ChoosingRows([{k: v[:1].clamp(max=58) for k, v in b.items()} for b in formats.sample(model, 3)], pad=59)
    (whole, *_) = rounding.measure(graphs.to_onnx(model, tmp_path / "model.onnx"), tmp_path, rows)
    assert whole["neighbours"] < 1e-5


def test_embeddings_are_whole_numbers_with_a_scale_for_each_word(source, tmp_path):
    rounding.in_blocks(source, tmp_path / "blocks.onnx")
    graph = onnx.load(tmp_path / "blocks.onnx").graph  # the head, a few numbers, stays as it is
    large = {t.name: t.data_type for t in graph.initializer if np.prod(t.dims) > 5000 and "classifier" not in t.name}
    assert large and set(large.values()) <= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}


def test_a_tied_decoder_still_answers(tokenizer, tmp_path):
    model = build_student(make_teacher(len(tokenizer), layers=2))
    runner = formats.make_runner(model, "onnx_blocks", tmp_path, threads=1)
    exact = formats.make_runner(model, "float32", tmp_path)
    assert 0 < formats.check_agreement(runner, exact, formats.sample(model, 3)) < 0.05


@pytest.mark.parametrize(
    "rows, kept",
    [
        ({"dynamic": (25, 0.1, 9, 2.0), "blocks": (28, 0.03, 4, 0.2), "weights": (28, 0.01, 8, 0.0)}, "blocks"),
        ({"dynamic": (25, 0.1, 2, 0.4), "blocks": (28, 0.03, 4, 0.2), "weights": (28, 0.01, 8, 0.0)}, "dynamic"),
        ({"dynamic": (25, 0.1, 2, 0.4, 0.14), "blocks": (28, 0.03, 4, 0.2), "weights": (28, 0.01, 8, 0.0)}, "blocks"),
        ({"dynamic": (25, 0.1, 2, 0.4), "blocks": (28, 0.03, 2.1, 0.2), "weights": (28, 0.01, 8, 0.0)}, "blocks"),
        ({"dynamic": (25, 0.1, 2, 9.0), "blocks": (28, 0.03, 4, 8.0), "weights": (40, 0.01, 8, 0.0)}, "blocks"),
        ({"dynamic": (25, 0.1, 2, None), "blocks": (28, 0.03, 4, None), "weights": (28, 0.01, 3, None)}, "weights"),
    ],
)
def test_the_fastest_that_is_small_and_holds_is_kept(rows, kept):
    keys = ("bytes", "error", "cpu_ms", "lost", "neighbours")
    still = {"neighbours": 0.0}
    made = [still | dict(zip(keys, values, strict=False)) | {"rounding": name} for name, values in rows.items()]
    assert rounding.choose([{"rounding": "float32", "bytes": 100}, *made]) == kept


def test_the_export_tells_what_it_measured_and_keeps_one(model, tokenizer, tmp_path, capsys):
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    out = tmp_path / "out"
    (out / "onnx").mkdir(parents=True)
    (out / "onnx" / "model.onnx").write_bytes(b"of another model, or half of one")
    assert main.main(["export", "--model", str(tmp_path / "model"), "--format", "onnx_int8", "--out", str(out)]) == 0
    told = json.loads((out / "onnx" / "rounding.json").read_text())
    assert told["kept"] in rounding.ROUNDINGS and f"{told['kept']} (kept)" in capsys.readouterr().out
    size = {row["rounding"]: row["bytes"] for row in told["ways"]}[told["kept"]]
    assert (out / "onnx" / "model_quantized.onnx").stat().st_size == size


@pytest.mark.parametrize("task", ["rte", "squad", "own"])
def test_the_rows_of_a_task_choose(task, tokenizer, tmp_path):
    """By the points that each way to round loses, on half of the rows, with the labels kept from the graph."""
    if task == "own":
        task = str(tmp_path / "own.jsonl")
        lines = [{"text": f"a dog sees {i}", "labels": [["x"], ["x", "y"], []][i % 3]} for i in range(120)]
        Path(task).write_text("\n".join(map(json.dumps, lines)))
    made, _ = for_task(build_student(make_teacher(len(tokenizer), layers=1)), find(task, "toyworld", n_train=9)[0].task)
    fitted = accuracy.choosing_rows(made, tokenizer, task, "toyworld", 12)
    assert "/" not in fitted.info["task"], "a record names no folder of this machine"
    rows = accuracy.scored_rows(fitted)
    source = graphs.to_onnx(made, tmp_path / "model.onnx")
    measured = rounding.measure(source, tmp_path, rows)
    assert all(isinstance(row["lost"], float) for row in measured)
    assert rounding.choose(measured) in rounding.ROUNDINGS


@pytest.mark.parametrize("task", ["rte", "own"])
def test_an_export_chooses_by_the_training_rows_that_a_benchmark_leaves_to_choices(
    task, tokenizer, tmp_path, monkeypatch
):
    """No row by which a model is reported says how it is rounded."""
    if task == "own":
        task = str(tmp_path / "own.jsonl")
        lines = [json.dumps({"text": text, "label": "xy"[i % 2]}) for i, text in enumerate(stories(120))]
        Path(task).write_text("\n".join(lines))
    data = find(task, "toyworld", n_train=16, n_validation=16)[0]
    made, _ = for_task(build_student(make_teacher(len(tokenizer), layers=1)), data.task)
    made.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    seen = []

    def measured(source, folder, rows, threads=1):
        seen.append([batch["input_ids"].tolist() for batch in rows.batches])
        numbers = dict.fromkeys(("bytes", "error", "neighbours", "cpu_ms"), 1)
        return [{"rounding": "dynamic", "lost": None, "lost_elsewhere": None} | numbers]

    monkeypatch.setattr(rounding, "measure", measured)
    monkeypatch.setattr(rounding, "choose", lambda ways: "dynamic")
    flags = ["--model", str(tmp_path / "model"), "--task", task, "--source", "toyworld", "--rows", "16"]
    assert main.main(["export", *flags, "--format", "onnx_int8", "--out", str(tmp_path / "out")]) == 0
    benched = accuracy.held_out(made, tokenizer, task, "toyworld", 16, choosing=16)
    assert seen == [[batch["input_ids"].tolist() for batch in benched.choosing.batches]]
    assert not {str(row) for row in seen[0]} & {str(b["input_ids"].tolist()) for b in benched.batches()}
    assert '"truncation": null' in (tmp_path / "out" / "tokenizer.json").read_text(), (
        "the task's rows were cut, no other"
    )


def test_a_task_of_other_labels_is_refused(model, tokenizer, tmp_path, capsys):
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    words = ["export", "--model", str(tmp_path / "model"), "--task", "rte", "--source", "toyworld"]
    assert main.main([*words, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert f"model '{tmp_path / 'model'}' has not been fine-tuned on a task like rte" in told
