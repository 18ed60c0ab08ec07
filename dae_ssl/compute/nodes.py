"""The nodes that cells need, each shared node once, and the tasks that compute them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from dae_ssl import config
from dae_ssl.compute.done import Record, done, misses
from dae_ssl.config import Cell
from dae_ssl.store import Store

NodeId = tuple[str, str]
"""The stage and the key of a node."""


@dataclass(frozen=True, eq=False)
class Node:
    """A node that some cells need, with one of these cells, whose settings say how to compute it."""

    stage: str
    key: str
    parent: NodeId | None
    cell: Cell
    cells: int = 1
    """The number of cells that share it."""

    @property
    def id(self) -> NodeId:
        return self.stage, self.key

    @classmethod
    def of(cls, settings: Mapping[str, Any], stage: str) -> Self:
        """Return the node of one stage of the cell that settings describe. Raises ConfigError if they describe none."""
        cell = config.cell(settings)
        keys, parent = config.keys(cell), cell.parent(stage)
        return cls(stage, keys[stage], (parent, keys[parent]) if parent else None, cell)


@dataclass(frozen=True)
class Task:
    """The nodes that one array task computes: one, or several that are packed."""

    index: int
    nodes: tuple[Node, ...]


def needed(cells: Iterable[Cell]) -> dict[NodeId, Node]:
    """Return every node that the cells need, each once, parents before children."""
    users: dict[str, dict[str, list[tuple[Cell, NodeId | None]]]] = {stage: {} for stage in config.STAGES}
    for cell in cells:
        keys = config.keys(cell)
        for stage, key in keys.items():
            parent = cell.parent(stage)
            users[stage].setdefault(key, []).append((cell, (parent, keys[parent]) if parent else None))
    return {
        (stage, key): Node(stage, key, parent=of_key[0][1], cell=of_key[0][0], cells=len(of_key))
        for stage, by_key in users.items()
        for key, of_key in by_key.items()
    }


def finished(wanted: Mapping[NodeId, Node], store: Store) -> frozenset[NodeId]:
    """Return the nodes that are current: committed, and made from what their parents hold now."""
    return counted(wanted, committed(wanted, store))


def committed(wanted: Mapping[NodeId, Node], store: Store) -> dict[NodeId, Record]:
    """Return the commit records of those nodes that have one."""
    begun = {stage: store.keys(stage) for stage in config.STAGES}
    records = {id: store.node(*id).record() for id in wanted if id[1] in begun[id[0]]}
    return {id: record for id, record in records.items() if record is not None}


def counted(wanted: Mapping[NodeId, Node], records: Mapping[NodeId, Record]) -> frozenset[NodeId]:
    """Return the nodes that count as done, given the records of the committed ones."""
    parents = {id: node.parent for id, node in wanted.items()}
    return frozenset(done(parents, records, lambda id, parent: misses(wanted[id].cell, id[0], parent)))


def for_their_readers(
    wanted: Mapping[NodeId, Node], complete: Collection[NodeId], records: Mapping[NodeId, Record]
) -> dict[NodeId, Node]:
    """Return the nodes; one that left behind a product that a missing node reads takes over that node's cell.

    The process that computes it then sees from this cell alone that the product is needed.
    """
    nodes = dict(wanted)
    for id, node in reversed(list(wanted.items())):
        if id in complete or node.parent is None:
            continue
        above = records.get(node.parent)
        if above is not None and misses(node.cell, node.stage, above):
            nodes[node.parent] = replace(nodes[node.parent], cell=nodes[id].cell)
    return nodes


@dataclass(frozen=True)
class Missing:
    """The nodes that a store lacks of some cells, restricted to some stages."""

    nodes: tuple[Node, ...]
    """In the order of the cells that need them, parents before children."""
    left: str = ""
    """One line about missing nodes that the stages leave out, and why; "" if there are none."""

    @property
    def ids(self) -> frozenset[NodeId]:
        return frozenset(node.id for node in self.nodes)


def missing(cells: Iterable[Cell], store: Store, stages: Collection[str] = config.STAGES) -> Missing:
    """Return the nodes of some stages that a store lacks of cells, in the order of the cells, most important first."""
    in_order = list(cells)
    wanted = needed(in_order)
    records = committed(wanted, store)
    complete = counted(wanted, records)
    wanted = for_their_readers(wanted, complete, records)
    available, lacking = {None, *complete}, list[Node]()
    for id, node in wanted.items():  # parents before children
        if id not in complete and node.stage in stages and node.parent in available:
            lacking.append(node)
            available.add(id)
    first = {id: place for place, cell in reversed(list(enumerate(in_order))) for id in config.keys(cell).items()}
    left = [stage for stage, _ in wanted.keys() - complete - {node.id for node in lacking}]
    return Missing(tuple(sorted(lacking, key=lambda node: first[node.id])), left_in_words(left, stages))


def left_in_words(left: Sequence[str], stages: Collection[str]) -> str:
    """Return one line about missing nodes that are left out, given their stages and the stages that were asked for."""
    unread = sum(stage in stages for stage in left)
    named = ",".join(stage for stage in config.STAGES if stage in stages)
    counts = {"of other stages": len(left) - unread, "whose parents are missing": unread}
    words = " and ".join(f"{count} {which}" for which, count in counts.items() if count)
    return f"--only {named} leaves out missing nodes: {words}" if left else ""
