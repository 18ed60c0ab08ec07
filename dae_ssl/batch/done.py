"""When a node counts as done: the one rule that plans and stages go by."""

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

from dae_ssl import config
from dae_ssl.config import Cell
from dae_ssl.store import LEFT_BEHIND, Store, products_digest

K = TypeVar("K", bound=Hashable)
Record = Mapping[str, Any]


def done(parents: Mapping[K, K | None], records: Mapping[K, Record]) -> set[K]:
    """Return the nodes that have not to be computed.

    parents: of every node the one that it reads, parents before children; records: of those that were committed.
    A node is done if it was committed, what it reads is done, and it was made from what that holds now. One that came
    from another store and left products behind has to be computed again as soon as a node that reads it has.
    """
    found: set[K] = set()
    for node, parent in parents.items():
        above = None if parent is None else records.get(parent)
        if node in records and (parent is None or (parent in found and not outdated(records[node], above))):
            found.add(node)
    for node, parent in reversed(list(parents.items())):  # children first, so that it goes up as far as it has to
        if node not in found and parent is not None and records.get(parent, {}).get(LEFT_BEHIND):
            found.discard(parent)
    return found


def outdated(record: Record, parent: Record | None) -> bool:
    """Tell whether a node was computed from other products of its parent than those that are there now."""
    return parent is not None and "parent" in record and record["parent"] != products_digest(parent)


def records(cell: Cell, where: Store) -> dict[str, dict[str, Any]]:
    """Return the commit records of the stages of a cell that are done."""
    committed = {stage: where.node(stage, key).record() for stage, key in config.keys(cell).items()}
    known = {stage: record for stage, record in committed.items() if record is not None}
    counted = done({stage: cell.parent(stage) for stage in cell.stages()}, known)
    return {stage: record for stage, record in known.items() if stage in counted}
