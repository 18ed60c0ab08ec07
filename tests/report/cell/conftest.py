"""A finished cell with its floors, and its page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.config import Cell
from dae_ssl.report.cell.page import write_cell_page
from dae_ssl.store import Store
from tests.forged import Page, a_cell, forge_all


@dataclass
class Drawn:
    """A cell, its floors by name, the store that they are in, and the cell's page."""

    store: Store
    cell: Cell
    floors: dict[str, Cell]
    path: Path

    @property
    def page(self) -> Page:
        return Page(self.path)

    def score(self, cell: Cell, stage: str, name: str) -> Any:
        """Return a score as a verified commit record has it."""
        return self.store.node(stage, config.key(cell, stage)).verify()["figures"][name]


@pytest.fixture(scope="package")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    store, cell = Store(tmp_path_factory.mktemp("store")), a_cell()
    floors = forge_all(store, cell)
    return Drawn(store, cell, floors, write_cell_page(cell, store, floors))
