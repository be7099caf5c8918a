"""The start of each notebook, run by its first cell: Google Drive, advice on GPUs, errors in one line.

%run -m distilnb.lessons.runtime "base" True

It knows the hosts of the badges, Colab, Kaggle, Studio Lab and Binder, and is silent on your own machine.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from IPython import get_ipython

from .. import scales

MOUNT = Path("/content/drive")
GPUS = {  # host → the place where a GPU is chosen there
    "Colab": "choose one in the menu Runtime → Change runtime type",
    "Kaggle": "choose one in the menu Settings → Accelerator",
    "Studio Lab": "stop this runtime and start one with Compute type GPU",
    "Binder": "Binder has none: open the notebook on Colab or Kaggle instead",
    "": "run it on a machine that has one, or on Colab or Kaggle",
}


def start(scale: str = "", drive: bool = False) -> None:
    """Keep runs on Google Drive if `drive`, and print advice when the scale wants a GPU that is not there."""
    if drive:
        print(f"records, models and checkpoints go to {keep_on_drive()}; a run that was cut off goes on from there")
    if advice := about_gpu(scales.get(scale)):
        print(advice)


def place() -> str:
    """The host in `GPUS` that runs this notebook; "" for your own machine."""
    if "google.colab" in sys.modules or os.environ.get("COLAB_RELEASE_TAG"):
        return "Colab"
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "Kaggle"
    if Path.home().name == "studio-lab-user":
        return "Studio Lab"
    return "Binder" if "BINDER_SERVICE_HOST" in os.environ or "BINDER_LAUNCH_HOST" in os.environ else ""


def keep_on_drive() -> Path:
    """Mount Drive, make one of its folders the home of `runs/` and `figures/`, and return it; ValueError off Colab."""
    try:
        from google.colab import drive
    except ImportError:
        raise ValueError("there is no Google Drive here: leave DRIVE off, or set DISTILNB_HOME to a folder") from None
    drive.mount(str(MOUNT))
    home = MOUNT / "MyDrive" / "distilnb"
    home.mkdir(parents=True, exist_ok=True)
    os.environ["DISTILNB_HOME"] = str(home)
    return home


def about_gpu(scale: scales.Scale) -> str:
    """One line of advice where the scale is slow without a GPU and there is none; else ""."""
    if scale.name == "toy" or find_spec("torch") is None:
        return ""
    import torch  # imported late, because toy needs no advice

    if torch.cuda.is_available():
        return ""
    return (
        f"scale {scale.name} wants {scale.hardware}, and there is no GPU here: {GPUS[place()]}; "
        "or go on at scale toy, which needs none"
    )


def explain_errors() -> None:
    """Show a sentence of this package about bad input without the traceback, which `%tb` shows."""
    if shell := get_ipython():
        shell.set_custom_exc((ValueError,), _show)


def _show(shell: Any, kind: type, error: ValueError, trace: TracebackType, tb_offset: int | None = None) -> None:
    deepest = trace
    while deepest.tb_next:
        deepest = deepest.tb_next
    ours = deepest.tb_frame.f_globals.get("__name__", "").startswith("distilnb.")
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset, exception_only=ours)


if __name__ == "__main__":
    explain_errors()
    try:
        start(sys.argv[1], sys.argv[2] == "True")
    except ValueError as error:  # a bad value in a form field gives a line, and the lesson goes on
        print(error)
