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
ROOMS = "machine evidence models text distillation tasks studies report lessons cli".split()  # may import those before
OPEN = {"scales", "paths", "settings"}  # files beside the rooms, which all may ask
FILES = {  # "toyworld" is the sub-package's __init__, "toyworld.words" one of its modules
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}
MODULES = sorted(FILES)
TREES = {name: ast.parse(path.read_text(), path.name) for name, path in FILES.items()}


def imported(tree: ast.Module, folder: str = "") -> set[str]:
    """The modules of ours that a module in `folder` (a sub-package) imports anywhere, also inside functions."""
    ours, found = {*MODULES}, set()
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
    return found & ours


def arrows(module: str) -> set[str]:
    """What a module of the package imports."""
    package = FILES[module].name == "__init__.py"
    return imported(TREES[module], module if package else module.rpartition(".")[0])


def room(module: str) -> str:
    """The folder a module lies in, or the module itself where it lies beside the rooms."""
    return module.split(".")[0]


def test_every_module_lies_in_a_room():
    assert {room(module) for module in MODULES} == {*ROOMS, *OPEN, "__main__"}
    magnets = {"utils", "util", "common", "config", "helpers", "misc", "core", "base"}
    assert not {part for module in MODULES for part in module.split(".")} & magnets


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) in ROOMS])
def test_a_room_imports_only_rooms_before_it(module):
    """The order of ROOMS; text does not know the models before it."""
    own = room(module)
    before = {*ROOMS[: ROOMS.index(own) + 1]} - ({"models"} if own == "text" else set())
    assert {room(other) for other in arrows(module)} - OPEN <= before


@pytest.mark.parametrize("module", sorted(OPEN))
def test_what_all_may_ask_asks_no_room(module):
    assert {room(other) for other in arrows(module)} <= OPEN


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


@pytest.mark.slow
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


@pytest.mark.parametrize("module", MODULES)
def test_functions_fit_on_a_screen(module):
    """50 lines at most, docstring included, and eight parameters besides options that are named."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 50, node.name
            assert len([*node.args.posonlyargs, *node.args.args]) <= 9, node.name  # with self


def named(tree: ast.Module) -> set[str]:
    """The names that a module gives to functions, classes, variables and attributes."""
    nodes = [*ast.walk(tree)]
    given = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    stored = [node for node in nodes if isinstance(getattr(node, "ctx", None), ast.Store)]
    return given | {getattr(node, "id", getattr(node, "attr", "")) for node in stored}


PRIVATE = {name for tree in TREES.values() for name in named(tree) if name.startswith("_") and not name.endswith("_")}
TESTS = sorted(Path(__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_no_test_uses_a_private_name_of_the_package(path):
    """As an attribute, or as the string that a name is replaced by."""
    nodes = [*ast.walk(tree := ast.parse(path.read_text()))]
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    calls = [node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "setattr"]
    used |= {argument.value for call in calls for argument in call.args if isinstance(argument, ast.Constant)}
    assert sorted(used & PRIVATE - named(tree)) == []


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_no_test_holds_a_sentence_of_an_error(path):
    """It matches a noun at most, with its number or value, so that a sentence can be mended without its test."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    held = [word.value for call in calls for word in call.keywords if word.arg == "match"]
    assert [text.value for text in held if isinstance(text, ast.Constant) and len(text.value.split()) > 3] == []
