"""HTML pages: tables, text and figures in one file."""

import html
import re
from collections.abc import Mapping
from typing import Any

STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; font-size: .9rem; margin: 1rem 0 2rem }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line) }
th { border-bottom-width: 2px } tbody tr:nth-child(odd) { background: var(--soft) }
figure { margin: 1.5rem 0; padding: .5rem; background: #fff; overflow-x: auto } svg { max-width: 100%; height: auto }
figcaption { color: #444; font-size: .85rem }
summary { cursor: pointer; padding: .6rem 0; border-bottom: 1px solid var(--line) } summary h2 { display: inline }
@media print { details::details-content { content-visibility: visible } }
@media (max-width: 50rem) {
  thead { position: absolute; left: -200vw; clip-path: inset(50%) }
  tr { display: block; border-bottom: 2px solid var(--line); padding: .4rem 0 }
  td { display: grid; grid-template-columns: 9rem 1fr; border: 0; padding: .15rem .4rem }
  td::before { content: attr(data-label); font-weight: 600 }
  td.none { display: none }
}"""


def html_table(rows: list[dict[str, Any]]) -> str:
    """Rows with equal keys as an HTML table; on a narrow screen each row becomes a card of labels and what is known."""
    head = "".join(f"<th scope=col>{html.escape(key)}</th>" for key in rows[0])
    body = "\n".join(f"<tr>{''.join(_cell(key, str(value)) for key, value in row.items())}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"


def _cell(key: str, value: str) -> str:
    empty = ' class="none"' if value in ("–", "") else ""
    return f'<td data-label="{html.escape(key)}"{empty}>{html.escape(value)}</td>'


def html_text(markdown: str) -> str:
    """Markdown as HTML, for the few elements that our texts use: paragraphs, lists, *stress*, **weight** and `code`."""
    blocks = []
    for block in re.sub(r"\n(?=- )", "\n\n", html.escape(markdown, quote=False)).split("\n\n"):
        block = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", block.strip())
        block = re.sub(r"`(.+?)`", r"<code>\1</code>", re.sub(r"\*(.+?)\*", r"<i>\1</i>", block))
        blocks.append(f"<li>{block[2:]}</li>" if block.startswith("- ") else f"<p>{block}</p>")
    return re.sub(r"((?:<li>.*?</li>\n?)+)", r"<ul>\n\1</ul>\n", "\n".join(blocks), flags=re.S)


def html_figure(svg: str, caption: str) -> str:
    """An <svg> element, described already (`figures.to_svg`), with its caption and with ids unique on the page."""
    key = re.sub(r"\W", "-", caption)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", svg)
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def page(title: str, sections: Mapping[str, str]) -> str:
    """A page in one file from sections (heading → HTML), without external scripts, fonts or pictures.

    The first section is open, the headings of the others are a table of contents that opens them.
    """
    body = "\n".join(
        f"<details{'' if place else ' open'}><summary><h2>{html.escape(name)}</h2></summary>\n{part}</details>"
        for place, (name, part) in enumerate(sections.items())
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )
