"""The numbered notebooks as one list, the source of their headers, badges, set-up cells, README table and runs."""

import base64
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import paths
from ..machine.progress import duration
from ..report import figures

if TYPE_CHECKING:  # because the training commands do not need Jupyter
    from nbformat import NotebookNode

QUIET = ["--log-level=40"]  # hides the kernel's warning that it listens on this machine
WHERE_NEXT = """
Where to look next
  runs/notebooks/    the executed notebooks; start with 00_overview.ipynb (distilnb notebooks: unpacked, to work in)
  figures/           the pictures they drew
  runs/*.json        one record per run: settings, seed, device, curve, scores
  distilnb --help    the same steps as commands, and --scale to turn the dial up"""


@dataclass(frozen=True)
class Notebook:
    """One row of the list; `minutes` is its run at toy scale on two cores."""

    name: str
    title: str
    claim: str
    paper: str
    modules: str
    minutes: float

    @property
    def number(self) -> str:
        """The two digits of the notebook, such as "03"."""
        return self.name[:2]


NOTEBOOKS = (
    Notebook(
        "00_overview",
        "The paper in fifteen steps",
        "A student half as deep keeps most of what its teacher knows: the claims, and where each is checked",
        "all; Figure 1",
        "paper, figures",
        0.2,
    ),
    Notebook(
        "01_student_initialization",
        "Half the layers, none of the guesswork",
        "Every student tensor is a teacher tensor, and its 66 million parameters can be predicted on paper",
        "sections 3 and 4, Table 3",
        "student, teacher",
        0.5,
    ),
    Notebook(
        "02_triple_loss",
        "Three losses, each by hand",
        "Soft targets, masked words and the direction of hidden states: three short formulas make a student",
        "section 3",
        "losses",
        0.4,
    ),
    Notebook(
        "03_pretraining",
        "Distillation, end to end",
        "A 12-layer teacher becomes a 6-layer student that finishes its sentences",
        "section 3",
        "corpus, masking, step, loop",
        2.0,
    ),
    Notebook(
        "04_glue_finetuning",
        "One task slowly, then a table of them",
        "A pre-trained encoder and a new head: from rows to scores, with baselines, errors and seeds",
        "section 4, Table 1",
        "glue, heads, finetuning, unpadding, grid",
        0.9,
    ),
    Notebook(
        "05_imdb_finetuning",
        "Long reviews, and what to cut",
        "A review is longer than its batch allows: what is read, what it costs, and what the score says",
        "section 4.1, Table 2",
        "glue, finetuning",
        0.5,
    ),
    Notebook(
        "06_squad_finetuning",
        "Pointing at answers, taught twice",
        "An answer is a start and an end, and a fine-tuned teacher can teach both: DistilBERT (D)",
        "section 4.1, Table 2",
        "squad, answers, finetuning, metrics",
        0.8,
    ),
    Notebook(
        "07_size_and_speed",
        "Arithmetic first, then the stopwatch",
        "Half the layers take half the time; what a format saves and costs, and where 71 % and 207 MB are from",
        "Table 3, section 4.1",
        "benchmark, timing, formats, arithmetic",
        1.3,
    ),
    Notebook(
        "08_ablation",
        "One term off at a time",
        "Pairs of equal seeds say which difference is above the noise; Table 4 printed four numbers and no spread",
        "section 4.2, Table 4",
        "ablation, statistics",
        0.7,
    ),
    Notebook(
        "09_scorecard",
        "The case of the three tables",
        "Scores that no run can reach, a misprint found by addition, and a verdict for every claim of the paper",
        "all tables; section 4",
        "scorecard, paper, records",
        0.5,
    ),
    Notebook(
        "10_your_own_encoder",
        "Halve your own encoder",
        "RoBERTa, ModernBERT or GPT-2: which layers can go where, and how to know that a half is one",
        "beyond the paper; section 3",
        "families, student, arithmetic",
        0.5,
    ),
)


