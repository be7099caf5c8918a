"""The numbered notebooks as one list, `data/notebooks.csv`: the source of headers, badges, README table and runs."""

import base64
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

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


NOTEBOOKS = tuple(Notebook(**row) for row in pd.read_csv(paths.data("notebooks.csv")).to_dict("records"))


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
    if unknown := sorted(set(only) - set(known)):
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
