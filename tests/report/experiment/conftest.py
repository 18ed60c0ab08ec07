"""A store with some of the study's rows, and what is asked of it: sections, rows by key, pages, lines of CSV files."""

import csv
from pathlib import Path
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import experiments
from dae_ssl.compute import cells
from dae_ssl.config import Cell
from dae_ssl.experiments import Section
from dae_ssl.report.experiment.page import write_experiment_page
from dae_ssl.report.experiment.subjects import Subject, subjects
from dae_ssl.report.findings import reader
from dae_ssl.store import Store
from tests.forged import forge

SEEDS = (0, 1)
RIGHT = {"DAE, no embedding loss": 0.9, "AE, no embedding loss": 0.6, "DAE, L2, α = 1": 0.85, "SimCLR": 0.7}
"""About which share of test images forged rows get right, by their labels in `methods`."""


def sections(name: str) -> tuple[Section, ...]:
    return experiments.load(name).sections(SEEDS)


def floors(shown: tuple[Section, ...]) -> list[Cell]:
    return experiments.distinct(
        floor for section in shown for cell in section.every() for floor in cells.floors(cell).values()
    )


def by_label(store: Store, name: str) -> dict[str, Subject]:
    """Return the rows and floors of an experiment by what people call them."""
    (section,) = sections(name)
    return {subject.row.label: subject for subject in subjects(section, floors((section,)), reader(store))}


def by_key(shown: dict[str, Subject]) -> dict[str, Subject]:
    return {subject.row.key: subject for subject in shown.values()}


def drawn(store: Store, name: str, **more: Any) -> Path:
    shown = sections(name)
    return write_experiment_page(experiments.load(name), shown, floors(shown), store, **more)


def records(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store in which some rows of the study are there for two seeds, others for one, and most not at all."""
    filled = Store(tmp_path_factory.mktemp("study") / "store")
    number = 0
    for section in sections("methods"):
        for row, of_row in section.cells.items():
            for cell in of_row if row.label in RIGHT else ():
                if not (row.label == "SimCLR" and cell.seed == 1):
                    number += 1
                    forge(filled, cell, right=RIGHT[row.label], seed=number, decodes=row.label != "SimCLR")
    for number, floor in enumerate(floors(sections("methods")), 100):
        forge(filled, floor, right=0.5, seed=number)
    return filled
