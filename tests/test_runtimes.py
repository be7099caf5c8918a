"""Other runtimes: a model written for one answers there as PyTorch does, at any length that it declares.

Each is skipped with a message where its packages are missing; they have extras, and are tested in environments of
their own: `pip install "distilnb[litert]"`.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_teacher

from distilnb.cli import main
from distilnb.models.student import build_student
from distilnb.studies import benchmark, formats, runtimes
from distilnb.studies.formats import ELSEWHERE, KNOWN

LONGEST = 24
CELLS = [(name, head) for name in ELSEWHERE for head in ("mlm", "pairs", "qa")]


@pytest.fixture(scope="module")
def models(tokenizer) -> dict:
    """The same student with each head."""
    student = build_student(make_teacher(len(tokenizer), layers=2, hidden_size=64, num_attention_heads=4))
    return {"mlm": student, "pairs": benchmark.with_head(student, "pairs"), "qa": benchmark.with_head(student, "qa")}


@pytest.mark.slow
@pytest.mark.parametrize("name, head", CELLS, ids=lambda value: value)
def test_a_runtime_answers_like_pytorch_and_declares_what_it_takes(models, tmp_path, name, head):
    runtime, _, precision = name.partition("_")
    for package in runtimes.RUNTIMES[runtime].packages:
        pytest.importorskip(package, reason=f'{runtime} is not installed: pip install "distilnb[{runtime}]"')
    model = models[head]
    runner = formats.make_runner(model, name, tmp_path, threads=1, length=LONGEST)
    assert runner.bytes > 0 and runner.path.parent == tmp_path / runtime
    declared = json.loads((tmp_path / runtime / "inputs.json").read_text())
    assert declared["inputs"] == ["input_ids", "attention_mask"]
    exact = formats.make_runner(model, "float32", tmp_path)
    batches = formats.sample(model, 3, most=LONGEST)
    try:
        error = formats.check_agreement(runner, exact, batches)
    except runtimes.NotHere:
        pytest.skip("Core ML: converted, and not asked on this system")
    assert error > 0 or precision == "float32"
    for batch in batches:
        assert runner.answer(batch).shape == exact.answer(batch).shape
    for _ in range(runtimes.STEADY):  # a shape that keeps coming
        again = runner.answer(batches[0])
    np.testing.assert_allclose(again, runner.answer(batches[0]))
    np.testing.assert_allclose(again, exact.answer(batches[0]), atol=4 * error * np.abs(again).max() + 1e-6)
    if runtimes.RUNTIMES[runtime].fixed:
        with pytest.raises(ValueError, match="length"):
            runner.answer(formats.sample(model, 8)[-1])


def test_openvino_compiles_for_a_shape_that_keeps_coming_and_for_no_other(monkeypatch):
    """A made-up OpenVINO, whose graphs answer with the shape that they were compiled for."""

    class Graph:
        inputs = [SimpleNamespace(any_name=name) for name in ("input_ids", "attention_mask")]
        shape = (0, 0)  # any

        def reshape(self, shapes):
            assert set(shapes) == {"input_ids", "attention_mask"}
            self.shape = shapes["input_ids"]

        def __call__(self, batch):
            return SimpleNamespace(to_tuple=lambda: (np.array([self.shape]),))

    core = SimpleNamespace(read_model=lambda path: Graph(), compile_model=lambda model, device, settings: model)
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=lambda: core))
    answer = runtimes.open_openvino(Path("model.xml"), 1)

    def shapes(length, times):
        ids = torch.ones(1, length, dtype=torch.long)
        batch = {"input_ids": ids, "attention_mask": ids}
        return [tuple(map(int, answer(batch)[0])) for _ in range(times)]

    steady = runtimes.STEADY
    assert shapes(8, steady + 1) == [(0, 0)] * (steady - 1) + [(1, 8)] * 2
    assert shapes(5, 1) + shapes(8, 1) == [(0, 0)] * 2, "lengths that change are read by the graph of any shape"
    assert shapes(5, steady)[-1] == (1, 5)


@pytest.mark.parametrize("runtime", runtimes.RUNTIMES)
def test_a_missing_runtime_names_its_extra(capsys, monkeypatch, runtime):
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    assert main.main(["export", "--model", "anything", "--format", runtime]) == 2
    told = capsys.readouterr().err
    assert f'pip install "distilnb[{runtime}]"' in told and told.count("\n") == 1
    assert main.main(["benchmark", "--runtimes", runtime]) == 2
    assert f"distilnb[{runtime}]" in capsys.readouterr().err


def test_a_runtime_stands_for_all_its_formats():
    assert formats.named("onnx") == ["onnx_float32", "onnx_int8"]
    assert formats.named("litert,onnx_int8") == ["litert_float32", "litert_int8", "onnx_int8"]
    assert formats.named("LiteRT, ONNX_int8") == formats.named("litert,onnx_int8"), "as their makers spell them"
    with pytest.raises(ValueError, match="format"):
        formats.check_formats(formats.named("tensorrt"))
    assert all(KNOWN[name].tolerance for name in ELSEWHERE)


def test_filling_up_is_hidden_and_too_long_is_refused():
    """A runner of one length, built on a model that adds up what the mask lets it see."""
    batch = {"input_ids": torch.tensor([[1, 2, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}

    def total(given):
        assert given["input_ids"].shape == (1, 5)
        return [(given["input_ids"] * given["attention_mask"]).sum(-1, keepdim=True).numpy()]

    answer = runtimes.one_by_one(total, 5)
    np.testing.assert_array_equal(answer(batch), [[6]])
    long = {name: tensor.repeat(1, 2) for name, tensor in batch.items()}
    with pytest.raises(ValueError, match="length"):
        answer(long)


@pytest.mark.parametrize("length", [1, 4096])
def test_a_length_that_the_model_has_not_is_refused_before_converting(models, tmp_path, monkeypatch, length):
    monkeypatch.setattr(runtimes, "find_spec", lambda name: object())
    with pytest.raises(ValueError, match="length"):
        runtimes.write(models["mlm"], tmp_path, "litert", "float32", length)
