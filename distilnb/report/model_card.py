"""Models for the Hugging Face Hub: a folder that plain `transformers` loads, with a card written from records.

The card's facts about text, budget, scores, time and energy are read from the record beside the weights and from the
fine-tuning records that name it. A model without a record, or with an edited record, is refused.
"""

import difflib
import re
import shutil
from pathlib import Path
from statistics import median
from typing import Any

from huggingface_hub import EvalResult, HfApi, ModelCardData, constants, get_token
from huggingface_hub.errors import HFValidationError, HTTPError

from ..evidence.names import CAUSAL, OBJECTIVES, objective_of, tokens_before
from ..evidence.records import load_record
from ..machine.progress import duration
from ..models import families
from ..models.sources import load_model, load_tokenizer
from . import tables

WEIGHTS = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
FILES = (*WEIGHTS, "record.json", "README.md")
SCORES = {
    **{objective.loss: ("loss", objective.title) for objective in OBJECTIVES.values()},
    "accuracy": ("accuracy", "right guesses"),
    "agreement": ("agreement", "agreement with the teacher"),
}
FILL = """fill = pipeline("fill-mask", model="{repo}")
print([guess["token_str"] for guess in fill("{example}")])"""
CONTINUE = """go_on = pipeline("text-generation", model="{repo}")
print(go_on("{example}", max_new_tokens=8)[0]["generated_text"])"""
CARD = """---
{header}
---

# {name}

{what}

{limits}

## Use it

```python
from transformers import pipeline

{use}
```

To train it, load it with `dtype=torch.float32`: by itself `from_pretrained` takes the data type of the file, and in
float16 AdamW's epsilon is zero.

## How it was made

{made}

## Scores

{scores}

## Licence and record

The weights are under {license}; the texts they learned from keep their own licences. Every number above comes from
`record.json` (checksum `{checksum}`) or from the records of [distilnb](https://github.com/{project}), which made it.
"""


def check_repository(repo: str) -> None:
    """Raise ValueError unless `repo` is owner/name."""
    if not repo:
        raise ValueError("name the repository to upload to, --repo owner/name, or look first with --dry-run")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise ValueError(f"--repo '{repo}' is no repository of the Hub; write owner/name")


LICENSES = (  # the identifiers that huggingface.co/docs/hub/repositories-licenses lists
    "afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0 "
    "bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 "
    "cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 "
    "cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 "
    "cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 "
    "etalab-2.0 eupl-1.1 eupl-1.2 gemma gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 "
    "llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail openrail++ "
    "osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib"
).split()
LANGUAGE = r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?|multilingual|code"  # such as en, pt-BR, sr-Latn


def check_license_and_language(license: str, language: str) -> None:
    """Raise ValueError unless the Hub knows this licence, and this language is written as it writes languages."""
    if license not in LICENSES:
        spelled = re.sub(r"[^a-z0-9.+]+", "-", license.lower())
        close = difflib.get_close_matches(spelled, LICENSES, 1)
        meant = f"did you mean {close[0]}? Else " if close else ""
        raise ValueError(
            f"--license '{license}' is none that the Hub lists; {meant}take one of huggingface.co/docs/hub/"
            "repositories-licenses, or other"
        )
    if not re.fullmatch(LANGUAGE, language):
        raise ValueError(f"--language '{language}' is no code of a language; write en, pt-BR or multilingual, say")


def check_access() -> None:
    """Raise ValueError where an upload must fail, because the machine is offline or has no token."""
    if constants.HF_HUB_OFFLINE:
        raise ValueError("HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it, or use --dry-run")
    if not get_token():
        raise ValueError("no Hub token was found; run `hf auth login` or set HF_TOKEN, or look first with --dry-run")


def read_model(model: Path) -> tuple[dict[str, Any], Any]:
    """The record beside the weights, and the network; ValueError when one is missing or they do not fit each other."""
    if not (model / "record.json").is_file():
        raise ValueError(
            f"{model} has no record.json: a model is published with the record of its run, or not at all; "
            "`distilnb distil` and `distilnb teacher` leave both in runs/NAME/model (a fine-tuned one has no card: "
            "`hf upload` takes its folder)"
        )
    record = load_record(model / "record.json")
    if record["kind"] not in ("teacher", "distillation"):
        raise ValueError(f"{model} holds the record of a {record['kind']} run; teachers and students are published")
    missing = [name for name in WEIGHTS if not (model / name).is_file()]
    if missing:
        raise ValueError(f"{model} has no {missing[0]}; give the folder that a run left, with {', '.join(WEIGHTS)}")
    network = load_model(str(model))
    layers = record.get("made_from", {}).get("layers")
    if layers and len(layers) != network.config.num_hidden_layers:
        raise ValueError(
            f"the record in {model} is of {len(layers)} layers, the weights have "
            f"{network.config.num_hidden_layers}: they are not of the same run"
        )
    return record, network


