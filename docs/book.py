"""What the book adds to Sphinx: the contents, formulas as MathML, badges in words. Nothing on a page is fetched.

Pages lie as their sources do in the repository, so that links between them stay as they are.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes

from distilnb.lessons.slides import mathml, unbroken

ROOT = Path(__file__).parent.parent
PARTS = {
    "About": ["RESULTS.md", "RELIABILITY.md", "docs/*.md", "CONTRIBUTING.md", "CHANGELOG.md"],
    "Notebooks": ["notebooks/*.ipynb"],
    "Solutions": ["notebooks/solutions/*.ipynb"],
}


def slug(title: str) -> str:
    """A heading's anchor as Jupyter makes it, spaces as hyphens, so that links into notebooks hold in both places."""
    return title.strip().replace(" ", "-").replace("%", "%25")


def prepare(app: Any, name: str, source: list[str]) -> None:
    """Turn badges, whose pictures lie on other servers, into words; keep numbers with their intervals on one line; give
    the first page the book's contents."""
    source[0] = re.sub(r"!\[([^\]]*)\]\(https?://[^)]+\)", r"\1", source[0])
    if name.startswith("notebooks/"):
        source[0] = unbroken(describe_pictures(source[0]))
    if name == app.config.root_doc:
        for part, patterns in PARTS.items():
            pages = [path.relative_to(ROOT).with_suffix("") for p in patterns for path in sorted(ROOT.glob(p))]
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {part}\n\n" + "\n".join(map(str, pages)) + "\n```\n"


def describe_pictures(text: str) -> str:
    """A notebook's text whose pictures have the description that their output carries, where MyST-NB looks for it."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        pictures = [output.get("metadata", {}).get("image/png", {}) for output in cell.get("outputs", [])]
        if told := " ".join(picture["alt"] for picture in pictures if picture.get("alt")):
            cell["metadata"].setdefault("mystnb", {})["image"] = {"alt": told}
    return json.dumps(notebook)


def inline_formula(translator: Any, node: nodes.math) -> None:
    """Write a formula within a line as MathML."""
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def block_formula(translator: Any, node: nodes.math_block) -> None:
    """Write a formula on a line of its own as MathML."""
    translator.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def open_with_readme(app: Any, exception: Exception | None) -> None:
    """Let the README open the book."""
    if exception is None and app.builder.name == "html":
        shutil.copyfile(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")


def setup(app: Any) -> dict[str, bool]:
    """Connect the above with Sphinx."""
    app.connect("source-read", prepare)
    app.connect("build-finished", open_with_readme)
    app.add_html_math_renderer("mathml", (inline_formula, None), (block_formula, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
