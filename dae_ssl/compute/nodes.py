"""The nodes that cells need: one stage of one cell each, shared ones once; and the tasks that compute them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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


def for_their_readers(
    wanted: Mapping[NodeId, Node], there: Collection[NodeId], records: Mapping[NodeId, Record]
) -> dict[NodeId, Node]:
    """Return the nodes; one that left behind what a missing node reads has that node's cell.

    Who computes it can then see from that cell alone that it has to be there with that product.
    """
    found = dict(wanted)
    for id, node in reversed(list(wanted.items())):
        above = None if node.parent is None else records.get(node.parent)
        if id not in there and node.parent is not None and above is not None and misses(node.cell, node.stage, above):
            found[node.parent] = replace(found[node.parent], cell=found[id].cell)
    return found


@dataclass(frozen=True)
class Missing:
    """What a store lacks of some cells, as far as some stages can compute it."""

    nodes: tuple[Node, ...]
    """In the order of the cells that need them, parents before children."""
    left: str = ""
    """A line on what else is missing and why that is not to be computed; "" where nothing is."""

    @property
    def ids(self) -> frozenset[NodeId]:
        return frozenset(node.id for node in self.nodes)


def missing(cells: Iterable[Cell], store: Store, stages: Collection[str] = config.STAGES) -> Missing:
    """Return what a store lacks of cells, those of most worth first, as far as some stages can compute it."""
    in_order = list(cells)
    wanted = needed(in_order)
    records = committed(wanted, store)
    there = counted(wanted, records)
    wanted = for_their_readers(wanted, there, records)
    reads, found = {None, *there}, list[Node]()
    for id, node in wanted.items():  # parents before children
        if id not in there and node.stage in stages and node.parent in reads:
            found.append(node)
            reads.add(id)
    first = {id: place for place, cell in reversed(list(enumerate(in_order))) for id in config.keys(cell).items()}
    left = [stage for stage, _ in wanted.keys() - there - {node.id for node in found}]
    return Missing(tuple(sorted(found, key=lambda node: first[node.id])), left_in_words(left, stages))


def left_in_words(left: Sequence[str], stages: Collection[str]) -> str:
    """Return in a line what is missing and not to be computed, by its stages, of which only some were asked for."""
    unread = sum(stage in stages for stage in left)
    named = ",".join(stage for stage in config.STAGES if stage in stages)
    counts = {"of other stages": len(left) - unread, "whose parents are not there": unread}
    words = " and ".join(f"{count} {which}" for which, count in counts.items() if count)
    return f"--only {named} leaves nodes that are missing: {words}" if left else ""
