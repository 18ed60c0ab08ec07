"""A run on this machine: lanes compute, side by side, what a store lacks of some cells, and stop in time.

outcome = run(cells, "store", parallel=2, budget=Budget(minutes=25))
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dae_ssl import config
from dae_ssl.compute import lane as inside
from dae_ssl.compute import lanes, nodes, shares
from dae_ssl.compute.cells import describe, require_cell
from dae_ssl.compute.interrupt import Budget, stop_requests
from dae_ssl.compute.lanes import Lane
from dae_ssl.compute.log import Log
from dae_ssl.compute.nodes import Missing, Node, NodeId
from dae_ssl.compute.order import Finished, Order
from dae_ssl.compute.processes import BAD_INPUT, DONE, FAILED, SAVE_SECONDS, TRY_AGAIN, Conditions
from dae_ssl.compute.resources import Resources
from dae_ssl.compute.show import Lines, Show
from dae_ssl.config import Cell, ConfigError
from dae_ssl.data import prepared
from dae_ssl.files import StoreError
from dae_ssl.store import Store
from dae_ssl.training import losses

GRACE_SECONDS = 20.0
"""How long running nodes may take to end after a request to stop; a stage that cannot save may finish in this time."""
LAST_SECONDS = 3.0
"""How long before the end of the grace time a stage that cannot save is asked to stop too."""
LOOK_SECONDS = 0.2
ONE_PROCESS = Resources()

Keep = Callable[[Collection[Cell]], object]


@dataclass(frozen=True)
class Outcome:
    """The result of a run."""

    computed: bool = True
    """Whether there was anything to compute."""
    failed: int = 0
    """The number of nodes that failed, and of those that would have read them."""
    left: int = 0
    """The number of nodes that are still missing, including those that failed."""
    stopped: signal.Signals | None = None
    """The signal that asked the run to stop."""
    over: bool = False
    """Whether the budget ended before everything was computed, which is not a failure."""

    @property
    def code(self) -> int:
        """The exit code of the run: 0, 1 if a node failed, or 128 + the signal that stopped it."""
        return 128 + self.stopped if self.stopped is not None else int(self.failed > 0)


def run(
    cells: Cell | Iterable[Cell],
    store: Store | Path | str,
    *,
    parallel: int | None = None,
    device: str = "auto",
    stages: Collection[str] = config.STAGES,
    budget: Budget | None = None,
    again: Callable[[], Iterable[Cell]] | None = None,
    keep: Keep = lambda _cells: None,
    show: Show | None = None,
    resources: Resources = ONE_PROCESS,
    save_seconds: float = SAVE_SECONDS,
    max_failures: int = 3,
    keep_features: bool = True,
    start: Sequence[str] = inside.COMMAND,
) -> Outcome:
    """Compute what a store lacks of one or several cells, the first ones first; if a node fails, the others go on.

    The store may be named by its path. Nodes are computed by processes of their own, which import the modules that
    define a method or a loss of a cell. They import a script that defines one itself too, so the script has to call
    this function below `if __name__ == "__main__":`.

    parallel: the number of nodes at the same time; None means one on the processors, or two on each GPU.
    stages: the stages to compute. budget: the time after which running nodes save their state and the run stops.
    again: returns the cells that are wanted after these are computed, since results may ask for further cells.
    keep: receives cells with new results while the lanes compute: at first all, then each that is finished.
    resources: those of one pretraining. max_failures: how often a node's process may die before the node has failed.
    keep_features: whether features stay after every node that reads them is done. start: the command of a lane.

    SIGINT, SIGTERM and SIGUSR2 stop the run as the budget does; a second SIGINT interrupts it. Raises ConfigError or
    StoreError, before anything is written, if the run is impossible.
    """
    inside.require_outside()
    asked, store = [cells] if isinstance(cells, Cell) else list(cells), Store.of(store)
    for cell in asked:
        require_cell(cell)
    show, budget = show or Lines(), budget or Budget()
    missing, before = nodes.missing(asked, store, stages), frozenset[NodeId]()
    lacking = [cell for cell in asked if not missing.ids.isdisjoint(config.keys(cell).items())]
    prepared.require_all_fit(store, lacking)
    conditions = Conditions(store=store.root.resolve(), resources=resources, device=device, save_seconds=save_seconds,
                            keep_features=keep_features)  # fmt: skip
    at_work = _lanes(parallel, missing, conditions, start)
    keep(())  # so that an error in writing shows before anything is computed
    with stop_requests() as request, contextlib.ExitStack() as stack:
        for lane in at_work:
            stack.enter_context(lane)
        while True:
            for cell in asked:
                describe(cell, store)
            if missing.left:
                show.tell(missing.left)
            if not missing.nodes:
                keep(asked)
                return Outcome(computed=bool(before))
            if before == missing.ids:
                lost = f"{len(before)} nodes were computed but are missing from {store.root}: {set(before)}"
                raise StoreError(f"{lost}: see that nothing else removes nodes there, and run again")
            work = Round(Order(missing.nodes, max_failures), at_work, show, store)
            _compute(work, Finished(asked, set(missing.ids)), keep, lambda: request() or budget())
            failed, before = work.order.count("failed", "left out"), missing.ids
            missing = nodes.missing(asked, store, stages)
            left, over = len(missing.nodes), budget() and bool(missing.nodes)
            if failed or request() or over:
                return Outcome(failed=failed, left=left, stopped=request.number, over=over)
            if again is not None:
                asked = list(again())
                missing = nodes.missing(asked, store, stages)


def _lanes(parallel: int | None, missing: Missing, conditions: Conditions, start: Sequence[str]) -> list[Lane]:
    """Return the lanes of this machine; each starts its process when it gets its first node."""
    visible, processors = shares.gpus(conditions.device), len(os.sched_getaffinity(0))
    kinds = shares.deal(parallel, conditions.resources, conditions.device, visible, processors)
    if len(kinds) > 1 and not visible:
        store = Store(conditions.store)
        each = max((shares.takes_gb(node.cell, store) for node in missing.nodes), default=0.0)
        shares.require_room(len(kinds), each, shares.available_gb())
    python, *further = start
    further += [json.dumps(conditions.plain()), *_imports(missing)]
    command = [python, *(f"-W{option}" for option in sys.warnoptions), *further]
    return [Lane(number, kind, command) for number, kind in enumerate(kinds)]


def _imports(missing: Missing) -> list[str]:
    """Return the options by which a lane imports methods and losses from outside this package.

    Raises ConfigError for one that is defined where no other process can import it, as in a notebook.
    """
    modules = dict[str, str]()
    for method in {node.cell.method for node in missing.nodes}:
        modules[type(method).__module__] = method.name
        modules |= losses.origins(method)
    modules = {module: name for module, name in modules.items() if not module.startswith("dae_ssl.")}
    if not modules:
        return []
    if (name := modules.pop("__main__", None)) is not None:
        script = getattr(sys.modules["__main__"], "__file__", None)
        if script is None:
            raise ConfigError(f"{name} is defined in a notebook or on a prompt, where the processes that compute it "
                              f"cannot import it from: put it into a file, and import it from there")  # fmt: skip
        modules[str(Path(script).resolve())] = name
    # Where Python looks for the modules of this process first, as the folder of its script.
    return [f"--path={Path(sys.path[0]).resolve()}", *(f"--import={module}" for module in sorted(modules))]


def _compute(work: "Round", finished: Finished, keep: Keep, stop: Callable[[], bool]) -> None:
    """Compute a round, and hand on finished cells while the lanes compute others."""

    def beside(done: Sequence[Node]) -> None:
        finished.note(done)
        if finished.due:
            try:
                keep(finished.due.values())
                finished.due.clear()
            except StoreError as error:  # such as a full disk, which is no reason to lose running nodes
                work.show.warn(f"finished cells are not kept yet: {error}")

    work.to_the_end(stop, beside)
    keep([*finished.due.values(), *finished.begun.values()])


@dataclass
class Round:
    """An order of nodes, the lanes that compute it, and what shows their progress."""

    order: Order
    lanes: Sequence[Lane]
    show: Show
    store: Store
    clock: Callable[[], float] = time.monotonic
    began_at: dict[NodeId, float] = field(default_factory=dict)

    def to_the_end(self, stop: Callable[[], bool], beside: Callable[[Sequence[Node]], None]) -> None:
        """Compute until no node is free or under way, or for at most GRACE_SECONDS after a request to stop.

        `beside` is called when the lanes have begun, and then, while they compute, with the nodes that have just ended.
        """
        stopping: float | None = None
        done: list[Node] | None = []
        while True:
            if stopping is None and stop():
                stopping = self.clock()
                self.show.tell(f"stopping: running nodes save their state, within {GRACE_SECONDS:g} s")
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
        """Give a node to every free lane for which one is free."""
        for lane in self.lanes:
            if not lane.busy and (node := self.order.next(lane.kind.stages, lane.had)) is not None:
                number = self.order.begun.index(node.id) + 1
                self.show.tell(f"[{number}/{len(self.order.nodes)}] {node.stage} {node.key}: {self.show.called(node)}")
                self.began_at[node.id] = self.clock()
                lane.give(node)

    def _end(self, seconds: float) -> None:
        """Stop lanes, given the seconds since the request: at once those that can save, at last all that are left."""
        for lane in self.lanes:
            if lane.busy and (lane.node.stage == "pretrain" or seconds >= GRACE_SECONDS - LAST_SECONDS):
                lane.stop()
            if lane.busy and seconds >= GRACE_SECONDS:
                lane.kill()
                self.show.still(lane.number)
                self.order.ended(lane.node, TRY_AGAIN)

    def _hear(self, lane: Lane, answer: Sequence[Any], *, stopping: bool) -> bool:
        """Act on a lane's answer; return whether its node is done."""
        label = self.show.called(lane.node)
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
        """Record how a lane's node ended: with an exit code, or with None because its process died."""
        node, show, order = lane.node, self.show, self.order
        called = show.called(node)
        show.still(lane.number)
        lane.release(keep=code == DONE)
        if code in (DONE, FAILED, BAD_INPUT):
            left_out = order.count("left out")
            order.ended(node, code)
            seconds, left_out = self.clock() - self.began_at[node.id], order.count("left out") - left_out
            if code == DONE:
                show.tell(f"{called}: {node.stage} took {seconds:.1f} s")
            else:
                show.warn(f"{called}: {node.stage} failed; {left_out} nodes that need it are left out")
        elif stopping:
            order.ended(node, TRY_AGAIN)
        elif order.died(node):
            times = f"restart {order.deaths[node.id]} of {order.max_failures}"
            show.warn(f"{called}: {node.stage}: {reason}; it continues in a new process ({times})")
        else:
            ending = f"{reason}; given up after {order.deaths[node.id]} attempts"
            show.warn(f"{called}: {node.stage}: {ending}")
            folder = self.store.node(*node.id)
            folder.create()
            with Log(folder.log) as log:  # where `dae-ssl logs` and `status` look for the reason
                log.event("stopped", error="Killed", reason=ending)
