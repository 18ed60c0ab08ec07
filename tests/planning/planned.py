"""Cells and profiles that are planned in tests, and nodes that are done without anything having been computed."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.config import Cell
from dae_ssl.planning import plan
from dae_ssl.planning.plan import Plan
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store, products_digest

GPU4: dict[str, Any] = {
    "stages": {"pretrain": {"ranks_per_machine": 4, "gpus_per_machine": 4}, "features": {"gpus_per_machine": 1}}
}
PACKED: dict[str, Any] = {"stages": {"pretrain": {"packing": 4, "gpus_per_machine": 4}}}


def dae(alpha: float = 1.0, **more: Any) -> Cell:
    return config.cell({"method": {"name": "dae", "embedding": "l2", "alpha": alpha}} | more)


def planned(cells: Iterable[Cell], store: Path, profile: Any = None, **more: Any) -> Plan:
    more = {"queued": {}, "array_size": 1001} | more
    return plan.make(cells, Store(store), Profile.of("test", profile or GPU4), **more)


def commit(store: Path, cell: Cell, *stages: str) -> None:
    """Finish stages of a cell without computing anything: a product each, and a record."""
    for stage in stages:
        node, parent = Store(store).node(stage, config.key(cell, stage)), cell.parent(stage)
        node.create()
        node.product("product").write_text(node.key)
        above = Store(store).node(parent, config.key(cell, parent)).record() if parent else None
        node.commit({"parent": products_digest(above)} if above else {})


def column(lines: Iterable[str], way: str) -> list[str]:
    """Return hours in all, of the longest cell, and until all are done, of a way."""
    (line,) = (line for line in lines if line.startswith(f"  {way} "))
    return line.split()[-3:]