def folder() -> Path:
    """The clone's notebooks/, else the folder in the installed package; ValueError where there is neither."""
    for folder in (paths.PACKAGE.parent / "notebooks", paths.data("notebooks")):
        if (folder / f"{NOTEBOOKS[0].name}.ipynb").is_file():
            return folder
    raise ValueError("the notebooks are not part of this installation; clone the repository and run it there")


def unpack(target: Path) -> list[Path]:
    """Copy the notebooks and their solutions to a folder of your own, and return their paths.

    Raises ValueError for a folder that already holds one of them.
    """
    sources = sorted(path for path in folder().rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    copies = [target / path.relative_to(folder()) for path in sources]
    if taken := [path for path in copies if path.exists()]:
        raise ValueError(f"{taken[0]} is there already, with your work perhaps; give another folder")
    for source, copy in zip(sources, copies, strict=True):
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    return copies


def execute(scale: str, only: list[str] | None = None, in_place: bool = False, solutions: bool = False) -> list[Path]:
    """Run the notebooks or their solutions in order, each in a fresh kernel, with progress; return the executed files.

    Raises ValueError for an unknown number and RuntimeError, naming notebook and cell, when a cell fails; the cells
    executed before are kept in runs/notebooks.
    """
    known, only = [n.number for n in NOTEBOOKS], [number.zfill(2) for number in only or ()]
    unknown = sorted(set(only) - set(known))
    if unknown:
        raise ValueError(f"there is no notebook {unknown[0]}; numbers are {', '.join(known)}")
    chosen = [n for n in NOTEBOOKS if not only or n.number in only]
    below = "solutions" if solutions else ""
    copies = paths.home() / "runs" / "notebooks" / below
    copies.mkdir(parents=True, exist_ok=True)
    executed = []
    for place, entry in enumerate(chosen, start=1):
        source = folder() / below / f"{entry.name}.ipynb"
        target = source if in_place else copies / source.name
        expected = "solutions" if solutions else f"about {duration(60 * entry.minutes)}"
        print(f"[{place}/{len(chosen)}] {entry.name}: {entry.title} ({expected})", flush=True)
        _execute(source, target, scale)
        executed.append(target)
    return executed


def _execute(source: Path, target: Path, scale: str) -> None:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    notebook = nbformat.read(source, as_version=4)
    cells = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    began = time.monotonic()

    def tell(cell: "NotebookNode", cell_index: int) -> None:
        if cell_index in cells and sys.stdout.isatty():
            done = cells.index(cell_index)
            print(f"\r  cell {done + 1}/{len(cells)} · {duration(time.monotonic() - began)}", end="   ", flush=True)

    environment = os.environ | {"DISTILNB_SCALE": scale, "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"DISTILNB_HOME": str(paths.home())}  # because an installed notebook runs in the package's folder
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        coalesce_streams=True,
        extra_arguments=QUIET,
        on_cell_start=tell,
        resources={"metadata": {"path": str(source.parent)}},
    )
    try:
        client.execute(env=environment)
    except (CellExecutionError, DeadKernelError) as error:
        failed = target.with_suffix(".failed.ipynb") if target == source else target
        nbformat.write(notebook, failed)
        what = f"{error.ename}: {error.evalue}" if isinstance(error, CellExecutionError) else "the kernel died"
        raise RuntimeError(f"{source.name} stopped at an error: {what} (executed so far: {failed})") from error
    print(f"\r  {len(cells)} cells in {duration(time.monotonic() - began)}" + " " * 20 * sys.stdout.isatty())
    nbformat.write(reduce_pictures(tidy(notebook)), target)


def tidy(notebook: "NotebookNode") -> "NotebookNode":
    """The notebook without parts that differ at every run or break GitHub's view: widgets, timestamps, versions.

    The picture or line that a widget left beside itself stays (see `widgets.View`).
    """
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return notebook


def reduce_pictures(notebook: "NotebookNode") -> "NotebookNode":
    """The notebook with smaller pictures in its outputs, so that GitHub shows the file (see `figures.reduce_png`)."""
    for data in (output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])):
        if "image/png" in data:
            data["image/png"] = base64.b64encode(figures.reduce_png(base64.b64decode(data["image/png"]))).decode()
    return notebook
