"""Files from strangers: checkpoints and model folders that try to run code, read elsewhere or eat the memory."""

import json
import pickle
import re
import shutil
import struct
from pathlib import Path

import pytest
import torch

import distilnb
from distilnb import scales
from distilnb.distillation import checkpoints
from distilnb.distillation.checkpoints import Checkpoint
from distilnb.machine import files
from distilnb.models.teacher import load_teacher
from distilnb.tasks import glue, heads

PACKAGE = Path(distilnb.__file__).parent
SOURCES = {path.relative_to(PACKAGE): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


class Payload:
    """Whoever unpickles it creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\btorch\.load\((?!file, map_location=\"cpu\", weights_only=True\))",
        r"\bimport pickle",
        r"\bfrom pickle",
        r"\bpickle\.load",
        r"trust_remote_code\"?\s*[=:]\s*True",
        r"weights_only\s*=\s*False",
        r"use_safetensors\s*=\s*False",
        r"allow_pickle\s*=\s*True",
        r"\bjoblib\b",
        r"\.load_state\(",
        r"\beval\(",
        r"\bexec\(",
    ],
)
def test_nothing_in_the_package_can_run_what_it_loads(pattern):
    found = [str(name) for name, text in SOURCES.items() if re.search(pattern, text.replace(".eval()", ""))]
    assert not found


def test_whatever_comes_from_the_hub_is_pinned():
    """Forty digits for every repository that the package itself names."""
    pinned = re.compile(r"[0-9a-f]{40}")
    assert pinned.fullmatch(scales.BERT_BASE_REVISION) and pinned.fullmatch(scales.DISTILBERT_REVISION)
    for scale in scales.SCALES.values():
        assert Path(scale.teacher).is_absolute() or pinned.fullmatch(scale.revision)
        for text in f"{scale.text}+{scale.teacher_text}".split("+"):
            assert text == "toyworld" or pinned.fullmatch(text.split("@")[1])
    assert all(pinned.fullmatch(task.revision) for task in glue.TASKS.values())


# checkpoints


def manifest(path: Path, **changes) -> None:
    """Change a manifest as somebody would who can also compute its checksums."""
    told = json.loads((path / "manifest.json").read_text())
    told.pop("own_sha256")
    told |= changes
    told["sha256"] = {
        name: files.digest(path / name) if (path / name).is_file() else "0"
        for name in changes.get("sha256", told["sha256"])
    }
    (path / "manifest.json").write_text(json.dumps(told | {"own_sha256": checkpoints.manifest_hash(told)}))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two good checkpoints."""
    for step in (1, 2):
        tensors = {"model": {"w": torch.full((2,), float(step))}, "optimizer": {"w/step": torch.tensor(1.0)}}
        checkpoints.save(tmp_path / "run", Checkpoint(step, tensors, {"curve": []}), {})
    return tmp_path / "run"


def falls_back(folder: Path, why: str) -> None:
    """The newest is refused in a sentence and the one before is taken."""
    with pytest.warns(UserWarning, match=f"step-00000002.*{why}"):
        assert checkpoints.load(folder, {}).step == 1


def test_a_pickle_in_place_of_tensors_is_not_opened(folder, tmp_path):
    target = folder / "step-00000002"
    (target / "model.safetensors").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    manifest(target)
    falls_back(folder, "cannot be read")
    torch.save(Payload(tmp_path / "ran"), target / "model.safetensors")
    manifest(target)
    falls_back(folder, "cannot be read")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["../../secret.safetensors", "/etc/passwd.safetensors", "model.bin", "code.py", "sub/model.safetensors", ""]
)
def test_a_manifest_cannot_name_files_elsewhere_or_of_another_kind(folder, tmp_path, name):
    shutil.copy(folder / "step-00000001" / "model.safetensors", tmp_path / "secret.safetensors")
    manifest(folder / "step-00000002", sha256={name: "", "state.json": ""})
    falls_back(folder, "which no checkpoint holds")


@pytest.mark.parametrize(
    "header",
    [struct.pack("<Q", 2**63), struct.pack("<Q", 90_000_000) + b"{" * 1000, b"\0" * 7, struct.pack("<Q", 2) + b"[]"],
)
def test_headers_that_lie_about_their_size_are_refused(folder, header):
    (folder / "step-00000002" / "model.safetensors").write_bytes(header)
    manifest(folder / "step-00000002")
    falls_back(folder, "cannot be read")


