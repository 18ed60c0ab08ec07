"""Compute what an experiment lacks, on SLURM or on this machine.

  dae-ssl submit methods --profile gpu4
  dae-ssl submit methods --profile gpu4 --only pretrain,features
  dae-ssl submit tour                                                  on this machine, the default profile
  dae-ssl submit study --minutes 25 --archive study.jsonl --weights    the next cells in order, for 25 minutes

With a SLURM profile, the command submits arrays for the missing nodes and returns at once. With a local profile, it
computes them here. The same command again submits or computes only nodes that are missing and not queued. If the
command or a task is killed, finished nodes and saved states are kept.
"""

import argparse
import shlex
import time

from dae_ssl import config
from dae_ssl.cluster import launch, queue, submissions
from dae_ssl.compute import cells, nodes
from dae_ssl.config import ConfigError
from dae_ssl.data import prepared
from dae_ssl.lock import held
from dae_ssl.planning import plan
from jobs import grammar, here, results
from jobs.asked import Asked, add_experiment, experiment
from jobs.plan import add_only, planned_with_queue, print_arrays, spots

MINUTES = 10**7
"""The largest number of minutes, which is nineteen years."""
SLURM_HAS = "submits to SLURM, which has its own"
SAVES = "submits to SLURM; `dae-ssl results save` writes the file when the cells are done"
LOCAL = {"minutes": f"{SLURM_HAS} time limits", "parallel": f"{SLURM_HAS} arrays", "archive": SAVES, "weights": SAVES}
"""The flags that need a local profile, and what a SLURM profile does instead."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an experiment, and how it is computed."""
    add_experiment(parser)
    add_only(parser)
    parser.add_argument("--dry-run", action="store_true", help="list what would be submitted or computed; do nothing")
    here = parser.add_argument_group("with a local profile")
    here.add_argument("--minutes", type=grammar.above_0(MINUTES), metavar="N",
                      help="stop after N minutes and save the state of unfinished nodes")  # fmt: skip
    here.add_argument("--parallel", type=grammar.whole(), metavar="N",
                      help="number of nodes to compute at the same time, k-means not counted; default: two on each "
                      "GPU, or one without a GPU")  # fmt: skip
    here.add_argument("--archive", metavar="FILE",
                      help="write the results of these cells to a file after every finished cell")  # fmt: skip
    results.add_weights(here)


def run(given: argparse.Namespace) -> int:
    """Submit or compute what is missing; return the exit code."""
    began = time.monotonic()
    asked = experiment(given)
    require_possible(asked)
    if given.dry_run:
        return foresee(asked)
    if asked.profile.launcher == "slurm":
        return send(asked)
    return here.compute(asked, lambda: experiment(given), began)


def require_possible(asked: Asked) -> None:
    """Raise ConfigError for a flag that needs another profile or another flag."""
    for name, instead in LOCAL.items():
        if asked.profile.launcher != "local" and asked.options[name] is not None:
            raise ConfigError(f"--{name} needs a local profile; {asked.profile.name} {instead}")
    weights, archive = asked.options["weights"], asked.options["archive"]
    if weights is not None and archive is None:
        raise ConfigError("--weights needs --archive FILE: the encoders belong to a file of results")


def foresee(asked: Asked) -> int:
    """Print the arrays that would be submitted, or whose nodes would be computed here."""
    active, planned = planned_with_queue(asked)
    print_arrays(planned)
    if active:
        print(f"{len(active)} nodes are queued or running already")
    return 0


def send(asked: Asked) -> int:
    """Submit arrays for the nodes that are missing and not queued; return 0."""
    from dae_ssl.tracking import server

    stages = plan.chosen(asked.options["only"])
    done = nodes.finished(nodes.needed(asked.cells), asked.store)
    lacking = [
        cell for cell in asked.cells if any(id not in done and id[0] in stages for id in config.keys(cell).items())
    ]
    prepared.require_all_fit(asked.store, lacking)
    size = queue.array_size()
    with held(asked.store.launching):
        launch.adopt(asked.store)
        active = spots(submissions.active(asked.store, queue.queue()))
        planned = plan.make(asked.cells, asked.store, asked.profile, queued=active, array_size=size,
                            stages=stages)  # fmt: skip
        print_arrays(planned)
        if planned.queued:
            print(f"{len(planned.queued)} nodes are queued or running already")
        if not planned.arrays:
            describe(asked)
            return 0
        sent = launch.intend(planned, asked.store, asked.profile, experiment=asked.experiment.name,
                             mlflow_experiment=asked.mlflow_experiment)  # fmt: skip
        describe(asked)  # after everything that can refuse the submission
        if asked.profile.tracking_uri is not None:  # so that two tasks cannot both create the MLflow experiment
            server.announce(asked.profile.tracking_uri, asked.mlflow_experiment)
        launch.send(sent, planned, asked.store, asked.profile)
    print(f"to watch the tasks: dae-ssl status {shlex.join(asked.same)} --watch")
    return 0


def describe(asked: Asked) -> None:
    """Describe the cells in the store, so that they can be copied to MLflow whoever computes their nodes."""
    for cell in asked.cells:
        cells.describe(cell, asked.store)
