"""The page of an experiment, or of several: figures, tables, claims, each beside what was published, and as files.

    STORE/experiments/NAME/report.html                       the page, which needs nothing beside it
                           PART-EXHIBIT.svg .png .csv         a figure, and the numbers in it
                           PART-EXHIBIT.html .md .csv         a table
                           PART-claims.html .md .csv
                           summary.html .md .csv

It can be drawn at any time: what was not measured is named, and drawn, as missing.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from dae_ssl import config
from dae_ssl.compute import cells
from dae_ssl.config import Cell
from dae_ssl.experiments import Experiment, Section
from dae_ssl.experiments.form import Exhibit, Numbers
from dae_ssl.files import explained, write_bytes
from dae_ssl.report import verdicts
from dae_ssl.report.comparison import claims, numbers
from dae_ssl.report.drawing import WIDTH_PIXELS, png, svg
from dae_ssl.report.exhibits import draw
from dae_ssl.report.findings import Findings
from dae_ssl.report.lead import lead
from dae_ssl.report.markup import Content, document, missing, picture, tag
from dae_ssl.report.page import write_cell_page
from dae_ssl.report.subjects import Reader, Subject, reader, subjects
from dae_ssl.report.tables import Entry, Record, Table, comma_separated
from dae_ssl.report.verdicts import Tested, tested
from dae_ssl.store import REPORT, Store

SHOWN_ABSENT = 6
"""How many missing rows are named below a figure; their number is told in any case."""


def write_experiment_page(
    experiment: Experiment,
    sections: Sequence[Section],
    floors: Sequence[Cell],
    place: Store,
    *,
    variant: str = "",
    tell: Callable[[str], None] = lambda _line: None,
) -> Path:
    """Write the page of an experiment and its files, and return the page's path.

    `variant` says what tells its cells from the experiment's own, whose page theirs never mixes with. Parts that are
    reduced are not compared with what was published. Of an experiment with no parts every finished cell gets its own
    page too. Raises StoreError where something cannot be written.
    """
    folder = place.page(f"{experiment.name}-{variant}" if variant else experiment.name).parent
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not experiment.parts:
        for section in sections:
            for cell in (*section.every(), *floors):
                _draw_cell(cell, place, tell)
    read = reader(place)
    files, parts, lines = _Files(folder), list[Content](), list[tuple[Section, list[Subject], list[Tested]]]()
    for section in sections:
        beside = _floors(section)
        own = [floor for floor in floors if config.cell_key(floor) in beside]
        found = subjects(section, own, read)
        tests = tested(section.claims, {one.key: one for one in found})
        lines.append((section, found, tests))
        parts += _section(section, found, tests, files, several=len(sections) > 1)
    page = document(
        f"Experiment {experiment.name}{f' ({variant})' if variant else ''}",
        tag("p", "Report of experiment ", tag("code", experiment.name), class_="note"),
        tag("h1", experiment.question.splitlines()[0]),
        *lead(variant, sections),
        *_summary(lines, files, read),
        *parts,
    )
    path = folder / REPORT
    write_bytes(path, page)
    return path


class _Files:
    """Writes figures and tables beside the page, each whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def table(self, name: str, table: Table) -> Element:
        """Write a table in its three forms, and return links to them."""
        write_bytes(self.folder / f"{name}.html", table.html())
        write_bytes(self.folder / f"{name}.md", table.markdown().encode())
        write_bytes(self.folder / f"{name}.csv", comma_separated(table.records).encode())
        return self._links(name, "html", "md", "csv")

    def figure(self, name: str, figure: object, records: Sequence[Record]) -> tuple[bytes, Element]:
        """Write a figure in both forms and its numbers; return it as SVG, and links to them."""
        vectors = svg(figure)
        write_bytes(self.folder / f"{name}.svg", vectors)
        write_bytes(self.folder / f"{name}.png", png(figure))
        if records:
            write_bytes(self.folder / f"{name}.csv", comma_separated(records).encode())
        return vectors, self._links(name, "svg", "png", *(["csv"] if records else []))

    @staticmethod
    def _links(name: str, *kinds: str) -> Element:
        links = [part for kind in kinds for part in (" ", tag("a", kind.upper(), href=f"{name}.{kind}"))]
        return tag("span", f"{name}:", *links)


def _floors(section: Section) -> set[str]:
    return {config.cell_key(floor) for cell in section.every() for floor in cells.floors(cell).values()}


