"""Sharing: the folder loads with plain transformers, the card says what the records say, nothing goes out unasked."""

import base64
import http.server
import json
import shutil
import threading
from pathlib import Path

import pytest
import torch
from conftest import byte_level, free_port
from huggingface_hub import ModelCard, constants
from transformers import AutoModelForMaskedLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from distilnb import paths
from distilnb.cli import main
from distilnb.evidence.records import load_record, load_records, save_record
from distilnb.report import model_card

SHIPPED = paths.data("students", "toy")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the shipped student with its record, to be spoiled at will."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "model"))


@pytest.fixture
def no_token(monkeypatch, tmp_path):
    """A machine on which nobody has logged in to the Hub."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_the_folder_loads_with_plain_transformers_and_answers_as_before(tmp_path, capsys):
    out = tmp_path / "out"
    assert main.main(["publish", "--dry-run", "--out", str(out)]) == 0
    assert "nothing was uploaded" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == set(model_card.FILES)
    tokenizer = AutoTokenizer.from_pretrained(out)
    batch = tokenizer(["The owl is a kind of [MASK]."], return_tensors="pt")
    before, after = (AutoModelForMaskedLM.from_pretrained(path, dtype=torch.float32).eval() for path in (SHIPPED, out))
    with torch.no_grad():
        assert torch.equal(before(**batch).logits, after(**batch).logits)
    guess = after(**batch).logits[0, batch.input_ids[0].tolist().index(tokenizer.mask_token_id)].argmax()
    assert tokenizer.decode([guess]) == "bird"


def test_the_card_says_what_the_records_say(tmp_path):
    record = load_record(SHIPPED / "record.json")
    published = load_records(paths.data("runs"))
    out = model_card.prepare(SHIPPED, tmp_path / "out", published, "some/project", license="mit", language="de")
    card = ModelCard.load(out / "README.md")
    assert (card.data.license, card.data.language, card.data.model_name) == ("mit", "de", "distil-toy")
    assert {"distilbert", "knowledge-distillation", "scale:toy"} <= set(card.data.tags)
    assert card.data.base_model is None and card.data.datasets is None, "neither teacher nor text is on the Hub"
    scores = {(r.dataset_config, r.metric_type): r.metric_value for r in card.data.eval_results}
    assert scores[None, "loss"] == record["scores"]["mlm_loss"]
    sst2 = sorted(
        load_record(paths.data("runs", f"finetuning-toy-student-sst2-seed{seed}.json"))["scores"]["main"]
        for seed in range(3)
    )
    assert scores["sst2", "score"] == sst2[1]
    spread = f"{100 * sst2[1]:.1f} [{100 * sst2[0]:.1f}–{100 * sst2[2]:.1f}]"
    for fact in (
        f"{record['tokens']:,} tokens",
        record["commit"],
        "0, 2, 4, 7, 9, 11",
        "not measured",
        spread,
        "no evidence about the paper",
        "toyworld, a made-up world",
        "github.com/some/project",
        "dtype=torch.float32",  # without it the float16 weights turn into NaN in AdamW's first step
    ):
        assert fact in card.text, fact
    assert "energy" in card.text and "undistilled" not in card.text, "scores of other models have no place here"


def test_the_card_of_real_text_and_a_teacher_from_the_hub_names_both(model, tmp_path):
    record = load_record(model / "record.json") | {"name": "distil-base", "scale": "base", "energy_wh": 123.4}
    record["made_from"] |= {"teacher": "google-bert/bert-base-uncased", "revision": "86b5e0934494bd15", "width": 64}
    record["data"] |= {"id": "wikimedia/wikipedia + my-diary.txt", "revision": ["b04c8d1ceb2f5cd4588862100d08", None]}
    save_record(record, tmp_path).replace(model / "record.json")
    card = ModelCard.load(model_card.prepare(model, tmp_path / "out", [], "some/project") / "README.md")
    assert card.data.base_model == "google-bert/bert-base-uncased"
    assert card.data.datasets == ["wikimedia/wikipedia"]
    assert "123 Wh" in card.text and "revision b04c8d1ceb2f" in card.text and "prejudice" in card.text
    assert "its layers 0, 2, 4, 7, 9, 11, cut down to a width of 64" in card.text
    record["made_from"] |= {"teacher": "reviews/model"}
    save_record(record, tmp_path).replace(model / "record.json")
    card = ModelCard.load(model_card.prepare(model, tmp_path / "other", [], "some/project") / "README.md")
    assert card.data.base_model is None, "a folder of somebody's own"


def test_the_shipped_teacher_can_be_shared_too(tmp_path):
    out = model_card.prepare(paths.data("teachers", "toy"), tmp_path / "out", [], "some/project")
    card = ModelCard.load(out / "README.md")
    assert "This BERT has 12 layers" in card.text and "L_mlm alone" in card.text and "bert" in card.data.tags
    assert AutoModelForMaskedLM.from_pretrained(out).config.num_hidden_layers == 12


def test_the_card_of_a_causal_model_speaks_of_next_words(model, tmp_path):
    """And that of a student that was trained further names the budget in all."""
    tokenizer = byte_level("GPT2Tokenizer")
    for file in model.glob("*.json"):
        if file.name != "record.json":
            file.unlink()
    network = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=len(tokenizer)))
    network.save_pretrained(model)
    tokenizer.save_pretrained(model)
    record = load_record(model / "record.json")
    scores = {"clm_loss" if name == "mlm_loss" else name: value for name, value in record["scores"].items()}
    made = {"family": "GPT-2", "layers": [0, 2], "student": "runs/first/model", "student_record": "first"}
    made |= {"teacher": "openai-community/gpt2", "init": "teacher", "tokens_before": 1_000_000}
    save_record(record | {"scores": scores, "made_from": made}, tmp_path).replace(model / "record.json")
    card = ModelCard.load(model_card.prepare(model, tmp_path / "out", [], "some/project") / "README.md")
    assert card.data.pipeline_tag == "text-generation" and "gpt2" in card.data.tags
    assert {"loss", "accuracy", "agreement"} == {result.metric_type for result in card.data.eval_results}
    assert "This GPT-2 has 2 layers" in card.text and "L_clm 2" in card.text
    assert "those of first" in card.text and f"{1_000_000 + record['tokens']:,} with those" in card.text
    assert not any(word in card.text for word in ("mask", "MASK", "L_mlm", "MLM", "DistilBERT has"))
    (model / "record.json").unlink()
    save_record(record | {"made_from": made}, tmp_path).replace(model / "record.json")  # as such a run once wrote it
    card = ModelCard.load(model_card.prepare(model, tmp_path / "older", [], "some/project") / "README.md")
    assert "L_clm" in card.text and "next word" in card.text and "MASK" not in card.text


def spoil(model: Path, how: str) -> str:
    """Make the model unfit in one way; words of the sentence that says so."""
    if how == "no record":
        (model / "record.json").unlink()
        return "no record.json"
    if how == "an edited record":
        text = (model / "record.json").read_text()
        (model / "record.json").write_text(text.replace('"agreement": 0.78', '"agreement": 0.98'))
        return "changed after its run"
    if how == "a record of other weights":
        record = load_record(model / "record.json")
        record["made_from"]["layers"] = [0, 1, 2]
        save_record(record, model.parent).replace(model / "record.json")
        return "not of the same run"
    if how == "no tokenizer":
        (model / "tokenizer.json").unlink()
        return "no tokenizer.json"
    (model / "model.safetensors").write_bytes(b"torn")
    return "no readable weights"


WAYS = ("no record", "an edited record", "a record of other weights", "no tokenizer", "broken weights")


@pytest.mark.parametrize("how", WAYS)
def test_what_is_not_whole_is_refused_before_anything_is_written(model, tmp_path, capsys, how):
    words = spoil(model, how)
    assert main.main(["publish", "--dry-run", "--model", str(model), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert words in told and "Traceback" not in told
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_left_alone(model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    for out, words in ((tmp_path / "out", "thesis.tex"), (model, "give another folder")):
        with pytest.raises(ValueError, match=words):
            model_card.prepare(model, out, [], "some/project")
    assert not (model / "README.md").exists()


def test_without_a_token_or_a_repository_nothing_is_written(no_token, tmp_path, capsys):
    for flags, words in ((["--repo", "me/it"], "no Hub token"), ([], "owner/name"), (["--repo", "it"], "owner/name")):
        assert main.main(["publish", "--out", str(tmp_path / "out"), *flags]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--license", "Apache 2.0"], "did you mean apache-2.0?"),
        (["--license", "my own words"], "or other"),
        (["--language", "English"], "write en"),
        (["--language", "en_US"], "write en"),
    ],
)
def test_words_that_the_hub_would_refuse_are_told_before_anything_is_written(tmp_path, capsys, flags, words):
    assert main.main(["publish", "--dry-run", "--out", str(tmp_path / "out"), *flags]) == 2
    told = capsys.readouterr().err
    assert words in told and flags[1] in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("language", ["de", "pt-BR", "sr-Latn", "zh-Hant-TW", "es-419", "multilingual"])
def test_the_hubs_own_words_pass(language):
    for license in ("apache-2.0", "cc-by-sa-4.0", "other"):
        model_card.check_license_and_language(license, language)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as an upload needs: make a repository, say that no file is large, take one commit."""

    asked: list[tuple[str, str]] = []
    taken: dict[str, bytes] = {}
    refuses = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append((self.path, self.headers.get("Authorization", "")))
        answer = {"url": f"http://{self.headers['Host']}/me/it", "name": "me/it"}
        if "preupload" in self.path:
            files = json.loads(body)["files"]
            answer = {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            self.taken.update(
                {
                    line["value"]["path"]: base64.b64decode(line["value"]["content"])
                    for line in lines
                    if line["key"] == "file"
                }
            )
            answer = {
                "success": True,
                "commitOid": "c0ffee",
                "commitUrl": f"http://{self.headers['Host']}/me/it/commit/c0ffee",
            }
        data = json.dumps({"error": "this token may not write"} if self.refuses else answer).encode()
        self.send_response(403 if self.refuses else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def stub(no_token, monkeypatch):
    """A Hub on this machine, and a token for it."""
    Hub.asked, Hub.taken, Hub.refuses = [], {}, False
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield Hub
    server.shutdown()
    server.server_close()


def test_an_upload_takes_every_file_to_the_named_repository(stub, tmp_path, capsys):
    assert main.main(["publish", "--repo", "me/it", "--out", str(tmp_path / "out")]) == 0
    assert "uploaded: http://127.0.0.1" in capsys.readouterr().out
    assert stub.taken == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert b'model="me/it"' in stub.taken["README.md"]
    assert {token for _, token in stub.asked} == {"Bearer hf_test"}
    assert any(path.startswith("/api/models/me/it/commit/") for path, _ in stub.asked)


def test_a_hub_that_refuses_is_one_sentence_and_the_folder_stays(stub, tmp_path, capsys):
    stub.refuses = True
    assert main.main(["publish", "--repo", "me/it", "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert "the Hub did not take me/it" in told and "ready for another try" in told and "Traceback" not in told
    assert (tmp_path / "out" / "README.md").is_file()


def test_a_hub_that_cannot_be_reached_is_one_sentence(stub, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert main.main(["publish", "--repo", "me/it", "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert "the Hub did not take me/it" in told and "\n" not in told.strip()
