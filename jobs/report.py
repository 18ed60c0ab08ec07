"""Draw the page of a cell with what is there, at any time.

python -m jobs.report method=dae method.embedding=l2 method.alpha=1 store=store
"""

import sys
from pathlib import Path

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import report
from dae_ssl.batch import cells
from dae_ssl.config import ConfigError
from dae_ssl.store import Store, StoreError
from jobs import settings


def main(arguments: list[str]) -> None:
    """Write the page and print where it is."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    try:
        given = settings.compose(arguments)
        cell, store = settings.cell(given), Store(Path(given.store))
        cells.describe(cell, store)
        print(report.write_cell_page(cell, store, cells.floors(cell)).resolve())
    except (ConfigError, StoreError) as error:
        settings.fail(error, 2)


if __name__ == "__main__":
    main(sys.argv[1:])