def prepare(
    model: Path,
    out: Path,
    records: list[dict[str, Any]],
    project: str,
    repo: str = "",
    license: str = "apache-2.0",
    language: str = "en",
) -> Path:
    """Write the folder for the Hub (weights, tokenizer, configuration, record and card), and return its path.

    `records` are searched for scores of this model after fine-tuning; `project` is this repository's owner/name.
    Raises ValueError, before anything is written, for a model that `read_model` refuses or a folder in use.
    """
    record, network = read_model(model)
    strays = sorted({path.name for path in out.iterdir()} - set(FILES)) if out.is_dir() else []
    if strays or out.resolve() == model.resolve():
        raise ValueError(f"{out} is in use{f' (it holds {strays[0]})' if strays else ''}; give another folder as --out")
    tuned = [r for r in records if r["kind"] == "finetuning" and r["model_record"] == record["name"]]
    tuned = [r for r in tuned if r["model"] in ("teacher", "student", "undistilled")]
    mask = load_tokenizer(str(model)).mask_token
    text = card(record, network, tuned, repo or f"YOUR-NAME/{record['name']}", project, license, language, mask)
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES[:-1]:
        shutil.copyfile(model / name, out / name)
    (out / "README.md").write_text(text)
    return out


def card(
    record: dict[str, Any],
    network: Any,
    tuned: list[dict[str, Any]],
    repo: str,
    project: str,
    license: str,
    language: str,
    mask: str = "[MASK]",
) -> str:
    """The model card: a header for the Hub and a page for people; `mask` is the model's mask token."""
    toy = "toyworld" in record["data"]["id"]
    blank = "" if objective_of(record) is CAUSAL else f" {mask}."
    example = ("The owl is a kind of" if toy else "The capital of France is") + blank
    return CARD.format(
        header=header(record, network, tuned, license, language).to_yaml(),
        name=record["name"],
        use=(FILL if blank else CONTINUE).format(repo=repo, example=example),
        what=_what(record, network),
        limits=_limits(record, toy),
        made=tables.table(made_rows(record)),
        scores=_scores(record, tuned),
        license=license,
        checksum=record["sha256"][:16],
        project=project,
    )


def header(
    record: dict[str, Any], network: Any, tuned: list[dict[str, Any]], license: str, language: str
) -> ModelCardData:
    """The card's header: licence, language, data sets, base model, tags, and the scores as a model index."""
    text, objective, made = _text(record), objective_of(record), record.get("made_from", {})
    teacher = made.get("teacher") or made.get("start") or ""
    kind = "text-generation" if objective is CAUSAL else "fill-mask"
    distilled = ["knowledge-distillation"] if record["model"] == "student" else []
    scores = [
        EvalResult(
            kind,
            record["data"]["id"],
            f"{text}, held-out",
            metric,
            record["scores"][score],
            metric_name=f"{title}, scale {record['scale']}",
            task_name=objective.words.capitalize(),
        )
        for score, (metric, title) in SCORES.items()
        if score in record["scores"]
    ]
    public = [r for r in tuned if not r["data"].get("own") or _on_hub(r["data"]["id"])]
    for task in dict.fromkeys(r["task"] for r in public):
        runs = [r for r in public if r["task"] == task]
        values, data = [r["scores"]["main"] for r in runs], runs[0]["data"]
        stand_in = " (stand-in)" if data["stand_in"] else ""
        scores.append(
            EvalResult(
                "question-answering" if "exact_match" in runs[0]["scores"] else "text-classification",
                data["id"],
                f"{task}{stand_in}, validation",
                "score",
                median(values),
                dataset_config=data.get("config"),
                metric_name=f"fine-tuned, median of seeds: {len(values)}, from {min(values):.3f} to {max(values):.3f}",
            )
        )
    return ModelCardData(
        language=language,
        license=license,
        library_name="transformers",
        pipeline_tag=kind,
        datasets=[name for name in dict.fromkeys(record["data"]["id"].split(" + ")) if _on_hub(name)] or None,
        base_model=teacher if _on_hub(teacher) else None,
        tags=[network.config.model_type, *distilled, "distilnb", f"scale:{record['scale']}"],
        model_name=record["name"],
        eval_results=scores,
    )


