"""When a node counts as done: the one rule that plans and stages go by."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from dae_ssl import config
from dae_ssl.config import Cell
from dae_ssl.store import FEATURES, LEFT_BEHIND, encoder_names, products_digest

K = TypeVar("K", bound=Hashable)
Record = Mapping[str, Any]


def done(parents: Mapping[K, K | None], records: Mapping[K, Record], misses: Callable[[K, Record], bool]) -> set[K]:
    """Return the nodes that have not to be computed.

    parents: of every node the one that it reads, parents before children; records: of those that were committed;
    misses: tells of a node and its parent's record what `misses` below tells of a stage.
    A node is done if it was committed, what it reads is done, and it was made from what that holds now. One that left
    a product behind, in another store or since it was dropped, has to be computed again as soon as a node has that
    reads it.
    """
    found: set[K] = set()
    for node, parent in parents.items():
        above = None if parent is None else records.get(parent)
        if node in records and (parent is None or (parent in found and not outdated(records[node], above))):
            found.add(node)
    for node, parent in reversed(list(parents.items())):  # children first, so that it goes up as far as it has to
        if node not in found and parent in found and misses(node, records[parent]):
            found.discard(parent)
    return found


def misses(cell: Cell, stage: str, parent: Record) -> bool:
    """Tell whether the product that a stage reads of its parent was left behind, so that it is not there."""
    left = parent.get(LEFT_BEHIND)
    return bool(left and not left.keys().isdisjoint(reads(cell, stage)))


def reads(cell: Cell, stage: str) -> Sequence[str]:
    """Return the names that the one product may have which a stage reads of its parent, today's first."""
    if cell.parent(stage) is None:
        return ()
    return encoder_names(config.stage_settings(cell, stage)["epoch"]) if stage == "features" else (FEATURES,)


def outdated(record: Record, parent: Record | None) -> bool:
    """Tell whether a node was computed from other products of its parent than those that are there now."""
    return parent is not None and "parent" in record and record["parent"] != products_digest(parent)


def counted(cell: Cell, committed: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return those commit records of a cell's stages that count as done."""
    parents = {stage: cell.parent(stage) for stage in cell.stages()}
    there = done(parents, committed, partial(misses, cell))
    return {stage: record for stage, record in committed.items() if stage in there}
