"""What `dae-ssl submit` does with a local profile: the plan computed on this machine, on one lane or several."""

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dae_ssl import config
from dae_ssl.compute import cells, lanes
from dae_ssl.compute.interrupt import stop_requests
from dae_ssl.compute.lanes import Lane
from dae_ssl.compute.nodes import Node, NodeId
from dae_ssl.compute.running import Deadline, Order, Run
from dae_ssl.config import Cell
from dae_ssl.files import StoreError
from dae_ssl.planning import plan
from dae_ssl.planning.plan import Plan
from dae_ssl.tracking import server
from jobs.asked import Asked
from jobs.results import Kept
from jobs.terminal import Board


def compute(asked: Asked, again: Callable[[], Asked], same_cells: Sequence[str], began: float) -> int:
    """Compute what is missing, and return the exit code; what one cell fails at leaves the others alone.

    Results may ask for more cells, as a grid goes on where its edge is best: `again` is what is asked for then.
    `same_cells` are the arguments by which other commands find these cells. After `minutes`, counted from `began` on
    the monotonic clock, it stops with what is under way saved, and returns 0, since the same command goes on; but 1 if
    anything failed.
    """
    minutes, before = asked.options["minutes"], set[NodeId]()
    over = Deadline(None if minutes is None else began + 60 * minutes)
    open_lanes, kept = _lanes(asked), _kept(asked)
    server.copied_here(asked.store.root)
    with stop_requests() as request, contextlib.ExitStack() as stack:
        for lane in open_lanes:
            stack.enter_context(lane)
        while True:
            planned = _plan(asked)
            missing = {node.id for node in planned.missing()}
            for cell in asked.cells:
                cells.describe(cell, asked.store)
            if planned.left():
                print(planned.left())
            if not missing:
                if kept is not None:
                    kept.write(asked, asked.cells)
                nothing = "everything is there" if before else "nothing is missing"
                print(f"{nothing}: dae-ssl report {shlex.join(same_cells)}")
                return 0
            if missing == before:
                raise StoreError(f"{asked.store.root}: {len(missing)} nodes were computed and are not there: {missing}")
            failed = _run(asked, planned, open_lanes, kept, lambda: request() or over())
            if failed:
                print(f"{failed} nodes failed: dae-ssl status {shlex.join(same_cells)}", file=sys.stderr)
            if request.number is not None:
                return 128 + request.number
            if over() and (left := sum(1 for _ in _plan(asked).missing())):
                goes_on = "" if failed else ": the same command goes on"
                print(f"stopped after {minutes:g} minutes, as asked; {left} nodes are left{goes_on}")
                return 1 if failed else 0
            if failed:
                return 1
            asked, before = again(), missing


def _plan(asked: Asked) -> Plan:
    stages = plan.chosen(asked.options["only"])
    return plan.make(asked.cells, asked.store, asked.profile, queued={}, array_size=10**9, stages=stages)


def _lanes(asked: Asked) -> list[Lane]:
    """Return the lanes of this machine, whose processes start with the first node that each is given."""
    profile, resources = asked.profile, asked.profile.stages.pretrain
    command = [
        sys.executable, *(f"-W{option}" for option in sys.warnoptions), "-m", "jobs", "compute", "--lane",
        f"--store={asked.store.root.resolve()}", f"--machines={resources.machines}",
        f"--ranks-per-machine={resources.ranks_per_machine}", f"--cpus-per-machine={resources.cpus_per_machine}",
        f"--save-seconds={profile.save_seconds}", f"--mlflow-experiment={asked.mlflow_experiment}",
    ]  # fmt: skip
    kinds = lanes.deal(
        asked.options["parallel"], resources, profile.device, lanes.gpus(profile.device), len(os.sched_getaffinity(0))
    )
    return [Lane(number, kind, command) for number, kind in enumerate(kinds)]


def _run(asked: Asked, planned: Plan, at_work: Sequence[Lane], kept: Kept | None, stop: Callable[[], bool]) -> int:
    """Compute a plan, those nodes first that the first cells need; return how many failed or were left out for it."""
    places = {id: place for place, cell in reversed(list(enumerate(asked.cells))) for id in config.keys(cell).items()}
    nodes = sorted(planned.missing(), key=lambda node: (places[node.id], config.STAGES.index(node.stage)))
    labels = {config.cell_key(cell): label for label, cell in asked.labelled}

    def called(node: Node) -> str:
        others = f" and {node.cells - 1} more cells" if node.cells > 1 else ""
        return f"{labels[config.cell_key(node.cell)]}{others}"

    order, board = Order(nodes, asked.profile.max_failures), Board()
    finished = None if kept is None else Finished(kept, asked, {node.id for node in nodes}, board)
    run = Run(order, at_work, board, asked.store, called)
    run.to_the_end(stop, finished or (lambda _done: None))
    if kept is not None and finished is not None:
        kept.write(asked, [*finished.due.values(), *finished.begun.values()])
    return order.count("failed", "left out")


# ---------------------------------------------------------------------------------- what is kept of it


def _kept(asked: Asked) -> Kept | None:
    """Return the file of results that is asked for, as it is. Raises ConfigError or StoreError for what is none."""
    if asked.options["archive"] is None:
        return None
    kept = Kept.asked(asked, "archive")
    kept.write(asked, [])  # what cannot be written is told before anything is computed
    return kept


@dataclass
class Finished:
    """Takes note of nodes as they are done, and adds every cell that is finished to the file of results.

    What the store had before is added when it is called first, which is once the lanes are at work.
    """

    kept: Kept
    asked: Asked
    missing: set[NodeId]
    board: Board
    due: dict[str, Cell] = field(default_factory=dict)
    """Cells to be added, by key."""
    begun: dict[str, Cell] = field(default_factory=dict)
    """Cells that have more than the file tells, and are not finished."""

    def __post_init__(self) -> None:
        self.due = {config.cell_key(cell): cell for cell in self.asked.cells}

    def __call__(self, done: Sequence[Node]) -> None:
        """Take note of nodes that are done."""
        fresh = {node.id for node in done}
        self.missing -= fresh
        for cell in self.asked.cells if fresh else ():
            key, nodes = config.cell_key(cell), set(config.keys(cell).items())
            if nodes & fresh:
                self.begun[key] = cell
                if not nodes & self.missing:
                    self.due[key] = self.begun.pop(key)
        if self.due:
            try:
                self.kept.write(self.asked, self.due.values())
                self.due.clear()
            except StoreError as error:  # as a full disk, which is no reason to lose what is under way
                self.board.warn(f"not kept yet: {error}")
