"""Send what an experiment lacks as SLURM arrays and return at once; or compute it here, with profile=local.

python -m jobs.submit experiment=methods profile=gpu4
python -m jobs.submit experiment=tour profile=local
python -m jobs.submit experiment=study profile=local minutes=25     the next cells in order, as time permits

The same command again sends only what is missing and not queued. Nothing that is killed, this command included, loses
anything.
"""

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from types import FrameType

from dae_ssl import config, data
from dae_ssl.batch import cells, launch, plan, queue, server, tasks
from dae_ssl.batch.interrupt import StopRequest, stop_requests
from dae_ssl.config import Cell, require
from dae_ssl.lock import held
from dae_ssl.store import StoreError
from jobs import experiment
from jobs.experiment import Asked
from jobs.plan import print_arrays, spots
from jobs.terminal import Terminal


def main(arguments: Sequence[str]) -> int:
    """Send or compute; return the exit code."""
    asked = experiment.asked(arguments, minutes=None)
    minutes, local = asked.options["minutes"], asked.profile.launcher == "local"
    positive = isinstance(minutes, int | float) and not isinstance(minutes, bool) and minutes > 0
    require(minutes is None or positive, "minutes", minutes, "a number above 0")
    require(minutes is None or local, "profile", asked.profile.name, "a local one with minutes; SLURM has time limits")
    there = plan.finished(plan.nodes(asked.cells), asked.store)
    unfinished = [cell for cell in asked.cells if not set(config.keys(cell).items()) <= there]
    for cell in {needs_of_data(cell): cell for cell in unfinished}.values():
        data.require_fits(asked.store, cell)
    return here(asked, lambda: experiment.asked(arguments, minutes=None)) if local else send(asked)


def needs_of_data(cell: Cell) -> Hashable:
    """Return all of a cell that decides whether its prepared data can serve it."""
    kind = cell.method.trains, cell.method.has_encoder
    return cell.data, cell.views.crop, cell.optimisation.batch_size, cell.probe.labels_per_class, kind


def send(asked: Asked) -> int:
    """Send the arrays of what is missing and not queued."""
    size = queue.array_size()
    with held(asked.store.launching):
        launch.adopt(asked.store)
        active = spots(launch.active(asked.store, queue.queue()))
        planned = plan.make(asked.cells, asked.store, asked.profile, queued=active, array_size=size)
        print_arrays(planned)
        if planned.queued:
            print(f"{len(planned.queued)} nodes are queued or running already")
        if not planned.arrays:
            describe(asked)
            return 0
        sent = intend(asked, planned)
        if asked.profile.tracking_uri is not None:  # before any two tasks could find no experiment and create it
            server.announce(asked.profile.tracking_uri, asked.mlflow_experiment)
        launch.send(sent, planned, asked.store, asked.profile)
    print(f"python -m jobs.status {shlex.join(sys.argv[1:])} --watch")
    return 0


def intend(asked: Asked, planned: plan.Plan) -> launch.Launch:
    """Write down what is to be computed: the submission, and once nothing can refuse that, its cells."""
    sent = launch.intend(planned, asked.store, asked.profile, experiment=asked.experiment.name,
                         mlflow_experiment=asked.mlflow_experiment)  # fmt: skip
    describe(asked)
    return sent


def describe(asked: Asked) -> None:
    """Write down what the cells are, so that they can be copied to MLflow, whoever computed their nodes."""
    for cell in asked.cells:
        cells.describe(cell, asked.store)


def here(asked: Asked, again: Callable[[], Asked]) -> int:
    """Compute what is missing in this process, cell after cell; what one fails at leaves the others alone.

    Results may ask for more cells, as a grid goes on where its edge is best: `again` is what is asked for then.
    After `minutes` it stops with what is under way saved, and returns 0: the same command goes on.
    """
    minutes, before = asked.options["minutes"], set[plan.NodeId]()
    server.copied_here(asked.store.root)
    with stop_requests() as request, alarm(minutes) as rang:
        while True:
            planned = plan.make(asked.cells, asked.store, asked.profile, queued={}, array_size=10**9)
            missing = {node.id for node in planned.missing()}
            if not missing:
                describe(asked)
                print(f"{'everything is there' if before else 'nothing is missing'}: "
                      f"python -m jobs.report {shlex.join(sys.argv[1:])}")  # fmt: skip
                return 0
            if missing == before:
                raise StoreError(f"{asked.store.root}: {len(missing)} nodes were computed and are not there: {missing}")
            code = run_all(asked, planned, request)
            if rang.is_set() and code == 128 + signal.SIGTERM:
                left = len(plan.nodes(asked.cells)) - len(plan.finished(plan.nodes(asked.cells), asked.store))
                print(f"stopped after {minutes:g} minutes, as asked; {left} nodes are left: the same command goes on")
                return 0
            if code:
                return code
            asked, before = again(), missing


@contextlib.contextmanager
def alarm(minutes: float | None) -> Iterator[threading.Event]:
    """Ask this process to stop after so many minutes, as SLURM would; the event tells that it was for this reason."""
    rang = threading.Event()

    def ring(_number: int, _frame: FrameType | None) -> None:
        rang.set()
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 60 * (minutes or 0))  # 0 sets none
    try:
        yield rang
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_all(asked: Asked, planned: plan.Plan, stop: StopRequest) -> int:
    """Run every task, those of the first cells first; return the exit code."""
    sent = intend(asked, planned)
    for array in planned.arrays:
        sent.settle(array.name, None)
    places = {id: place for place, cell in reversed(list(enumerate(asked.cells))) for id in config.keys(cell).items()}
    every = [(array, task) for array in planned.arrays for task in array.tasks]
    every.sort(key=lambda item: (min(places[node.id] for node in item[1].nodes), config.STAGES.index(item[0].stage)))
    failed: set[plan.NodeId] = set()
    labels = {config.cell_key(cell): label for label, cell in asked.labelled}
    for number, (array, task) in enumerate(every, 1):
        if stop.number is not None:
            return 128 + stop.number
        if any(node.parent in failed for node in task.nodes):
            failed |= {node.id for node in task.nodes}
            print(f"[{number}/{len(every)}] {array.stage}: left out, since what it reads failed")
            continue
        file = sent.folder.product(f"{array.name}.jsonl")
        command = [sys.executable, "-m", "jobs.run_nodes", "--array", str(file), f"--index={task.index}"]
        with Terminal(silent=False) as terminal:
            for node in task.nodes:
                terminal.tell(f"[{number}/{len(every)}] {array.stage} {node.key}: {title(node, labels)}")
            code = tasks.run(tasks.read(file, task.index), command, tasks.Told(terminal.tell, terminal.progress))
        if code > 2:
            return code
        failed |= {node.id for node in task.nodes if code}
    if failed:
        print(f"{len(failed)} nodes failed: python -m jobs.status {shlex.join(sys.argv[1:])}", file=sys.stderr)
    return 1 if failed else 0


def title(node: plan.Wanted, labels: Mapping[str, str]) -> str:
    """Return what a node is, for people; of a shared one, a cell that needs it."""
    others = f" and {node.cells - 1} more cells" if node.cells > 1 else ""
    return f"{labels[config.cell_key(node.cell)]}{others}"


if __name__ == "__main__":
    experiment.run(main, sys.argv[1:], __doc__)
