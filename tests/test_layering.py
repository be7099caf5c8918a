"""The plan of the house, kept: who may import whom, what every public name says, what importing must not do."""

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import distilnb

PACKAGE = Path(distilnb.__file__).parent
LAYERS = {
    "leaves": "paper scales student teacher losses precision dropout masking corpus toyworld results metrics hub paths "
    "contamination progress machine faults interrupts lock processes cost",
    "engines": "recipe batches distillation estimate training pretraining guessing checkpoints backup tasks squad "
    "own scored heads finetuning cells grid submission ablation benchmark export",
    "view": "figures report scorecard widgets exercises",
    "shell": "cli options evidence notebooks book publish colab __main__",
}
LAYER = {module: layer for layer, modules in LAYERS.items() for module in modules.split()}
ORDER = list(LAYERS)
FILES = {  # "toyworld" is the sub-package's __init__, "toyworld.words" one of its modules
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}
MODULES = sorted(FILES)
TREES = {name: ast.parse(path.read_text(), path.name) for name, path in FILES.items()}


def home(module: str) -> str:
    """The part of the plan a module belongs to: the sub-package, or the module itself."""
    return module.split(".")[0]


def layer(module: str) -> int:
    """The place of a module's layer, from the leaves outwards."""
    return ORDER.index(LAYER[home(module)])


def imported(tree: ast.Module, folder: str = "") -> set[str]:
    """The modules of ours that a module in `folder` (a sub-package) imports anywhere, also inside functions."""
    ours, found = {*MODULES, *LAYER}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found |= {name.removeprefix("distilnb.") for name in names if name.startswith("distilnb.")}
        elif isinstance(node, ast.ImportFrom):
            parts = ["distilnb", *filter(None, folder.split("."))]
            start = parts[: len(parts) + 1 - node.level] if node.level else []
            source = ".".join([*start, *filter(None, [node.module])])
            if source.split(".")[0] == "distilnb":
                names = [f"{source}.{alias.name}".removeprefix("distilnb.") for alias in node.names]
                found |= {name if name in ours else name.rpartition(".")[0] for name in names}
    return {name if name in ours else home(name) for name in found} & ours


def arrows(module: str) -> set[str]:
    """What a module of the package imports."""
    package = FILES[module].name == "__init__.py"
    return imported(TREES[module], module if package else module.rpartition(".")[0])


def test_the_reader_of_imports_sees_all_ways_to_write_one():
    text = """
import distilnb.a
from . import b as x
from .c import y
from distilnb import d
def f():
    from distilnb.e import z
"""
    names = dict.fromkeys("abcde", "leaves")
    LAYER.update(names)
    try:
        assert imported(ast.parse(text)) == set("abcde")
        inside = "from . import words\nfrom .text import x\nfrom ..a import y\nfrom .. import b\nfrom . import document"
        assert imported(ast.parse(inside), "toyworld") == {"toyworld.words", "toyworld.text", "a", "b", "toyworld"}
    finally:
        for name in names:
            del LAYER[name]


def test_every_module_has_its_place():
    assert len(MODULES) > 10
    assert not {home(module) for module in MODULES} - set(LAYER), "give the new module a layer here and in the plan"
    magnets = {"utils", "util", "common", "config", "helpers", "misc", "core", "base"}
    assert not {part for module in MODULES for part in module.split(".")} & magnets
    assert {p.name for p in PACKAGE.iterdir() if p.is_dir()} <= {"__pycache__", "data", "exercises", "toyworld"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_inwards(module):
    """leaves ← engines ← view ← shell: an arrow to the own layer or to one before it."""
    outward = [other for other in arrows(module) if layer(other) > layer(module)]
    assert not outward, f"{module} ({LAYER[home(module)]}) imports {', '.join(outward)} ({LAYER[home(outward[0])]})"


def test_no_cycle():
    seen = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path[path.index(module) :], module))
        if module not in seen:
            for other in sorted(arrows(module) if module in FILES else ()):
                walk(other, (*path, module))
            seen.add(module)

    for module in MODULES:
        walk(module, ())


@pytest.mark.parametrize("module", MODULES)
def test_no_star_imports(module):
    stars = [
        node.lineno
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    ]
    assert not stars


def public(tree: ast.Module) -> list[tuple[str, ast.AST]]:
    """Public functions and classes of a module, and the public methods of these classes."""
    found = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            found.append((node.name, node))
            if isinstance(node, ast.ClassDef):
                found += [
                    (f"{node.name}.{item.name}", item)
                    for item in node.body
                    if isinstance(item, ast.FunctionDef) and not item.name.startswith("_")
                ]
    return found


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_a_docstring(module):
    assert ast.get_docstring(TREES[module]), "the module itself"
    assert not [name for name, node in public(TREES[module]) if not ast.get_docstring(node)]


def bare(function: ast.FunctionDef, method: bool) -> list[str]:
    """Parameters without annotation, and "return" where its annotation is missing."""
    spec = function.args
    parameters = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *filter(None, (spec.vararg, spec.kwarg))]
    static = any(getattr(d, "id", "") == "staticmethod" for d in function.decorator_list)
    checked = parameters[1:] if method and not static else parameters
    missing = [p.arg for p in checked if p.annotation is None]
    return missing + (["return"] if function.returns is None and function.name != "__init__" else [])


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_annotated(module):
    missing = []
    for name, node in public(TREES[module]):
        if isinstance(node, ast.FunctionDef):
            missing += [f"{name}({gap})" for gap in bare(node, method="." in name)]
        else:
            start = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
            missing += [f"{name}.__init__({gap})" for item in start for gap in bare(item, method=True)]
    assert not missing


def test_importing_uses_neither_network_nor_disk(tmp_path):
    """All modules, in a fresh Python whose sockets refuse to connect, leave the working folder and the cache empty."""
    program = f"""
import importlib, socket
def refuse(*_):
    raise AssertionError("the network was used while importing")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
for module in {[m for m in MODULES if m != "__main__"]!r}:
    importlib.import_module("distilnb." + module)
"""
    for folder in ("work", "home", "cache"):
        (tmp_path / folder).mkdir()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]),
        "DISTILNB_HOME": str(tmp_path / "home"),
        "DISTILNB_CACHE": str(tmp_path / "cache"),
    }
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "work",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == ""
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_package_itself_imports_nothing():
    """`import distilnb` is immediate; torch comes with the module that needs it."""
    tree = ast.parse(inspect.getsource(distilnb))
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert distilnb.__version__


def test_the_readme_shows_every_module_in_its_layer():
    layout = (PACKAGE.parent / "README.md").read_text().split("## Layout")[1].split("```")[1]
    part = layout.split("distilnb/")[1].split("docs/")[0]
    shown, here = {}, ""
    for word in part.replace("·", " ").split():
        here = word if word in LAYERS else here
        shown.setdefault(here, set()).add(word)
    assert shown == {name: {name, *modules.split()} - {"__main__"} for name, modules in LAYERS.items()}
