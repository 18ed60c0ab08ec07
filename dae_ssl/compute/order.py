"""Nodes that are to be computed: which is next, what becomes of each, and which cells are finished by that."""

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from dae_ssl import config
from dae_ssl.compute.nodes import Node, NodeId
from dae_ssl.compute.processes import BAD_INPUT, DONE, FAILED, TRY_AGAIN
from dae_ssl.config import Cell


@dataclass
class Order:
    """Nodes to be computed, those of most worth first, and what has become of each.

    A node is free once its parent is done. One that fails takes the nodes that would read it with it, and no others.
    """

    nodes: Sequence[Node]
    max_failures: int
    """Times that a node's process may die before the node counts as failed."""
    begun: list[NodeId] = field(default_factory=list)
    """In the order in which they were first begun."""
    deaths: Counter[NodeId] = field(default_factory=Counter)
    states: dict[NodeId, str] = field(default_factory=dict)
    """waiting, under way, done, failed or left out."""

    def __post_init__(self) -> None:
        self.states = {node.id: "waiting" for node in self.nodes}

    def next(self, stages: AbstractSet[str], had: AbstractSet[NodeId]) -> Node | None:
        """Return the next node of some stages, from now on under way; None if none is free.

        One whose parent is among those that a lane `had` comes before all others: it finishes the cell that it has.
        """
        free = [
            node for node in self.nodes
            if self.states[node.id] == "waiting" and node.stage in stages
            and (node.parent is None or self.states.get(node.parent, "done") == "done")
        ]  # fmt: skip
        best = min(free, key=lambda node: node.parent not in had, default=None)
        if best is not None:
            self.states[best.id] = "under way"
            self.begun += [] if best.id in self.begun else [best.id]
        return best

    def ended(self, node: Node, code: int) -> None:
        """Take note of how a node ended: done or failed, else it is waiting again."""
        self.states[node.id] = {DONE: "done", FAILED: "failed", BAD_INPUT: "failed"}.get(code, "waiting")
        if self.states[node.id] == "failed":
            for other in self.nodes:  # parents before children
                if other.parent is not None and self.states.get(other.parent) in ("failed", "left out"):
                    self.states[other.id] = "left out"

    def died(self, node: Node) -> bool:
        """Take note that a node's process died; return False if that is once too often."""
        self.deaths[node.id] += 1
        again = self.deaths[node.id] <= self.max_failures
        self.ended(node, TRY_AGAIN if again else FAILED)
        return again

    def count(self, *states: str) -> int:
        """Return how many nodes are in some states."""
        return sum(state in states for state in self.states.values())


@dataclass
class Finished:
    """Which cells have more in the store than was handed on: first all that were there, then each as it is finished."""

    cells: Sequence[Cell]
    missing: set[NodeId]
    """What none of them has yet."""
    due: dict[str, Cell] = field(default_factory=dict)
    """Cells to be handed on, by key."""
    begun: dict[str, Cell] = field(default_factory=dict)
    """Cells that have more than was handed on, and are not finished."""

    def __post_init__(self) -> None:
        self.due = {config.cell_key(cell): cell for cell in self.cells}

    def note(self, done: Iterable[Node]) -> None:
        """Take note of nodes that are done."""
        fresh = {node.id for node in done}
        self.missing -= fresh
        for cell in self.cells if fresh else ():
            key, nodes = config.cell_key(cell), set(config.keys(cell).items())
            if nodes & fresh:
                self.begun[key] = cell
                if not nodes & self.missing:
                    self.due[key] = self.begun.pop(key)
