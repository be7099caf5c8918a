"""The commands that show: `run`, `figures`, `report`, `book`, `links` and `publish`."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from .. import paths, scales
from ..evidence.records import load_records
from ..lessons import book, generated, notebooks
from ..report import figures, model_card, tables
from ..report.scorecard import headlines, markdown, page, scorecard, tally
from .options import PublishOptions, parse


def share(argv: list[str]) -> None:
    """Write a model as a folder for the Hugging Face Hub, with a card filled in from its records, and upload it.

    With --dry-run nothing is uploaded: read README.md in the folder first. Uploading needs --repo and a token (`hf auth
    login`, or HF_TOKEN). A model without its record, or with an edited one, is refused.

    examples:
      distilnb publish --dry-run
      distilnb publish --model runs/distil-mini/model --repo somebody/distil-mini --dry-run
      distilnb publish --model runs/distil-mini/model --repo somebody/distil-mini --private
    """
    (what,) = parse(argv, "publish", share.__doc__, PublishOptions, model=str(paths.data("students", "toy")))
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


def run(argv: list[str]) -> None:
    """Execute the numbered notebooks in order, offline at toy scale unless --scale says otherwise.

    Executed copies go to runs/notebooks/, records to runs/, figures to figures/. The notebooks themselves are left
    alone unless --in-place is given, which is how they are made ready to be committed.

    examples:
      distilnb run
      distilnb run --only 02 03
      distilnb run --solutions       the solved exercises instead
    """
    parser = ArgumentParser(prog="distilnb run", description=run.__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--scale", help="toy, mini, small, base or paper (default: $DISTILNB_SCALE, else toy)")
    parser.add_argument("--only", nargs="+", metavar="NN", help="numbers of the notebooks to run")
    parser.add_argument("--in-place", action="store_true", help="write the outputs into notebooks/ itself")
    parser.add_argument("--solutions", action="store_true", help="run notebooks/solutions/ instead")
    options = parser.parse_args(argv)
    notebooks.execute(scales.get(options.scale).name, options.only, options.in_place, options.solutions)
    if not (options.in_place or options.solutions):
        figures.draw_all()
        print("\nResults: published records, and yours in runs/\n\n" + tables.summary(load_records()))
        print(notebooks.WHERE_NEXT)


def draw(argv: list[str]) -> None:
    """Redraw every figure from the paper's numbers and the records, into figures/ as svg, pdf and png."""
    ArgumentParser(prog="distilnb figures", description=draw.__doc__).parse_args(argv)
    for path in figures.draw_all():
        print(path)


def scores(argv: list[str]) -> None:
    """Set every cell of the paper's tables and every claim against the records: the scorecard.

    Writes scorecard.md and scorecard.html (one file, figures inside) from the published records and yours, and, in a
    clone, brings the README's tables and RESULTS.md up to date with the published ones.

    examples:
      distilnb report
      distilnb report --out somewhere
    """
    parser = ArgumentParser(
        prog="distilnb report", description=scores.__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder to write to (default: runs/report)")
    out = parser.parse_args(argv).out or paths.home() / "runs" / "report"
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


def make_book(argv: list[str]) -> None:
    """Render notebooks, lesson plans and results as pages to read without running anything: open book/index.html.

    examples:
      distilnb book
      distilnb book --out public
    """
    parser = ArgumentParser(
        prog="distilnb book", description=make_book.__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder to write to (default: book)")
    print(book.build(parser.parse_args(argv).out or paths.home() / "book") / "index.html")


def links(argv: list[str]) -> None:
    """Write address, badges, set-up cells, notebook table and results anew wherever they are generated."""
    parser = ArgumentParser(prog="distilnb links", description=links.__doc__)
    parser.add_argument("--repo", help="owner/name on GitHub (default: what pyproject.toml says)")
    for path in generated.write_links(parser.parse_args(argv).repo):
        print(path)
