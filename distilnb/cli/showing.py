"""The commands that show: `run`, `figures`, `report`, `links`, `notebooks` and `publish`."""

from pathlib import Path

from .. import paths, scales
from ..evidence.devices import read_device
from ..evidence.records import load_record, load_records, save_record
from ..lessons import generated, notebooks
from ..report import figures, model_card, tables
from ..report.scorecard import headlines, markdown, page, scorecard, tally
from .options import LinkOptions, NotebookOptions, PublishOptions, ReportOptions, UnpackOptions
from .parsing import command


@command(lambda: {"model": str(paths.data("students", "toy"))})
def share(what: PublishOptions) -> None:
    """Write a model as a folder for the Hugging Face Hub, with a card filled in from its records, and upload it.

    With --dry-run nothing is uploaded: read README.md in the folder first. Uploading needs --repo and a token (`hf auth
    login`, or HF_TOKEN). A model without its record, or with an edited one, is refused.

    examples:
      distilnb publish --dry-run
      distilnb publish --model runs/distil-mini/model --repo somebody/distil-mini --dry-run
      distilnb publish --model runs/distil-mini/model --repo somebody/distil-mini --private
    """
    model_card.check_license_and_language(what.license, what.language)
    if what.repo or not what.dry_run:
        model_card.check_repository(what.repo)
    if not what.dry_run:
        model_card.check_access()
    record, _ = model_card.read_model(Path(what.model))
    folder = Path(what.out or paths.home() / "runs" / "publish" / record["name"])
    model_card.prepare(
        Path(what.model), folder, load_records(), generated.repository(), what.repo, what.license, what.language
    )
    print(f"model: {what.model} ({record['name']}, {record['tokens']:,} tokens)")
    newer = paths.home() / "runs" / record["name"] / "model"
    if newer.is_dir() and newer.resolve() != Path(what.model).resolve():
        print(f"a run of your own is in {newer}; --model {newer} publishes it instead")
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
    executed = notebooks.execute(scales.get(what.scale).name, what.only or None, what.in_place, what.solutions)
    if not (what.in_place or what.solutions):
        if not what.only:
            figures.draw_all()
        print("\nexecuted: " + "\n          ".join(map(str, executed)))
        if yours := load_records(paths.home() / "runs"):
            print("\nYour runs (published ones: RESULTS.md)\n\n" + tables.summary(yours, short=True))
        print(notebooks.WHERE_NEXT)


def unpack(what: UnpackOptions) -> None:
    """Copy the notebooks and their solutions to a folder, to work in them: `jupyter lab FOLDER` opens it.

    examples:
      distilnb notebooks --to lessons
    """
    print(f"{len(notebooks.unpack(Path(what.to)))} notebooks in {what.to}: jupyter lab {what.to}")


def draw() -> None:
    """Redraw every figure from the paper's numbers and the records, into figures/ as svg, pdf and png."""
    written = figures.draw_all()
    names, formats = {path.stem for path in written}, sorted({path.suffix[1:] for path in written})
    print(f"{len(names)} figures in {written[0].parent} ({', '.join(formats)})")


def scores(what: ReportOptions) -> None:
    """Set every cell of the paper's tables and every claim against the records: the scorecard.

    Writes scorecard.md and scorecard.html (one file, figures inside) from the published records and yours, and, in a
    clone, brings the README's tables and RESULTS.md up to date with the published ones.

    examples:
      distilnb report
      distilnb report --out somewhere
      distilnb report --add my-device.json       what the page of `distilnb demo` found on your phone
    """
    out = Path(what.out or paths.home() / "runs" / "report")
    out.mkdir(parents=True, exist_ok=True)
    if what.add:
        added = save_record(read_device(Path(what.add)))
        print(f"{tables.table(tables.device_rows([load_record(added)]))}\n\nrecord, yours: {added}\n")
    records = load_records()
    card = scorecard(records)
    drawn = {name: figures.to_svg(figure) for name, figure in figures.drawings(records).items()}
    (out / "scorecard.md").write_text(markdown(card))
    (out / "scorecard.html").write_text(page(card, tables.tables(records), drawn))
    print(f"{tables.table(headlines(card))}\n\n{tally(card)}")
    if card.notes:
        print(f"{len(card.notes)} notes on the records (uneven seeds, mixed versions) are at its end")
    print(f"written: {out / 'scorecard.md'}, {out / 'scorecard.html'}")
    if (paths.PACKAGE.parent / "notebooks").is_dir():
        _tell_changed(generated.write_links())


def _tell_changed(changed: list[Path]) -> None:
    """Print which files of the clone were brought up to date."""
    names = [str(path.relative_to(paths.PACKAGE.parent)) for path in changed]
    print(f"brought up to date: {', '.join(names)}" if names else "README, RESULTS.md and notebooks were up to date")


def links(what: LinkOptions) -> None:
    """Write the address, badges, set-up cells and tables anew wherever they are generated.

    Until the address is known, every generated link goes to the placeholder OWNER/distilnb; this mends all at once.

    examples:
      distilnb links --repo owner/name
    """
    repo = what.repo or generated.repository()
    _tell_changed(generated.write_links(repo))
    if repo == generated.PLACEHOLDER:
        print(f"links go to the placeholder {repo}; make links REPO=owner/name mends them all")
