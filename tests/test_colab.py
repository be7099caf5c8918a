"""Google Colab, played on this machine: a fresh environment, the first cell as it stands, then a whole notebook."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import types
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from distilnb import paths, scales
from distilnb.lessons import colab, generated

ROOT = paths.PACKAGE.parent
DRIVER = """
import json, sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
try:
    NotebookClient(notebook, timeout=None, kernel_name="python3", extra_arguments=["--log-level=40"]).execute()
finally:
    nbformat.write(notebook, sys.argv[2])
"""
LAST = """
import distilnb, google.colab, torch
from distilnb import paths
from distilnb.evidence import records
from distilnb.lessons import generated
files = sorted(str(p.relative_to(paths.data())) for p in paths.data().rglob("*") if p.is_file())
print({"package": distilnb.__file__, "torch": torch.__file__, "commit": records.commit(), "files": files,
       "home": str(paths.home()), "repository": generated.repository()})
"""


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """The repository as it would stand on GitHub if this working tree were pushed now."""
    if not (ROOT / ".git").exists():
        pytest.skip("no clone: nothing to install from")
    folder = tmp_path / "origin"
    for name in git(
        ROOT, "ls-files", "-co", "--exclude-standard", "distilnb", "data", "pyproject.toml", "README.md", "LICENSE"
    ).splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    git(tmp_path, "init", "-q", "origin")
    git(folder, "add", "-A"), git(folder, "commit", "-qm", "as it stands")
    return folder


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """A fresh virtual environment that, like Colab, has torch and the rest, has `google.colab`, and lacks distilnb.

    What is there lies outside the environment, so that pip can neither change nor remove it.
    """
    there, python = tmp_path / "there", tmp_path / "venv" / "bin" / "python"
    there.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(folder).iterdir():
            if not entry.name.lower().startswith(("distilnb", "_editable", "__editable", "google")):
                (there / entry.name).symlink_to(entry)
    (there / "google" / "colab").mkdir(parents=True)
    (there / "google" / "colab" / "__init__.py").write_text("")
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "shell.py").write_text(
        "import google.colab\ntype(get_ipython()).__str__ = lambda self: '<google.colab._shell.Shell>'\n"
    )
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        text=True,
        capture_output=True,
        check=True,
    ).stdout.strip()
    Path(site, "there.pth").write_text(f"{there}\n")
    return python


def freeze(python: Path, environment: dict[str, str]) -> set[str]:
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=json"], env=environment, text=True, capture_output=True, check=True
    ).stdout
    return {f"{row['name']}=={row['version']}" for row in json.loads(listed)}


def test_on_colab_the_first_cell_installs_distilnb_alone_and_the_notebook_runs(origin, runtime, tmp_path):
    """Only the address is turned to a local repository; the kernel has no clone, and no PYTHONPATH to find one by."""
    address = f"https://github.com/{generated.repository()}"
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "DISTILNB_HOME")} | {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{origin.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
        "PATH": f"{runtime.parent}{os.pathsep}{os.environ['PATH']}",
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    before = freeze(runtime, environment)
    assert any(line.startswith("torch==") for line in before) and not any("distilnb" in line for line in before)
    notebook = json.loads((ROOT / "notebooks" / "00_overview.ipynb").read_text())
    last = {"cell_type": "code", "id": "last", "metadata": {}, "source": LAST, "outputs": [], "execution_count": None}
    notebook["cells"].append(last)
    source, done, work = tmp_path / "notebook.ipynb", tmp_path / "done.ipynb", tmp_path / "content"
    source.write_text(json.dumps(notebook))
    work.mkdir()
    ran = subprocess.run(
        [runtime, "-c", DRIVER, source, done], cwd=work, env=environment, capture_output=True, text=True
    )
    said = done.read_text() + ran.stderr
    if ran.returncode and "hatchling" in said:
        pytest.skip("pip found no hatchling to build the package with: no package registry here")
    assert ran.returncode == 0, said[-3000:]
    cells = [cell for cell in json.loads(done.read_text())["cells"] if cell["cell_type"] == "code"]
    told = "".join("".join(output.get("text", "")) for output in cells[0]["outputs"])
    assert not [o for o in cells[0]["outputs"] if o["output_type"] == "error" or o.get("name") == "stderr"], told
    assert "torch" not in told and "Drive" not in told and "GPU" not in told
    found = eval("".join(cells[-1]["outputs"][0]["text"]))
    assert Path(found["package"]).is_relative_to(tmp_path / "venv")
    assert Path(found["torch"]).is_relative_to(tmp_path / "there")
    assert found["commit"] == git(origin, "rev-parse", "HEAD").strip(), "records say which code ran"
    assert found["repository"] == generated.repository() and Path(found["home"]) == work
    assert set(found["files"]) == {name.removeprefix("data/") for name in git(origin, "ls-files", "data").splitlines()}
    assert {line for line in freeze(runtime, environment) if "distilnb" not in line} == before


@pytest.fixture
def drive(monkeypatch, tmp_path):
    """google.colab with a Drive, which notes where it was mounted."""
    module = types.ModuleType("google.colab")
    mounted = []
    module.drive = types.SimpleNamespace(mount=mounted.append)
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setattr(colab, "MOUNT", tmp_path / "drive")
    monkeypatch.setenv("DISTILNB_HOME", str(tmp_path / "local"))
    return mounted


def test_with_drive_all_runs_go_there(drive, tmp_path, capsys):
    colab.start("toy", True)
    assert drive == [str(tmp_path / "drive")]
    assert paths.home() == tmp_path / "drive" / "MyDrive" / "distilnb" and paths.home().is_dir()
    assert str(paths.home()) in capsys.readouterr().out


def test_the_form_fields_of_the_cell_arrive(drive, monkeypatch, capsys):
    """The cell with both fields filled in, run by IPython; only the installation is left out."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    made = []
    monkeypatch.setattr(Path, "mkdir", lambda self, **_: made.append(self))
    monkeypatch.delitem(sys.modules, "distilnb.lessons.colab")  # %run reads it anew
    cell = generated.setup_cell(generated.repository()).replace('SCALE = ""', 'SCALE = "base"')
    cell = cell.replace("DRIVE = False", "DRIVE = True").replace("%pip", "# %pip")
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(InteractiveShell, "__str__", lambda self: "<google.colab._shell.Shell>", raising=False)
    shell = InteractiveShell()
    made.clear()
    assert shell.run_cell(cell).success
    home = Path("/content/drive/MyDrive/distilnb")
    assert drive == ["/content/drive"] and home in made and paths.home() == home
    told = capsys.readouterr().out
    assert "records, models and checkpoints go to" in told and "scale base wants one Colab GPU" in told


def test_without_drive_nothing_is_mounted_and_toy_needs_no_advice(drive, tmp_path, capsys):
    colab.start("", False)
    assert not drive and paths.home() == tmp_path / "local" and capsys.readouterr().out == ""


def test_drive_away_from_colab_is_one_sentence():
    with pytest.raises(ValueError, match="leave DRIVE off"):
        colab.keep_on_drive()


@pytest.mark.parametrize("scale", [name for name in scales.SCALES if name != "toy"])
def test_a_scale_that_wants_a_gpu_says_where_to_choose_one(monkeypatch, capsys, scale):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    colab.start(scale)
    (line,) = capsys.readouterr().out.splitlines()
    assert "Change runtime type" in line and scales.get(scale).hardware in line
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    colab.start(scale)
    assert capsys.readouterr().out == ""


def test_an_unknown_scale_is_refused_in_the_first_cell():
    with pytest.raises(ValueError, match="small, base"):
        colab.start("huge")
