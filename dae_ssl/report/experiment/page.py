"""Write the page of an experiment, or of several: figures, tables and claims, compared with the published numbers.

    STORE/experiments/NAME/report.html                       the page, which needs no other file
                           PART-EXHIBIT.svg .png .csv         a figure, and the numbers in it
                           PART-EXHIBIT.html .md .tex .csv    a table
                           PART-claims.html .md .tex .csv
                           summary.html .md .tex .csv

The page can be drawn at any time: it names and marks what has not been measured as missing.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from dae_ssl import config
from dae_ssl.compute import cells
from dae_ssl.config import Cell
from dae_ssl.experiments import Experiment, Section
from dae_ssl.experiments.form import Exhibit, Numbers
from dae_ssl.files import explained, write_bytes
from dae_ssl.report.beside import Beside
from dae_ssl.report.cell.page import write_cell_page
from dae_ssl.report.experiment import tables
from dae_ssl.report.experiment.exhibits import draw
from dae_ssl.report.experiment.lead import lead
from dae_ssl.report.experiment.parts import Part, part
from dae_ssl.report.findings import Findings, Reader, reader
from dae_ssl.report.markup import document, missing, tag
from dae_ssl.report.standing import standing
from dae_ssl.store import RECORD, REPORT, Store

SHOWN_ABSENT = 6
"""The most missing rows that are named below a figure; the others are counted."""


def write_experiment_page(
    experiment: Experiment,
    sections: Sequence[Section],
    floors: Sequence[Cell],
    store: Store,
    *,
    variant: str = "",
    tell: Callable[[str], None] = lambda _line: None,
) -> Path:
    """Write the page of an experiment and its files, and return the page's path.

    `variant` names the changes to the experiment's cells; each variant has a separate page. Parts of a reduced study
    are not compared with the published numbers. If the experiment has no parts, every finished cell gets a page too.
    Raises StoreError if a file cannot be written.
    """
    page = store.page(f"{experiment.name}-{variant}" if variant else experiment.name)
    with explained(page.parent):
        page.parent.mkdir(parents=True, exist_ok=True)
    if [section.name for section in sections] == [experiment.name]:
        for cell in (*sections[0].every(), *floors):
            _draw_cell(cell, store, tell)
    read, files = reader(store), Beside(page.parent)
    parts = [part(section, floors, read) for section in sections]
    far = standing([read(cell) for section in sections for cell in (*section.every(), *floors)])
    content = document(
        f"Experiment {experiment.name}{f' ({variant})' if variant else ''}",
        tag("p", "Report of experiment ", tag("code", experiment.name), class_="note"),
        tag("h1", experiment.question.splitlines()[0]),
        *lead(variant, sections, far),
        *_summary(parts, files, read),
        *(element for shown in parts for element in _part(shown, files, titled=len(parts) > 1)),
    )
    write_bytes(page, content)
    return page


def _draw_cell(cell: Cell, store: Store, tell: Callable[[str], None]) -> None:
    """Write the page of a finished cell, unless its page is newer than all of its nodes."""
    findings = Findings("", cell, store)
    done = [findings.node(stage).product(RECORD).stat().st_mtime for stage in findings.records]
    page = store.cell(config.cell_key(cell)).product(REPORT)
    if not findings.unfinished and (not page.exists() or page.stat().st_mtime < max(done)):
        tell(f"drawing {config.title(cell)}")
        cells.describe(cell, store)
        write_cell_page(cell, store, cells.floors(cell))


# ---------------------------------------------------------------------------------- the summary


def _summary(parts: Sequence[Part], files: Beside, read: Reader) -> Iterator[Element]:
    """Yield the table of the progress and results of each part, and links to the parts if there are several."""
    yield from files.table("summary", tables.summary(parts, read))
    if len(parts) > 1:
        links = [tag("a", shown.section.name, href=f"#{shown.section.name}") for shown in parts]
        yield tag("p", "Go to ", *(content for link in links for content in (link, " ")))


# ---------------------------------------------------------------------------------- one part


def _part(shown: Part, files: Beside, *, titled: bool) -> Iterator[Element]:
    section = shown.section
    if titled:
        yield tag("h2", section.question.splitlines()[0], id=section.name)
    for paragraph in section.question.split("\n\n")[1:]:
        yield tag("p", paragraph)
    for exhibit in section.exhibits:
        yield from _exhibit(exhibit, shown, files)
    if shown.tests:
        title = "Claims and verdicts"
        yield tag("h3", title)
        yield from files.table(
            f"{section.name}-claims", tables.claims(shown.tests, title=f"{section.name}: {title}"),
            "Differences are paired over the same test images and seeds; with one seed they are paired over images "
            "only, and p is that of McNemar's test. p is two-sided for the hypothesis that the true value is 0, and "
            "not corrected for the number of claims. A claim holds if the whole interval lies in the claimed range. ",
        )  # fmt: skip


def _exhibit(exhibit: Exhibit, shown: Part, files: Beside) -> Iterator[Element]:
    name = f"{shown.section.name}-{exhibit.name}"
    yield tag("h3", exhibit.title)
    if isinstance(exhibit, Numbers):
        yield from files.table(
            name, tables.rows(exhibit, shown, folder=files.folder), f"{exhibit.note} " if exhibit.note else "",
            "Means over seeds, with 95 % intervals in brackets: Student's over seeds, or Wilson's over test images if "
            "there is only one seed. Floors are evaluated exactly as the rows are. ",
        )  # fmt: skip
        return
    drawing = draw(exhibit, shown.section, shown.subjects)
    absent = _absent(drawing.absent)
    if drawing.figure is None:
        yield tag("p", missing(f"There is nothing to draw yet. {absent}"))
        return
    caption = " ".join(sentence for sentence in (exhibit.note, *drawing.notes, absent) if sentence)
    yield from files.drawing(name, drawing, alt=exhibit.title, caption=caption)


def _absent(labels: Sequence[str]) -> str:
    if not labels:
        return ""
    more = f" and {len(labels) - SHOWN_ABSENT} more" if len(labels) > SHOWN_ABSENT else ""
    return f"Not yet measured: {'; '.join(labels[:SHOWN_ABSENT])}{more}."
