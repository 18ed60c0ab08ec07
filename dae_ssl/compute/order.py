"""Nodes to compute: which node is next, the state of each, and which cells are thereby finished."""

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
    """Nodes to compute, the most important first, and the state of each.

    A node is free once its parent is done. If a node fails, the nodes that would read it are left out, and no others.
    """

    nodes: Sequence[Node]
    max_failures: int
    """How often a node's process may die before the node counts as failed."""
    begun: list[NodeId] = field(default_factory=list)
    """The nodes that were begun, in that order."""
    deaths: Counter[NodeId] = field(default_factory=Counter)
    states: dict[NodeId, str] = field(default_factory=dict)
    """The state of each node: waiting, under way, done, failed or left out."""

    def __post_init__(self) -> None:
        self.states = {node.id: "waiting" for node in self.nodes}

    def next(self, stages: AbstractSet[str], had: AbstractSet[NodeId]) -> Node | None:
        """Return the next free node of some stages, which is under way from now on; None if none is free.

        A node whose parent is among those that a lane `had` comes first, so that the lane finishes its cell.
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
        """Record how a node ended: it is done, has failed, or waits again."""
        self.states[node.id] = {DONE: "done", FAILED: "failed", BAD_INPUT: "failed"}.get(code, "waiting")
        if self.states[node.id] == "failed":
            for other in self.nodes:  # parents before children
                if other.parent is not None and self.states.get(other.parent) in ("failed", "left out"):
                    self.states[other.id] = "left out"

    def died(self, node: Node) -> bool:
        """Record that a node's process died; return whether it may be tried again."""
        self.deaths[node.id] += 1
        again = self.deaths[node.id] <= self.max_failures
        self.ended(node, TRY_AGAIN if again else FAILED)
        return again

    def count(self, *states: str) -> int:
        """Return how many nodes are in one of some states."""
        return sum(state in states for state in self.states.values())


@dataclass
class Finished:
    """The cells with new results that were not yet handed on: at first all cells, then each when it is finished."""

    cells: Sequence[Cell]
    missing: set[NodeId]
    """The nodes that are not done."""
    due: dict[str, Cell] = field(default_factory=dict)
    """The cells to hand on, by key."""
    begun: dict[str, Cell] = field(default_factory=dict)
    """The unfinished cells with new results that were not handed on, by key."""

    def __post_init__(self) -> None:
        self.due = {config.cell_key(cell): cell for cell in self.cells}

    def note(self, done: Iterable[Node]) -> None:
        """Record nodes that are newly done."""
        new = {node.id for node in done}
        self.missing -= new
        for cell in self.cells if new else ():
            key, nodes = config.cell_key(cell), set(config.keys(cell).items())
            if nodes & new:
                self.begun[key] = cell
                if not nodes & self.missing:
                    self.due[key] = self.begun.pop(key)
