"""What the first cell of each notebook does once the package is there: Google Drive, and a word on GPUs.

%run -m distilnb.lessons.runtime "base" True

It knows the places that the badges lead to, Colab, Kaggle, Studio Lab and Binder, and is silent on your own machine.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from .. import scales

MOUNT = Path("/content/drive")
GPUS = {  # place -> where a GPU is chosen there
    "Colab": "choose one in the menu Runtime → Change runtime type",
    "Kaggle": "choose one in the menu Settings → Accelerator",
    "Studio Lab": "stop this runtime and start one with Compute type GPU",
    "Binder": "Binder has none: open the notebook on Colab or Kaggle instead",
    "": "run it on a machine that has one, or on Colab or Kaggle",
}


def start(scale: str = "", drive: bool = False) -> None:
    """Keep runs on Google Drive if asked to, and say it when the scale wants a GPU that this machine does not have."""
    if drive:
        print(f"records, models and checkpoints go to {keep_on_drive()}; a run that was cut off goes on from there")
    advice = about_gpu(scales.get(scale))
    if advice:
        print(advice)


def place() -> str:
    """Which of the hosts in `GPUS` runs this notebook; empty for a machine of your own."""
    if "google.colab" in sys.modules or os.environ.get("COLAB_RELEASE_TAG"):
        return "Colab"
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "Kaggle"
    if Path.home().name == "studio-lab-user":
        return "Studio Lab"
    return "Binder" if "BINDER_SERVICE_HOST" in os.environ or "BINDER_LAUNCH_HOST" in os.environ else ""


def keep_on_drive() -> Path:
    """Mount Drive and make a folder of it the home of `runs/` and `figures/`; ValueError away from Colab."""
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
    """One line of advice where the scale is slow without a GPU and there is none; else nothing."""
    if scale.name == "toy" or find_spec("torch") is None:
        return ""
    import torch  # not for toy, which needs no advice

    if torch.cuda.is_available():
        return ""
    return (
        f"scale {scale.name} wants {scale.hardware}, and there is no GPU here: {GPUS[place()]}; "
        "or go on at scale toy, which needs none"
    )


if __name__ == "__main__":
    try:
        start(sys.argv[1], sys.argv[2] == "True")
    except ValueError as error:  # a form field with a value that makes no sense: a line, and the lesson goes on
        print(error)
