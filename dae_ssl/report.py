"""Finished nodes -> tables, figures, one page."""

from collections.abc import Mapping
from pathlib import Path

from dae_ssl import store
from dae_ssl.config import Cell, cell_key
from dae_ssl.store import Store


def write_cell_page(cell: Cell, place: Store, beside: Mapping[str, Cell]) -> Path:
    page = place.cell(cell_key(cell)).product(store.REPORT)
    page.write_text("to be drawn")
    return page
