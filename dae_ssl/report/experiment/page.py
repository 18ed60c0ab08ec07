"""The page of an experiment, or of several: figures, tables, claims, each beside what was published, and as files.

    STORE/experiments/NAME/report.html                       the page, which needs nothing beside it
                           PART-EXHIBIT.svg .png .csv         a figure, and the numbers in it
                           PART-EXHIBIT.html .md .tex .csv    a table
                           PART-claims.html .md .tex .csv
                           summary.html .md .tex .csv

It can be drawn at any time: what was not measured is named, and drawn, as missing.
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
"""How many missing rows are named below a figure; their number is given in any case."""


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

    `variant` says what tells its cells from the experiment's own, whose page theirs never mixes with. Parts that are
    reduced are not compared with what was published. If the experiment is not made of others, every finished cell gets
    its own page too. Raises StoreError where something cannot be written.
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
    """Write the page of a finished cell, unless it is newer than all that it shows."""
    findings = Findings("", cell, store)
    done = [findings.node(stage).product(RECORD).stat().st_mtime for stage in findings.records]
    page = store.cell(config.cell_key(cell)).product(REPORT)
    if not findings.unfinished and (not page.exists() or page.stat().st_mtime < max(done)):
        tell(f"drawing {config.title(cell)}")
        cells.describe(cell, store)
        write_cell_page(cell, store, cells.floors(cell))


# ---------------------------------------------------------------------------------- what stands above all


def _summary(parts: Sequence[Part], files: Beside, read: Reader) -> Iterator[Element]:
    """Yield the table of how far each part is, and what came of it, with links to the parts if there are several."""
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
        title = "What is claimed, and whether it holds"
        yield tag("h3", title)
        yield from files.table(
            f"{section.name}-claims", tables.claims(shown.tests, title=f"{section.name}: {title}"),
            "Differences are paired over the same test images and seeds; with one seed over the images "
            "alone, p by McNemar's test. p is two-sided, that the true value is 0, and not corrected for "
            "the number of claims. A claim holds if the whole interval lies where it says. ",
        )  # fmt: skip


def _exhibit(exhibit: Exhibit, shown: Part, files: Beside) -> Iterator[Element]:
    name = f"{shown.section.name}-{exhibit.name}"
    yield tag("h3", exhibit.title)
    if isinstance(exhibit, Numbers):
        yield from files.table(
            name, tables.rows(exhibit, shown, folder=files.folder), f"{exhibit.note} " if exhibit.note else "",
            "Means over seeds; in brackets 95 % intervals, Student's over seeds, or Wilson's over test images where "
            "there is one seed. Floors are evaluated exactly as the rows are. ",
        )  # fmt: skip
        return
    drawing = draw(exhibit, shown.section, shown.subjects)
    absent = _absent(drawing.absent)
    if drawing.figure is None:
        yield tag("p", missing(f"Nothing to draw yet. {absent}"))
        return
    caption = " ".join(sentence for sentence in (exhibit.note, *drawing.notes, absent) if sentence)
    yield from files.drawing(name, drawing, alt=exhibit.title, caption=caption)


def _absent(labels: Sequence[str]) -> str:
    if not labels:
        return ""
    more = f" and {len(labels) - SHOWN_ABSENT} more" if len(labels) > SHOWN_ABSENT else ""
    return f"Not yet measured: {'; '.join(labels[:SHOWN_ABSENT])}{more}."
