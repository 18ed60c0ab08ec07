"""Draw the page of a cell, or of an experiment and all its cells, with what is there, at any time.

python -m jobs.report method=dae method.embedding=l2 method.alpha=1 store=store
python -m jobs.report experiment=tour store=store
python -m jobs.report experiment=study scale=small        the reduced study, on a page of its own
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from dae_ssl.compute import cells
from dae_ssl.files import StoreError
from dae_ssl.report import standing
from dae_ssl.report.cell.page import write_cell_page
from dae_ssl.report.experiment.page import write_experiment_page
from dae_ssl.store import Store
from jobs import experiment, settings


def main(arguments: Sequence[str]) -> None:
    """Write the page and print where it is. Raises StoreError for a store that is not there."""
    if any(argument.startswith("experiment=") for argument in arguments):
        asked = experiment.asked(arguments)
        if not asked.store.root.is_dir():
            raise StoreError(f"{asked.store.root} is no store: name one, as in store=FOLDER")
        print(standing.of_cells(asked.cells, asked.store).line())
        page = write_experiment_page(
            asked.experiment, asked.sections, asked.floors, asked.store, variant=asked.variant, tell=print
        )
    else:
        given = settings.compose(arguments)
        cell, store = settings.cell(given), Store(Path(given["store"]))
        cells.describe(cell, store)
        page = write_cell_page(cell, store, cells.floors(cell))
    print(page.resolve())


if __name__ == "__main__":
    experiment.run(main, sys.argv[1:], __doc__)
