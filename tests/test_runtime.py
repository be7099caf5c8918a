"""The places that badges lead to, played on this machine: the first cell as it stands, then a whole notebook."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import types
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from distilnb import paths
from distilnb.lessons import generated, notebooks, runtime

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
def machine(tmp_path: Path) -> Path:
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


INSTALLED = """
from importlib.metadata import distributions
print(*{f"{one.name}=={one.version}" for one in distributions()}, sep="\\n")
"""


def freeze(python: Path, environment: dict[str, str]) -> set[str]:
    """What is installed where this Python runs, as `name==version`."""
    listed = subprocess.run([python, "-c", INSTALLED], env=environment, text=True, capture_output=True, check=True)
    return set(listed.stdout.split())


def test_on_colab_the_first_cell_installs_distilnb_alone_and_the_notebook_runs(origin, machine, tmp_path):
    """Only the address is turned to a local repository; the kernel has no clone, and no PYTHONPATH to find one by."""
    address = f"https://github.com/{generated.repository()}"
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "DISTILNB_HOME")} | {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{origin.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
        "PATH": f"{machine.parent}{os.pathsep}{os.environ['PATH']}",
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    before = freeze(machine, environment)
    assert any(line.startswith("torch==") for line in before) and not any("distilnb" in line for line in before)
    notebook = json.loads((ROOT / "notebooks" / "00_overview.ipynb").read_text())
    last = {"cell_type": "code", "id": "last", "metadata": {}, "source": LAST, "outputs": [], "execution_count": None}
    notebook["cells"].append(last)
    source, done, work = tmp_path / "notebook.ipynb", tmp_path / "done.ipynb", tmp_path / "content"
    source.write_text(json.dumps(notebook))
    work.mkdir()
    ran = subprocess.run(
        [machine, "-c", DRIVER, source, done], cwd=work, env=environment, capture_output=True, text=True
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
    assert {line for line in freeze(machine, environment) if "distilnb" not in line} == before


@pytest.fixture
def drive(monkeypatch, tmp_path):
    """google.colab with a Drive, which notes where it was mounted."""
    module = types.ModuleType("google.colab")
    mounted = []
    module.drive = types.SimpleNamespace(mount=mounted.append)
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setattr(runtime, "MOUNT", tmp_path / "drive")
    monkeypatch.setenv("DISTILNB_HOME", str(tmp_path / "local"))
    return mounted


def test_with_drive_all_runs_go_there(drive, tmp_path, capsys):
    runtime.start("toy", True)
    assert drive == [str(tmp_path / "drive")]
    assert paths.home() == tmp_path / "drive" / "MyDrive" / "distilnb" and paths.home().is_dir()
    assert str(paths.home()) in capsys.readouterr().out


PLACES = {
    "Colab": {"COLAB_RELEASE_TAG": "release-colab_20261101"},
    "Kaggle": {"KAGGLE_KERNEL_RUN_TYPE": "Interactive"},
    "Studio Lab": {"HOME": "/home/studio-lab-user"},
    "Binder": {"BINDER_SERVICE_HOST": "10.0.0.1"},
    "": {},
}


@pytest.fixture(params=PLACES, ids=lambda name: name or "your own machine")
def place(request, monkeypatch) -> str:
    """One of the places that badges lead to, by the marks that it leaves in the environment."""
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE", "BINDER_SERVICE_HOST", "BINDER_LAUNCH_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    for name, value in PLACES[request.param].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    return request.param


def run_first_cell(monkeypatch, installed: bool, **fields: str) -> list[str]:
    """Run the first cell with form fields filled in; what it asked pip to install."""
    asked, find = [], importlib.util.find_spec
    if not installed:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "distilnb" else find(name))
    shell = InteractiveShell()
    shell.register_magic_function(asked.append, magic_name="pip")
    cell = generated.setup_cell(generated.repository())
    for name, value in fields.items():
        cell = re.sub(rf"^{name} = \S+", f"{name} = {value}", cell, flags=re.M)
    monkeypatch.delitem(sys.modules, "distilnb.lessons.runtime", raising=False)  # %run reads it anew
    assert shell.run_cell(cell).success
    return asked


@pytest.mark.parametrize("installed", [True, False])
def test_the_first_cell_installs_where_distilnb_is_missing_and_nowhere_else(place, installed, monkeypatch, capsys):
    asked = run_first_cell(monkeypatch, installed)
    assert asked == ([] if installed else [f"install -q git+https://github.com/{generated.repository()}"])
    assert capsys.readouterr().out == "", "toy needs no advice"


def test_each_place_says_where_to_choose_a_gpu(place, monkeypatch, capsys):
    run_first_cell(monkeypatch, True, SCALE='"base"')
    (line,) = capsys.readouterr().out.splitlines()
    assert runtime.GPUS[place] in line and "scale base wants" in line


def test_form_fields_that_make_no_sense_are_one_line(place, monkeypatch, capsys):
    run_first_cell(monkeypatch, True, SCALE='"huge"')
    assert "unknown scale 'huge'" in capsys.readouterr().out
    run_first_cell(monkeypatch, True, DRIVE="True")
    assert "leave DRIVE off" in capsys.readouterr().out


@pytest.mark.parametrize("host", generated.HOSTS)
def test_each_badge_leads_to_this_notebook(host):
    for entry in notebooks.NOTEBOOKS:
        link = generated.badge(entry, "somebody/else", host)
        assert f"notebooks/{entry.name}.ipynb" in link and "somebody/else" in link and link.startswith(f"[![{host}](")


def test_the_form_fields_of_the_cell_arrive(drive, monkeypatch, capsys):
    """The cell with both fields filled in, run by IPython."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    made = []
    monkeypatch.setattr(Path, "mkdir", lambda self, **_: made.append(self))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    run_first_cell(monkeypatch, True, SCALE='"base"', DRIVE="True")
    home = Path("/content/drive/MyDrive/distilnb")
    assert drive == ["/content/drive"] and home in made and paths.home() == home
    told = capsys.readouterr().out
    assert "records, models and checkpoints go to" in told and "scale base wants one Colab GPU" in told


def test_without_drive_nothing_is_mounted_and_toy_needs_no_advice(drive, tmp_path, capsys):
    runtime.start("", False)
    assert not drive and paths.home() == tmp_path / "local" and capsys.readouterr().out == ""


def test_drive_away_from_colab_is_one_sentence():
    with pytest.raises(ValueError, match="leave"):
        runtime.keep_on_drive()


def test_an_unknown_scale_is_refused_in_the_first_cell():
    with pytest.raises(ValueError, match="huge"):
        runtime.start("huge")


def test_bad_input_in_a_cell_is_a_sentence_and_other_errors_keep_their_traceback(capsys):
    shell = InteractiveShell.instance()
    shell.run_cell('%run -m distilnb.lessons.runtime "" False')
    capsys.readouterr()
    bad = shell.run_cell("from distilnb.models.student import choose_layers\nchoose_layers('best', 12, 6)")
    told = capsys.readouterr().out
    assert isinstance(bad.error_in_exec, ValueError) and "unknown layer choice 'best'" in told
    assert "line 2" not in told and "student.py" not in told
    shell.run_cell("int('x')")
    assert "Traceback (most recent call last)" in capsys.readouterr().out
