"""Draw the page of an experiment or of a cell, at any time.

  dae-ssl report tour
  dae-ssl report study --scale small                    the reduced study, which has its own page
  dae-ssl report method=dae method.embedding=l2 method.alpha=1
  dae-ssl report 3f0c1d                                 a cell of the store, given the first characters of its key

The page marks what has not been measured yet as missing.
"""

import argparse
from pathlib import Path

from dae_ssl import experiments
from dae_ssl.compute import cells
from dae_ssl.config import Cell, ConfigError, closest
from dae_ssl.files import StoreError
from dae_ssl.store import Store
from jobs import asked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an experiment or a cell."""
    asked.add_experiment(parser, "EXPERIMENT | CELL | NAME=VALUE...")


def run(given: argparse.Namespace) -> int:
    """Write the page and print its path. Raises StoreError if the store does not exist."""
    names, _ = asked.apart(given.words)
    store = Store(given.store)
    if names and names[0] in experiments.names():
        page = of_experiment(given)
    elif names and not any(folder.key.startswith(names[0]) for folder in store.cells()):
        hint, known = closest(names[0], experiments.names()), ", ".join(experiments.names())
        neither = f"{names[0]!r} is neither an experiment nor the beginning of a cell's key in {store.root}"
        raise ConfigError(f"{neither}: {hint}choose {known}, or settings of a cell, such as method=dae")
    else:
        cell = asked.cell(given)
        cells.describe(cell, store)
        page = of_cell(cell, store)
    print(page.resolve())
    return 0


def of_experiment(given: argparse.Namespace) -> Path:
    """Write the page of an experiment, print how much of it is measured, and return the path of the page."""
    from dae_ssl.report import standing
    from dae_ssl.report.experiment.page import write_experiment_page

    wanted = asked.experiment(given)
    if not wanted.store.root.is_dir():
        raise StoreError(f"there is no store at {wanted.store.root}: name the store with --store FOLDER")
    print(standing.of_cells(wanted.cells, wanted.store).line())
    return write_experiment_page(
        wanted.experiment, wanted.sections, wanted.floors, wanted.store, variant=wanted.variant, tell=print
    )


def of_cell(cell: Cell, store: Store) -> Path:
    """Write the page of a cell, compared with its floors, and return its path."""
    from dae_ssl.report.cell.page import write_cell_page

    return write_cell_page(cell, store, cells.floors(cell))
