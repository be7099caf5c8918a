"""The commands that show: `run`, `figures`, `report`, `book`, `links` and `publish`."""

from pathlib import Path

from .. import paths, scales
from ..evidence.records import load_records
from ..lessons import book, generated, notebooks
from ..report import figures, model_card, tables
from ..report.scorecard import headlines, markdown, page, scorecard, tally
from .options import BookOptions, LinkOptions, NotebookOptions, PublishOptions, ReportOptions
from .parsing import command


def _publish_defaults() -> dict[str, str]:
    return {"model": str(paths.data("students", "toy"))}


@command(_publish_defaults)
def share(what: PublishOptions) -> None:
    """Write a model as a folder for the Hugging Face Hub, with a card filled in from its records, and upload it.

    With --dry-run nothing is uploaded: read README.md in the folder first. Uploading needs --repo and a token (`hf auth
    login`, or HF_TOKEN). A model without its record, or with an edited one, is refused.

    examples:
      distilnb publish --dry-run
      distilnb publish --model runs/distil-mini/model --repo somebody/distil-mini --dry-run
      distilnb publish --model runs/distil-mini/model --repo somebody/distil-mini --private
    """
    if what.repo or not what.dry_run:
        model_card.check_repository(what.repo)
    if not what.dry_run:
        model_card.check_access()
    record, _ = model_card.read_model(Path(what.model))
    folder = Path(what.out or paths.home() / "runs" / "publish" / record["name"])
    model_card.prepare(
        Path(what.model), folder, load_records(), generated.repository(), what.repo, what.license, what.language
    )
    print(f"written: {folder} ({', '.join(sorted(path.name for path in folder.iterdir()))})")
    if what.dry_run:
        print(f"nothing was uploaded; read {folder / 'README.md'}, then run it without --dry-run")
    else:
        print(f"uploaded: {model_card.upload(folder, what.repo, what.private)}")


def run(what: NotebookOptions) -> None:
    """Execute the numbered notebooks in order, offline at toy scale unless --scale says otherwise.

    Executed copies go to runs/notebooks/, records to runs/, figures to figures/. The notebooks themselves are left
    alone unless --in-place is given, which is how they are made ready to be committed.

    examples:
      distilnb run
      distilnb run --only 02 03
      distilnb run --solutions       the solved exercises instead
    """
    notebooks.execute(scales.get(what.scale).name, what.only or None, what.in_place, what.solutions)
    if not (what.in_place or what.solutions):
        figures.draw_all()
        print("\nResults: published records, and yours in runs/\n\n" + tables.summary(load_records()))
        print(notebooks.WHERE_NEXT)


def draw() -> None:
    """Redraw every figure from the paper's numbers and the records, into figures/ as svg, pdf and png."""
    for path in figures.draw_all():
        print(path)


def scores(what: ReportOptions) -> None:
    """Set every cell of the paper's tables and every claim against the records: the scorecard.

    Writes scorecard.md and scorecard.html (one file, figures inside) from the published records and yours, and, in a
    clone, brings the README's tables and RESULTS.md up to date with the published ones.

    examples:
      distilnb report
      distilnb report --out somewhere
    """
    out = Path(what.out or paths.home() / "runs" / "report")
    records = load_records()
    card = scorecard(records)
    drawn = {name: figures.to_svg(figure) for name, figure in figures.drawings(records).items()}
    out.mkdir(parents=True, exist_ok=True)
    (out / "scorecard.md").write_text(markdown(card))
    (out / "scorecard.html").write_text(page(card, tables.tables(records), drawn))
    print(f"{tables.table(headlines(card))}\n\n{tally(card)}")
    for note in card.notes:
        print(f"- {note}")
    changed = generated.write_links() if (paths.PACKAGE.parent / "notebooks").is_dir() else []
    for path in (out / "scorecard.md", out / "scorecard.html", *changed):
        print(path)


def make_book(what: BookOptions) -> None:
    """Render notebooks, lesson plans and results as pages to read without running anything: open book/index.html.

    examples:
      distilnb book
      distilnb book --out public
    """
    print(book.build(Path(what.out or paths.home() / "book")) / "index.html")


def links(what: LinkOptions) -> None:
    """Write address, badges, set-up cells, notebook table and results anew wherever they are generated."""
    for path in generated.write_links(what.repo or None):
        print(path)
