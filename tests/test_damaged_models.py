"""Models whose files were damaged, or came in another format, end in a sentence that names what was read."""

import json
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from test_families import published
from test_layout import TOKENIZERS
from transformers import BertForMaskedLM

from distilnb.machine import hub
from distilnb.models.sources import load_model, load_tokenizer
from distilnb.models.teacher import load_teacher
from distilnb.tasks.heads import classifier

ODD = [None, "", "x", -1, 0, 3, 2**31, 1.5, True, [], {}, [None], {"a": 1}]


def mutated(content: dict, draw: random.Random) -> dict:
    """A JSON object with one value, at any depth, taken away or replaced by one of another kind."""
    place = content
    while True:
        key = draw.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], dict | list) and place[key] and draw.random() < 0.8:
            place = place[key]
            continue
        if draw.random() < 0.3:
            del place[key]
        else:
            place[key] = draw.choice(ODD)
        return content


def damage(folder: Path, name: str, draw: random.Random) -> None:
    """One file of a model changed: its bytes, or for a JSON file mostly one value."""
    file = folder / name
    if name.endswith(".json") and draw.random() < 0.8:
        file.write_text(json.dumps(mutated(json.loads(file.read_text()), draw)))
        return
    data = bytearray(file.read_bytes())
    for _ in range(draw.randrange(1, 4)):
        data[draw.randrange(min(len(data), 4000))] = draw.randrange(256)
    file.write_bytes(data[: draw.choice([len(data), len(data), draw.randrange(len(data))])])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a small model of a family with a tokenizer of its kind, made once."""

    @cache
    def make(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        published(kind, TOKENIZERS[kind](), folder)
        return folder

    return make


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
@pytest.mark.parametrize("kind, count", [("bert", 25), ("roberta", 8), ("deberta-v2", 8), ("gpt2", 8)])
def test_damaged_models_are_loaded_or_refused_in_a_sentence(tmp_path, whole, kind, count, name, monkeypatch):
    """Nothing of it is the network's fault, and no library's exception gets through, also when a text is read."""
    monkeypatch.setattr(hub.HfApi, "repo_info", lambda *_, **__: pytest.fail("the Hub was asked"))
    refused = 0
    for seed in range(count):
        folder = tmp_path / str(seed)
        shutil.copytree(whole(kind), folder)
        damage(folder, name, random.Random(f"{name} {seed}"))
        try:
            _, tokenizer = load_teacher(folder)
            tokenizer("a sentence")
        except ValueError as error:
            refused += 1
            assert str(folder) in str(error) or "tokenizer" in str(error), seed
            assert "network" not in str(error) and "\n" not in str(error), seed
        shutil.rmtree(folder)
    assert refused > count / 5


@pytest.fixture
def pickled(tmp_path, teacher_folder) -> Path:
    """The teacher with its weights as pytorch_model.bin alone."""
    folder = tmp_path / "pickled"
    shutil.copytree(teacher_folder, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


@pytest.mark.slow
def test_pickled_weights_are_converted_where_that_is_asked_for(pickled, teacher_folder, monkeypatch):
    for load in (load_teacher, load_model, lambda folder: classifier(folder, 2)):
        with pytest.raises(ValueError, match="--convert"):
            load(str(pickled))
    monkeypatch.setattr(hub, "converting", True)
    converted, _ = load_teacher(pickled)
    original, _ = load_teacher(teacher_folder)
    for (name, one), other in zip(converted.named_parameters(), original.parameters(), strict=True):
        assert torch.equal(one, other), name
    assert {file.name for file in pickled.iterdir()} == {
        *(file.name for file in teacher_folder.iterdir()),
        "pytorch_model.bin",
    }


OTHER_WEIGHTS = "tf_model.h5", "flax_model.msgpack", "bert_model.ckpt.index", "model.gguf", "model.pt", "weights.bin"


@pytest.mark.parametrize("name", OTHER_WEIGHTS)
def test_weights_of_another_library_are_named_with_what_is_read(tmp_path, teacher_folder, name, monkeypatch):
    """Also with --convert, which takes PyTorch's alone; in a repository as in a folder."""
    shutil.copytree(teacher_folder, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / name)
    monkeypatch.setattr(hub, "converting", True)
    for load in (load_teacher, load_model, lambda folder: classifier(folder, 2)):
        with pytest.raises(ValueError, match=name) as error:
            load(str(tmp_path / "model"))
        assert "network" not in str(error.value)
    files = SimpleNamespace(list_repo_files=lambda *_, **__: ["config.json", name])
    monkeypatch.setattr(hub, "HfApi", lambda: files)
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(tmp_path / "model"))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(ValueError, match=name) as error:
        hub.fetch(BertForMaskedLM.from_pretrained, "owner/name", use_safetensors=True)
    assert "network" not in hub.cause("owner/name", error.value)