def _draw_cell(cell: Cell, place: Store, tell: Callable[[str], None]) -> None:
    """Write the page of a finished cell, unless it is newer than all that it shows."""
    found = Findings("", cell, place)
    folder = place.cell(config.cell_key(cell))
    done = [found.node(stage).product("record.json").stat().st_mtime for stage in found.records]
    page = folder.product(REPORT)
    if not found.unfinished and (not page.exists() or page.stat().st_mtime < max(done)):
        tell(f"drawing {config.title(cell)}")
        cells.describe(cell, place)
        write_cell_page(cell, place, cells.floors(cell))


# ---------------------------------------------------------------------------------- what stands above all


def _summary(
    lines: Sequence[tuple[Section, list[Subject], list[Tested]]], files: _Files, read: Reader
) -> Iterator[Element]:
    """Yield the table of how far each part is, and what came of it."""
    head = ["", "cells done", "published numbers", "claims"]
    rows, records = [], list[Record]()
    for section, found, tests in lines:
        every = section.every()
        done = sum(not read(cell).unfinished for cell in every)
        numbers_ = Counter(
            verdicts.of_number(one.published, one.estimate("test_accuracy"), reduced=section.reduced,
                               chosen=one.settled)
            for one in found if one.published is not None
        )  # fmt: skip
        said = Counter(one.verdict for one in tests)
        rows.append((section.name, [Entry(text=f"{done} of {len(every)}"), Entry(text=_told(numbers_)),
                                    Entry(text=_told(said))]))  # fmt: skip
        records += [{"part": section.name, "what": "cells done", "count": done},
                    {"part": section.name, "what": "cells", "count": len(every)}]  # fmt: skip
        records += [{"part": section.name, "what": what, "verdict": verdict, "count": count}
                    for what, counts in (("published number", numbers_), ("claim", said))
                    for verdict, count in counts.items()]  # fmt: skip
    table = Table(title="How far it is", head=head, rows=rows, records=records)
    yield table.element()
    yield tag("p", files.table("summary", table), class_="note")
    if len(lines) > 1:
        links = [tag("a", section.name, href=f"#{section.name}") for section, _, _ in lines]
        yield tag("p", "Go to ", *(part for link in links for part in (link, " ")))


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {words}" for words, count in counts.most_common()) or "–"


# ---------------------------------------------------------------------------------- one part


def _section(
    section: Section, found: Sequence[Subject], tests: Sequence[Tested], files: _Files, *, several: bool
) -> Iterator[Element]:
    if several:
        yield tag("h2", section.question.splitlines()[0], id=section.name)
    for paragraph in section.question.split("\n\n")[1:]:
        yield tag("p", paragraph)
    for exhibit in section.exhibits:
        yield from _exhibit(exhibit, section, found, files)
    if tests:
        title = "What is claimed, and whether it holds"
        table = claims(tests, title=f"{section.name}: {title}")
        yield tag("h3", title)
        yield table.element()
        yield tag("p", "Differences are paired over the same test images and seeds; with one seed over the images "
                       "alone, p by McNemar's test. p is two-sided, that the true value is 0, and not corrected for "
                       "the number of claims. A claim holds if the whole interval lies where it says. ",
                  files.table(f"{section.name}-claims", table), class_="note")  # fmt: skip


def _exhibit(exhibit: Exhibit, section: Section, found: Sequence[Subject], files: _Files) -> Iterator[Element]:
    name = f"{section.name}-{exhibit.name}"
    yield tag("h3", exhibit.title)
    if isinstance(exhibit, Numbers):
        table = numbers(exhibit, found, reduced=section.reduced, folder=files.folder)
        yield table.element()
        yield tag("p", f"{exhibit.note} " if exhibit.note else "", "Means over seeds; in brackets 95 % intervals, "
                  "Student's over seeds, or Wilson's over test images where there is one seed. Floors are evaluated "
                  "exactly as the rows are. ", files.table(name, table), class_="note")  # fmt: skip
        return
    drawing = draw(exhibit, section, found)
    absent = _absent(drawing.absent)
    if drawing.figure is None:
        yield tag("p", missing(f"Nothing to draw yet. {absent}"))
        return
    vectors, links = files.figure(name, drawing.figure, drawing.records)
    caption = " ".join(part for part in (exhibit.note, *drawing.notes, absent) if part)
    yield picture(vectors, kind="svg+xml", alt=exhibit.title, caption=caption, width=WIDTH_PIXELS)
    yield tag("p", links, class_="note")


def _absent(labels: Sequence[str]) -> str:
    if not labels:
        return ""
    more = f" and {len(labels) - SHOWN_ABSENT} more" if len(labels) > SHOWN_ABSENT else ""
    return f"Not yet measured: {'; '.join(labels[:SHOWN_ABSENT])}{more}."
