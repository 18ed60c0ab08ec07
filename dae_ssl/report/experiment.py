"""The page of an experiment: its rows beside the published numbers and the floors, each cell a link to its own page."""

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from dae_ssl import config
from dae_ssl.batch import cells
from dae_ssl.config import Cell
from dae_ssl.experiments import Experiment
from dae_ssl.experiments.row import Row
from dae_ssl.report.findings import Findings
from dae_ssl.report.markup import Content, document, missing, row, table, tag
from dae_ssl.report.page import write_cell_page
from dae_ssl.store import REPORT, Store, write_bytes

FIGURES = {
    "test_accuracy": "probe",
    "logistic_test_accuracy": "L-BFGS",
    "kmeans_matched_accuracy": "k-means, matched",
    "kmeans_standardised_matched_accuracy": "k-means, standardised",
}
"""Test figures, all shares that are shown in percent."""


def write_experiment_page(
    experiment: Experiment,
    rows: Mapping[Row, Sequence[Cell]],
    floors: Sequence[Cell],
    place: Store,
    tell: Callable[[str], None] = lambda _line: None,
) -> Path:
    """Write the page of an experiment, and of each cell that is done and has none, and return the former's path.

    It can be written at any time: what is not there yet is named as missing. Raises StoreError where it cannot be.
    """
    path = place.page(experiment.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    labelled = {row_.label: list(of_row) for row_, of_row in rows.items()}
    published = {row_.label: row_.published for row_ in rows}
    for floor in floors:
        labelled.setdefault(FLOORS[floor.method.name], []).append(floor)
    lines, unfinished = [], 0
    for label, of_row in labelled.items():
        found = [Findings(label, cell, place) for cell in of_row]
        unfinished += sum(bool(one.unfinished) for one in found)
        for one in found:
            _draw(one, place, tell)
        lines.append((label, published.get(label), found))
    every = sum(map(len, labelled.values()))
    state = tag("p", missing(f"{unfinished} of {every} cells are not finished.")) if unfinished else None
    known = any(number is not None for number in published.values())
    head = ["", *(["published"] if known else []), *FIGURES.values(), "cells"]
    page = document(
        f"Experiment {experiment.name}",
        tag("p", "Report of experiment ", tag("code", experiment.name), class_="note"),
        tag("h1", experiment.question.splitlines()[0]),
        *([state] if state is not None else []),
        table(head, [_line(label, number, found, path, known=known) for label, number, found in lines]),
        tag("p", "Top-1 on the test split in percent: the mean over seeds, and each seed's in the order of its cells. "
                 "Floors are evaluated exactly as the rows are.", class_="note"),
    )  # fmt: skip
    write_bytes(path, page)
    return path


FLOORS = {"random": "floor: random encoder", "pixels": "floor: raw pixels"}


def _draw(found: Findings, place: Store, tell: Callable[[str], None]) -> None:
    """Write the page of a finished cell, unless it is newer than all that it shows."""
    folder = place.cell(config.cell_key(found.cell))
    done = [found.node(stage).product("record.json").stat().st_mtime for stage in found.records]
    page = folder.product(REPORT)
    if not found.unfinished and (not page.exists() or page.stat().st_mtime < max(done)):
        tell(f"drawing {config.title(found.cell)}")
        cells.describe(found.cell, place)
        write_cell_page(found.cell, place, cells.floors(found.cell))


def _line(label: str, published: float | None, found: Sequence[Findings], path: Path, *, known: bool) -> Element:
    links: list[Content] = []
    for one in found:
        page = one.place.cell(config.cell_key(one.cell)).product(REPORT)
        text = f"seed {one.cell.seed}"
        links.append(tag("a", text, href=os.path.relpath(page, path.parent)) if page.exists() else missing(text))
        links.append(" ")
    figures = [_figure([one.figures[name] for one in found if name in one.figures]) for name in FIGURES]
    beside = ["" if published is None else f"{published:.1f}"] if known else []
    return row(label, *beside, *figures, tag("span", *links))


def _figure(values: Sequence[float]) -> Content:
    if not values:
        return missing("missing")
    mean = f"{100 * statistics.fmean(values):.2f}"
    each = ", ".join(f"{100 * value:.2f}" for value in values)
    return tag("span", mean, tag("span", each, class_="small")) if len(values) > 1 else mean