class Harm:
    """An object whose unpickling calls a function."""

    def __reduce__(self):
        return (Path.touch, (Path("harm"),))


@pytest.mark.parametrize("content", [{"a": Harm()}, {"epoch": 3}])
@pytest.mark.slow
def test_what_is_no_file_of_weights_is_not_converted(pickled, content, monkeypatch):
    monkeypatch.chdir(pickled)
    monkeypatch.setattr(hub, "converting", True)
    torch.save(content, pickled / "pytorch_model.bin")
    with pytest.raises(ValueError, match="converted"):
        load_teacher(pickled)
    assert not (pickled / "harm").exists() and not list(pickled.glob("*safetensors*"))


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_without_a_file_is_no_matter_of_the_network(tmp_path, teacher_folder, missing):
    shutil.copytree(teacher_folder, tmp_path / "model")
    (tmp_path / "model" / missing).unlink()
    readers = (load_teacher, load_model, lambda folder: classifier(folder, 2))
    for load in (load_teacher, load_tokenizer) if missing == "tokenizer.json" else readers:
        with pytest.raises(ValueError, match=missing) as error:
            load(str(tmp_path / "model"))
        assert "network" not in str(error.value)


def test_the_folder_of_a_run_or_of_an_adapter_is_told_from_a_model(tmp_path, teacher_folder):
    shutil.copytree(teacher_folder, tmp_path / "run" / "model")
    shutil.copytree(teacher_folder, tmp_path / "adapter")
    (tmp_path / "adapter" / "config.json").rename(tmp_path / "adapter" / "adapter_config.json")
    for name, words in (("run", f"its model is in {tmp_path / 'run' / 'model'}"), ("adapter", "merge it")):
        for load in (load_teacher, load_model, load_tokenizer, lambda folder: classifier(folder, 2)):
            with pytest.raises(ValueError, match=words):
                load(str(tmp_path / name))


def test_a_model_that_brings_code_is_refused_in_a_sentence(tmp_path, teacher_folder):
    shutil.copytree(teacher_folder, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    for load in (load_teacher, load_model, lambda folder: classifier(folder, 2)):
        with pytest.raises(ValueError, match="code"):
            load(str(tmp_path / "model"))


@pytest.mark.slow
def test_pickled_weights_of_a_repository_are_fetched_and_converted_once(pickled, teacher_folder, tmp_path, monkeypatch):
    """Only where that is asked for; afterwards they are there, also without a network."""
    fetched = []

    def snapshot(*_, allow_patterns=(), **__) -> str:
        fetched.append(allow_patterns)
        return str(pickled)

    files = SimpleNamespace(list_repo_files=lambda *_, **__: [file.name for file in pickled.iterdir()])
    monkeypatch.setattr(hub, "HfApi", lambda: files)
    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("DISTILNB_CACHE", str(tmp_path / "cache"))

    def load() -> BertForMaskedLM:
        return hub.fetch(BertForMaskedLM.from_pretrained, "owner/name", revision="main", use_safetensors=True)

    with pytest.raises(ValueError, match="--convert") as error:
        load()
    assert "network" not in hub.cause("owner/name", error.value) and ["pytorch_model.bin"] not in fetched
    monkeypatch.setattr(hub, "converting", True)
    converted = load()
    monkeypatch.setattr(hub, "converting", False)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    again, (original, _) = load(), load_teacher(teacher_folder)
    for one, two, other in zip(converted.parameters(), again.parameters(), original.parameters(), strict=True):
        assert torch.equal(one, other) and torch.equal(two, other)
    assert fetched.count(["pytorch_model.bin"]) == 1 and not (pickled / "model.safetensors").exists()
