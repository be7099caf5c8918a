"""Predictions for GLUE's test splits, whose labels are not public, as files that GLUE's server scores."""

from pathlib import Path

import numpy as np
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from . import glue
from .finetuning import FinetuningConfig, predict

FILES = {("mnli", "test_matched"): "MNLI-m", ("mnli", "test_mismatched"): "MNLI-mm"}
FILES |= {(name, "test"): glue.TASKS[name].title for name in glue.GLUE if name != "mnli"}
NAMED = ("mnli", "qnli", "rte")  # tasks whose labels are written as words, not as numbers


def test_splits(task: str) -> tuple[str, ...]:
    """The test splits of a task whose predictions can be submitted; none for IMDb and SQuAD."""
    return tuple(split for name, split in FILES if name == task)


def write(task: glue.Task, split: str, answers: np.ndarray, folder: Path) -> Path:
    """Write the answers (rows,) of a split as lines `index <tab> prediction`, and return the file's path.

    Answers are classes, or STS-B's numbers, which are clipped to its range of 0 to 5.
    """
    if (task.name, split) not in FILES:
        raise ValueError(f"GLUE's server takes no split '{split}' of task {task.name}")
    if task.regression:
        written = [f"{value:.3f}" for value in np.clip(answers, 0.0, 5.0)]
    else:
        written = [task.labels[int(a)] if task.name in NAMED else str(int(a)) for a in answers]
    path = Path(folder) / f"{FILES[task.name, split]}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("index\tprediction\n" + "".join(f"{i}\t{answer}\n" for i, answer in enumerate(written)))
    return path


def predict_tests(
    model: PreTrainedModel,
    task: glue.Task,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
    config: FinetuningConfig,
    folder: Path,
    source: str = "hub",
) -> list[Path]:
    """Answer every test split of `task` with a fine-tuned model, write its files and return their paths; a missing
    split raises `glue.MissingSplit`, a ValueError."""
    written, model = [], model.to(accelerator.device)
    for split in test_splits(task.name):
        rows = glue.load_split(task, split, source, labelled=False)
        encoded = glue.tokenize(rows, task, tokenizer, config.max_length, config.truncation)
        logits, _ = predict(model, encoded, accelerator, tokenizer.pad_token_id)
        answers = task.answers(logits)
        if accelerator.is_main_process:
            written.append(write(task, split, answers, folder))
    return written
