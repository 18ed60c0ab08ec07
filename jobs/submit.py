"""Send what an experiment lacks as SLURM arrays and return at once; or compute it here, with profile=local.

python -m jobs.submit experiment=methods profile=gpu4
python -m jobs.submit experiment=methods profile=gpu4 only=pretrain      or several stages: only=[pretrain,features]
python -m jobs.submit experiment=tour profile=local
python -m jobs.submit experiment=study profile=local minutes=25 archive=study.jsonl

  minutes=N            stop after so many with what is under way saved: the next cells in order, as time permits
  parallel=N           so many nodes at the same time; two on each GPU, one without, k-means beside them
  archive=FILE         write what the store has of these cells to a file of results, after every finished cell
  weights=true         and their final encoders beside it, as jobs.results does
  only=STAGE           nothing of other stages, so that GPUs pretrain and other machines evaluate

The same command again sends only what is missing and not queued. Nothing that is killed, this command included, loses
anything.
"""

import shlex
import sys
import time
from collections.abc import Hashable, Sequence

from dae_ssl import config
from dae_ssl.cluster import launch, queue
from dae_ssl.compute import cells, nodes
from dae_ssl.compute.nodes import NodeId
from dae_ssl.config import Cell, require
from dae_ssl.data import prepared
from dae_ssl.lock import held
from dae_ssl.planning import plan
from dae_ssl.tracking import server
from jobs import experiment, here
from jobs.experiment import Asked
from jobs.plan import print_arrays, spots

OPTIONS = {"minutes": None, "parallel": None, "archive": None, "weights": None, "only": None}
"""This command's own, with their defaults."""
MINUTES = 10**7
"""Nineteen years."""
LOCAL = {"minutes": "SLURM has time limits", "parallel": "SLURM has arrays, and packing",
         "archive": "jobs.results saves", "weights": "jobs.results saves"}  # fmt: skip
"""What only a local run has, and what there is instead."""


def main(arguments: Sequence[str]) -> int:
    """Send or compute; return the exit code."""
    began = time.monotonic()
    asked = experiment.asked(arguments, **OPTIONS)
    require_possible(asked)
    there, stages = nodes.finished(nodes.needed(asked.cells), asked.store), plan.chosen(asked.options["only"])
    for cell in {needs_of_data(cell): cell for cell in asked.cells if not wanted(cell, stages) <= there}.values():
        prepared.require_fits(asked.store, cell)
    if asked.profile.launcher == "slurm":
        return send(asked, same_cells(arguments))
    return here.compute(asked, lambda: experiment.asked(arguments, **OPTIONS), same_cells(arguments), began)


def require_possible(asked: Asked) -> None:
    """Raise ConfigError for an option that cannot be, or not with this profile."""
    options = asked.options
    for name, instead in LOCAL.items():
        local = asked.profile.launcher == "local" or options[name] == OPTIONS[name]
        require(local, "profile", asked.profile.name, f"a local one with {name}; {instead}")
    minutes, several = options["minutes"], options["parallel"]
    number = isinstance(minutes, int | float) and not isinstance(minutes, bool)
    timed = minutes is None or (number and 0 < minutes <= MINUTES)
    require(timed, "minutes", minutes, f"a number above 0, {MINUTES} at most")
    counted = several is None or (isinstance(several, int) and not isinstance(several, bool) and several >= 1)
    require(counted, "parallel", several, "a whole number above 0")
    beside = options["weights"] is None or options["weights"] is False or options["archive"] is not None
    require(beside, "weights", options["weights"], "false, or name an archive=FILE, beside which they are written")


def wanted(cell: Cell, stages: frozenset[str]) -> set[NodeId]:
    """Return the nodes of a cell that are of some stages."""
    return {id for id in config.keys(cell).items() if id[0] in stages}


def needs_of_data(cell: Cell) -> Hashable:
    """Return all of a cell that decides whether its prepared data can serve it."""
    kind = cell.method.trains, cell.method.has_encoder
    return cell.data, cell.views.crop, cell.optimisation.batch_size, cell.probe.labels_per_class, kind


def send(asked: Asked, same: Sequence[str]) -> int:
    """Send the arrays of what is missing and not queued."""
    size = queue.array_size()
    with held(asked.store.launching):
        launch.adopt(asked.store)
        active = spots(launch.active(asked.store, queue.queue()))
        planned = plan.make(asked.cells, asked.store, asked.profile, queued=active, array_size=size,
                            stages=plan.chosen(asked.options["only"]))  # fmt: skip
        print_arrays(planned)
        if planned.queued:
            print(f"{len(planned.queued)} nodes are queued or running already")
        if not planned.arrays:
            describe(asked)
            return 0
        sent = launch.intend(planned, asked.store, asked.profile, experiment=asked.experiment.name,
                             mlflow_experiment=asked.mlflow_experiment)  # fmt: skip
        describe(asked)  # once nothing can refuse the submission
        if asked.profile.tracking_uri is not None:  # before any two tasks could find no experiment and create it
            server.announce(asked.profile.tracking_uri, asked.mlflow_experiment)
        launch.send(sent, planned, asked.store, asked.profile)
    print(f"python -m jobs.status {shlex.join(same)} --watch")
    return 0


def describe(asked: Asked) -> None:
    """Write down what the cells are, so that they can be copied to MLflow, whoever computed their nodes."""
    for cell in asked.cells:
        cells.describe(cell, asked.store)


def same_cells(arguments: Sequence[str]) -> list[str]:
    """Return what other commands on the same cells take of this one's arguments."""
    return [argument for argument in arguments if argument.partition("=")[0] not in OPTIONS]


if __name__ == "__main__":
    experiment.run(main, sys.argv[1:], __doc__)