def made_rows(record: dict[str, Any]) -> list[dict[str, str]]:
    """The text, budget, losses, machine, time and energy of a run, one row each."""
    config, device, data, made = record["config"], record["device"], record["data"], record.get("made_from")
    revisions = ", ".join(str(r)[:12] for r in data["revision"] if r)
    term, earlier = objective_of(record).term, tokens_before(record)
    further = f" ({earlier + record['tokens']:,} with those of the student that it goes on from)" if earlier else ""
    losses = f"L_{term} alone"
    if record["kind"] == "distillation":
        losses = f"L_ce {config['ce']:g}, L_{term} {config['mlm']:g}, L_cos {config['cos']:g}; temperature "
        losses += f"{config['temperature']:g}"
    facts = {
        "text": _text(record) + (f", revision {revisions}" if revisions else ""),
        "budget": f"{record['tokens']:,} tokens{further} in {record['steps']:,} updates of {config['batch_size']} × "
        f"{config['seq_length']} tokens, seed {record['seed']}",
        "losses": losses,
        "machine": f"{device['gpu'] or device['processor']}, {device['cores']} cores, precision {record['precision']}",
        "time": f"{duration(record['wall_seconds'])}, processor {duration(record['cpu_seconds'])}",
        "energy": "not measured" if record["energy_wh"] is None else f"{record['energy_wh']:.3g} Wh",
        "code": f"commit {record['commit'] or 'unknown'}",
        "libraries": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
    }
    if record["kind"] == "distillation" and made:
        facts = {"teacher": f"{_name(made['teacher'])}; the student starts from {_start(made)}"} | facts
    return [{"": key, "this model": value} for key, value in facts.items()]


def _start(made: dict[str, Any]) -> str:
    """The origin of a student's weights before its run, in words."""
    if made.get("student"):
        return f"those of {made.get('student_record') or _name(made['student'])}, which it trains further"
    layers = ", ".join(map(str, made["layers"]))
    narrow = f", cut down to a width of {made['width']}" if made.get("width") else ""
    return f"its layers {layers}{narrow}" if made["init"] == "teacher" else "random weights"


def _what(record: dict[str, Any], network: Any) -> str:
    family, depth = families.of(network).name.split(" ")[0], network.config.num_hidden_layers
    size = f"This {family} has {depth} layers and {network.num_parameters() / 1e6:.1f} million parameters."
    how = f"trained on {objective_of(record).words} alone, as a baseline for a distilled twin,"
    if record["kind"] == "teacher":
        how = "pre-trained"
    elif record["model"] == "student":
        how = "distilled by the triple loss of DistilBERT"
    return f"{size} It was {how} on {_text(record)}."


def _limits(record: dict[str, Any], toy: bool) -> str:
    use = "It repeats what its text says, prejudice included; look at its guesses before you rely on them."
    if toy:
        use = "It knows that world's words only and is of no use outside it."
    return (
        f"**Limits.** Made at scale *{record['scale']}* in one run with one seed: no evidence about the paper's "
        f"numbers. The text is {record['data']['stand_in_why'] or 'as in the paper'}. {use}"
    )


def _scores(record: dict[str, Any], tuned: list[dict[str, Any]]) -> str:
    masked = "" if objective_of(record) is CAUSAL else ", masked as in training"
    parts = [f"Held-out text{masked}:", tables.table(tables.pretraining_rows([record]))]
    if tuned:
        parts += [
            "After fine-tuning, median [lowest–highest] over the seeds, in points; `majority` is what the best "
            "constant answer scores:",
            tables.table(tables.finetuning_rows(tuned)),
        ]
    stand_ins = sorted({r["data"]["stand_in_why"] for r in tuned if r["data"]["stand_in"]})
    parts += [f"The tasks are stand-ins for the real ones: {', '.join(stand_ins)}."] if stand_ins else []
    return "\n\n".join(parts)


def _text(record: dict[str, Any]) -> str:
    return " + ".join(_name(part) for part in record["data"]["id"].split(" + "))


def _name(source: str) -> str:
    """The public name of a source or model: of a local path, only the last part."""
    return source if _on_hub(source) or not Path(source).is_absolute() else Path(source).name


def _on_hub(name: str) -> bool:
    local = name.startswith(("./", "../", "data/", "runs/")) or name.endswith("/model")  # see `shipped_name`
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) and not local


def upload(folder: Path, repo: str, private: bool = False) -> str:
    """Push a prepared folder to the Hub, to a new repository where there is none, and return its address.

    Raises RuntimeError when the Hub refuses or does not answer; the folder stays for another try.
    """
    try:
        hub = HfApi(token=get_token())
        hub.create_repo(repo, private=private, exist_ok=True)
        hub.upload_folder(folder_path=folder, repo_id=repo, commit_message="Publish with distilnb")
    except (HFValidationError, HTTPError) as error:
        why = " ".join(str(error).split())[:200]
        sentence = f"the Hub did not take {repo} ({why}); the folder {folder} is ready for another try"
        raise RuntimeError(sentence) from error
    return f"{constants.ENDPOINT}/{repo}"