def test_tensors_that_overlap_or_reach_beyond_the_file_are_refused(folder):
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (folder / "step-00000002" / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
    manifest(folder / "step-00000002")
    falls_back(folder, "cannot be read")


@pytest.mark.parametrize("state", ["[" * 100_000, "3", "nonsense", "\ud800"])
def test_a_state_that_is_no_state_is_refused(folder, state):
    (folder / "step-00000002" / "state.json").write_text(state, errors="surrogatepass")
    manifest(folder / "step-00000002")
    falls_back(folder, "cannot be read")


@pytest.mark.parametrize("changes", [{"step": "2; rm -rf"}, {"identity": []}, {"step": None}])
def test_a_manifest_of_other_types_is_refused(folder, changes):
    manifest(folder / "step-00000002", **changes)
    falls_back(folder, "manifest.json was changed")


@pytest.mark.parametrize("tensors", [{}, {"w": torch.zeros(3)}, {"w": torch.zeros(2), "more": torch.zeros(1)}])
def test_tensors_of_another_model_are_refused(tensors):
    parameter = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match="checkpoint"):
        checkpoints.load_parameters({parameter: "w"}, tensors)


@pytest.mark.parametrize("name", ["w/__class__", "other/exp_avg", "w", "/"])
def test_an_optimizer_takes_its_own_tensors_only(name):
    parameter = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match="checkpoint"):
        checkpoints.load_optimizer(torch.optim.AdamW([parameter]), {parameter: "w"}, {name: torch.zeros(2)})


# model folders


@pytest.fixture
def model(teacher_folder, tmp_path) -> Path:
    """A copy of the good teacher."""
    return Path(shutil.copytree(teacher_folder, tmp_path / "model"))


def refused(model: Path, tmp_path: Path) -> None:
    """By all that load models, in a sentence, without a trace."""
    for load in (load_teacher, lambda path: heads.classifier(path, 2)):
        with pytest.raises(ValueError, match="model"):
            load(model)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_pickled_weights_alone_are_not_opened(model, tmp_path, name):
    (model / "model.safetensors").unlink()
    torch.save(Payload(tmp_path / "ran"), model / "pytorch_model.bin")
    if name.endswith("json"):
        (model / name).write_text(json.dumps({"metadata": {}, "weight_map": {"w": "pytorch_model.bin"}}))
    refused(model, tmp_path)


def test_a_pickle_called_safetensors_is_not_opened(model, tmp_path):
    torch.save(Payload(tmp_path / "ran"), model / "model.safetensors")
    refused(model, tmp_path)


@pytest.mark.parametrize("place", ["../secret.safetensors", "/etc/hostname", "sub/../../secret.safetensors"])
def test_an_index_cannot_reach_out_of_its_folder_with_pickles(model, tmp_path, place):
    """Names that lead elsewhere can at most be read as safetensors, of which there are none."""
    (model / "model.safetensors").unlink()
    torch.save(Payload(tmp_path / "ran"), tmp_path / "secret.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": {"w": place}}))
    refused(model, tmp_path)


@pytest.mark.parametrize("auto", ["AutoConfig", "AutoModelForMaskedLM", "AutoTokenizer"])
def test_code_that_lies_beside_a_model_is_not_run(model, tmp_path, auto):
    """`auto_map` names a class in the folder; the model itself is a BERT, and is loaded as one."""
    (model / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    for name in ("config.json", "tokenizer_config.json"):
        told = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(told | {"auto_map": {auto: "evil.Evil"}}))
    try:
        load_teacher(model)
    except ValueError as error:
        assert "cannot be read" in str(error) or "readable" in str(error)
    assert not (tmp_path / "ran").exists()


def test_a_model_type_of_its_own_code_is_refused(model, tmp_path):
    (model / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    told, evil = json.loads((model / "config.json").read_text()), {"AutoConfig": "evil.Evil"}
    (model / "config.json").write_text(json.dumps(told | {"model_type": "evil", "auto_map": evil}))
    refused(model, tmp_path)
