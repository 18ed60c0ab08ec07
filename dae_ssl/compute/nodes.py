"""The nodes that cells need: one stage of one cell each, shared ones once; and the tasks that compute them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from dae_ssl import config
from dae_ssl.compute.done import Record, done, misses
from dae_ssl.config import Cell
from dae_ssl.store import Store

NodeId = tuple[str, str]
"""Stage and key."""


@dataclass(frozen=True, eq=False)
class Node:
    """A node that some cells need, with one of these cells to tell what it is."""

    stage: str
    key: str
    parent: NodeId | None
    cell: Cell
    cells: int = 1
    """How many of the cells share it."""

    @property
    def id(self) -> NodeId:
        return self.stage, self.key

    @classmethod
    def of(cls, settings: Mapping[str, Any], stage: str) -> Self:
        """Return a stage's node of the cell that settings describe. Raises ConfigError if they describe none."""
        cell = config.cell(settings)
        keys, parent = config.keys(cell), cell.parent(stage)
        return cls(stage, keys[stage], (parent, keys[parent]) if parent else None, cell)


@dataclass(frozen=True)
class Task:
    """What one array task computes: one node, or the packed ones."""

    index: int
    nodes: tuple[Node, ...]


def needed(cells: Iterable[Cell]) -> dict[NodeId, Node]:
    """Return every node that the cells need, each once, parents before children."""
    found: dict[str, dict[str, list[tuple[Cell, NodeId | None]]]] = {stage: {} for stage in config.STAGES}
    for cell in cells:
        keys = config.keys(cell)
        for stage, key in keys.items():
            parent = cell.parent(stage)
            found[stage].setdefault(key, []).append((cell, (parent, keys[parent]) if parent else None))
    return {
        (stage, key): Node(stage, key, parent=asked[0][1], cell=asked[0][0], cells=len(asked))
        for stage, by_key in found.items()
        for key, asked in by_key.items()
    }


def finished(wanted: Mapping[NodeId, Node], store: Store) -> frozenset[NodeId]:
    """Return the nodes that are done and were computed from what their parents hold now."""
    return counted(wanted, committed(wanted, store))


def committed(wanted: Mapping[NodeId, Node], store: Store) -> dict[NodeId, Record]:
    """Return the commit records of nodes, of those that have one."""
    begun = {stage: store.keys(stage) for stage in config.STAGES}
    records = {id: store.node(*id).record() for id in wanted if id[1] in begun[id[0]]}
    return {id: record for id, record in records.items() if record is not None}


def counted(wanted: Mapping[NodeId, Node], records: Mapping[NodeId, Record]) -> frozenset[NodeId]:
    """Return those nodes that count as done, given the records of those that are committed."""
    parents = {id: node.parent for id, node in wanted.items()}
    return frozenset(done(parents, records, lambda id, parent: misses(wanted[id].cell, id[0], parent)))
