"""What the first cell of each notebook does on Google Colab once the package is installed: Drive, and a word on GPUs.

%run -m distilnb.lessons.colab "base" True
"""

import os
import sys
from pathlib import Path

from .. import scales

MOUNT = Path("/content/drive")


def start(scale: str = "", drive: bool = False) -> None:
    """Keep runs on Google Drive if asked to, and say it when the scale wants a GPU that this runtime does not have."""
    if drive:
        print(f"records, models and checkpoints go to {keep_on_drive()}; a run that was cut off goes on from there")
    advice = about_gpu(scales.get(scale))
    if advice:
        print(advice)


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
    if scale.name == "toy":
        return ""
    import torch  # not for toy, which needs no advice

    if torch.cuda.is_available():
        return ""
    return (
        f"scale {scale.name} wants {scale.hardware}, and this runtime has no GPU: choose one in the menu Runtime → "
        "Change runtime type, or go on at scale toy, which needs none"
    )


if __name__ == "__main__":
    start(sys.argv[1], sys.argv[2] == "True")
