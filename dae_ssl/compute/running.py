"""A plan, computed on the lanes of this machine: which node is next, what becomes of it, and stopping in time."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Protocol

from dae_ssl.compute import lanes
from dae_ssl.compute.lanes import Lane
from dae_ssl.compute.log import Log
from dae_ssl.compute.nodes import Node, NodeId
from dae_ssl.compute.processes import BAD_INPUT, DONE, FAILED, TRY_AGAIN
from dae_ssl.store import Store

GRACE_SECONDS = 20.0
"""How long what is under way may take to end after a request to stop; a stage that saves nothing may finish in it."""
LAST_SECONDS = 3.0
"""How long before the end of the grace a stage that saves nothing is asked to end as well."""
LOOK_SECONDS = 0.2


class Show(Protocol):
    """What the person who watches is shown."""

    def tell(self, line: str) -> None:
        """Show what happens."""

    def warn(self, line: str) -> None:
        """Show what goes wrong."""

    def progress(self, lane: int, what: str, done: int, total: int) -> None:
        """Show how far a lane is with what it does."""

    def still(self, lane: int) -> None:
        """Show that a lane does nothing more of that."""


@dataclass(frozen=True)
class Deadline:
    """The time at which to stop, by a clock in seconds; None is never."""

    at: float | None
    clock: Callable[[], float] = time.monotonic

    def __call__(self) -> bool:
        return self.at is not None and self.clock() >= self.at


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

    def next(self, stages: AbstractSet[str], own: AbstractSet[NodeId]) -> Node | None:
        """Return the next node of some stages, from now on under way; None if none is free.

        One whose parent is among a lane's `own` comes before all others: it finishes the cell that it has.
        """
        free = [
            node for node in self.nodes
            if self.states[node.id] == "waiting" and node.stage in stages
            and (node.parent is None or self.states.get(node.parent, "done") == "done")
        ]  # fmt: skip
        found = min(free, key=lambda node: node.parent not in own, default=None)
        if found is not None:
            self.states[found.id] = "under way"
            self.begun += [] if found.id in self.begun else [found.id]
        return found

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
class Run:
    """An order, the lanes that compute it, and for whom."""

    order: Order
    lanes: Sequence[Lane]
    show: Show
    store: Store
    called: Callable[[Node], str]
    """What people call a node."""
    clock: Callable[[], float] = time.monotonic
    given_at: dict[NodeId, float] = field(default_factory=dict)

    def to_the_end(self, stop: Callable[[], bool], beside: Callable[[Sequence[Node]], None]) -> None:
        """Compute until nothing is free and nothing under way, or for GRACE_SECONDS at most after a request to stop.

        `beside` is called once the lanes have begun, and then with the nodes that are newly done, while the lanes are
        at work on others.
        """
        stopping: float | None = None
        done: list[Node] | None = []
        while True:
            if stopping is None and stop():
                stopping = self.clock()
                self.show.tell(f"stopping: what is under way is saved, within {GRACE_SECONDS:g} s")
            if stopping is None:
                self._give()
            else:
                self._end(self.clock() - stopping)
            if done is not None:
                beside(done)
            busy = [lane for lane in self.lanes if lane.busy]
            if not busy:
                return
            lanes.wait(busy, LOOK_SECONDS)
            done = [
                lane.node for lane in busy for answer in lane.answers()
                if self._hear(lane, answer, stopping=stopping is not None)
            ] or None  # fmt: skip

    def _give(self) -> None:
        """Give every lane that is free a node, if one is free for it."""
        for lane in self.lanes:
            if not lane.busy and (node := self.order.next(lane.kind.stages, lane.had)) is not None:
                number = self.order.begun.index(node.id) + 1
                self.show.tell(f"[{number}/{len(self.order.nodes)}] {node.stage} {node.key}: {self.called(node)}")
                self.given_at[node.id] = self.clock()
                lane.give(node)

    def _end(self, seconds: float) -> None:
        """Have the lanes end, so many seconds after the request: first what can be saved, at last whatever is left."""
        for lane in self.lanes:
            if lane.busy and (lane.node.stage == "pretrain" or seconds >= GRACE_SECONDS - LAST_SECONDS):
                lane.stop()
            if lane.busy and seconds >= GRACE_SECONDS:
                lane.kill()
                self.show.still(lane.number)
                self.order.ended(lane.node, TRY_AGAIN)

    def _hear(self, lane: Lane, answer: Sequence[Any], *, stopping: bool) -> bool:
        """Act on an answer of a lane; return whether its node is done."""
        label = self.called(lane.node)
        match answer:
            case ["tell", line]:
                self.show.tell(f"{label}: {line}")
            case ["warn", line]:
                self.show.warn(f"{label}: {line}")
            case ["progress", what, done, total]:
                self.show.progress(lane.number, f"{label}: {what}", done, total)
            case ["ended", code]:
                self._ended(lane, code, f"it ended with exit code {code}", stopping=stopping)
                return bool(code == DONE)
            case ["died", reason]:
                self._ended(lane, None, reason, stopping=stopping)
        return False

    def _ended(self, lane: Lane, code: int | None, reason: str, *, stopping: bool) -> None:
        """Take note of how a lane's node ended, with an exit code or by the death of its process."""
        node, show, order = lane.node, self.show, self.order
        show.still(lane.number)
        lane.release(keep=code == DONE)
        if code in (DONE, FAILED, BAD_INPUT):
            left_out = order.count("left out")
            order.ended(node, code)
            seconds, left_out = self.clock() - self.given_at[node.id], order.count("left out") - left_out
            if code == DONE:
                show.tell(f"{self.called(node)}: {node.stage} took {seconds:.1f} s")
            else:
                show.warn(f"{self.called(node)}: {node.stage} failed; {left_out} nodes that need it are left out")
        elif stopping:
            order.ended(node, TRY_AGAIN)
        elif order.died(node):
            times = f"{order.deaths[node.id]} of {order.max_failures} times"
            show.warn(f"{self.called(node)}: {node.stage}: {reason}; it goes on in a new process, {times}")
        else:
            told = f"{reason}; given up after {order.deaths[node.id]} times"
            show.warn(f"{self.called(node)}: {node.stage}: {told}")
            folder = self.store.node(*node.id)
            folder.create()
            with Log(folder.log) as log:  # where `dae-ssl status` and `dae-ssl logs` look for reasons
                log.event("stopped", error="Killed", reason=told)
