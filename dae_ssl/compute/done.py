"""The one rule by which a node counts as done, for plans and stages alike."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from dae_ssl import config
from dae_ssl.config import Cell
from dae_ssl.store import FEATURES, LEFT_BEHIND, encoder_names, products_digest

K = TypeVar("K", bound=Hashable)
Record = Mapping[str, Any]


def done(parents: Mapping[K, K | None], records: Mapping[K, Record], misses: Callable[[K, Record], bool]) -> set[K]:
    """Return the nodes that need not be computed.

    parents: the parent that each node reads, or None, with parents before children. records: the commit records of the
    committed nodes. misses: whether a node's parent, given the parent's record, lacks the product that the node reads.
    A node is done if it is committed, its parent is done, and it was made from what the parent holds now. A node that
    left a product behind, in another store or because it was dropped, must be computed again as soon as a node that
    reads this product must be computed.
    """
    complete: set[K] = set()
    for node, parent in parents.items():
        above = None if parent is None else records.get(parent)
        if node in records and (parent is None or (parent in complete and not outdated(records[node], above))):
            complete.add(node)
    for node, parent in reversed(list(parents.items())):  # children first, so that it reaches all ancestors concerned
        if node not in complete and parent in complete and misses(node, records[parent]):
            complete.discard(parent)
    return complete


def misses(cell: Cell, stage: str, parent: Record) -> bool:
    """Return whether the parent's record lists the product that a stage reads as left behind."""
    left = parent.get(LEFT_BEHIND)
    return bool(left and not left.keys().isdisjoint(reads(cell, stage)))


def reads(cell: Cell, stage: str) -> Sequence[str]:
    """Return the possible names of the one product that a stage reads from its parent, today's name first."""
    if cell.parent(stage) is None:
        return ()
    return encoder_names(config.stage_settings(cell, stage)["epoch"]) if stage == "features" else (FEATURES,)


def outdated(record: Record, parent: Record | None) -> bool:
    """Return whether a node was computed from other products of its parent than the present ones."""
    return parent is not None and "parent" in record and record["parent"] != products_digest(parent)


def counted(cell: Cell, committed: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the commit records of a cell's stages that count as done, given those of its committed stages."""
    parents = {stage: cell.parent(stage) for stage in cell.stages()}
    complete = done(parents, committed, partial(misses, cell))
    return {stage: record for stage, record in committed.items() if stage in complete}
