"""Compute what an experiment lacks, on SLURM or on this machine.

  dae-ssl submit methods --profile gpu4
  dae-ssl submit methods --profile gpu4 --only pretrain,features
  dae-ssl submit tour                                                  here, with the profile local
  dae-ssl submit study --minutes 25 --archive study.jsonl --weights    the next cells in order, as time permits

On SLURM arrays of what is missing are sent, and it returns at once. The same command again sends or computes only what
is missing and not queued. Nothing that is killed, this command included, loses anything.
"""

import argparse
import shlex
import time

from dae_ssl import config
from dae_ssl.cluster import launch, queue, submissions
from dae_ssl.compute import cells, nodes
from dae_ssl.config import ConfigError, require
from dae_ssl.data import prepared
from dae_ssl.lock import held
from dae_ssl.planning import plan
from jobs import grammar, here, results
from jobs.asked import Asked, add_experiment, experiment
from jobs.plan import add_only, planned_with_queue, print_arrays, spots

MINUTES = 10**7
"""Nineteen years."""
LOCAL = {"minutes": "SLURM has time limits", "parallel": "SLURM has arrays, and packing",
         "archive": "`dae-ssl results save` keeps them", "weights": "`dae-ssl results save` keeps them"}  # fmt: skip
"""What only a local run has, and what there is instead."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an experiment, and how it is computed."""
    add_experiment(parser)
    add_only(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be sent or computed, and do nothing")
    here = parser.add_argument_group("with a local profile")
    here.add_argument("--minutes", type=grammar.above_0(MINUTES), metavar="N",
                      help="stop after so many with what is under way saved")  # fmt: skip
    here.add_argument("--parallel", type=grammar.whole(), metavar="N",
                      help="nodes at the same time; two on each GPU, one without, k-means beside them")  # fmt: skip
    here.add_argument("--archive", metavar="FILE",
                      help="write what the store has of these cells to a file of results, after every finished cell"
                      )  # fmt: skip
    results.add_weights(here)


def run(given: argparse.Namespace) -> int:
    """Send or compute; return the exit code."""
    began = time.monotonic()
    asked = experiment(given)
    require_possible(asked)
    if given.dry_run:
        return foresee(asked)
    if asked.profile.launcher == "slurm":
        return send(asked)
    return here.compute(asked, lambda: experiment(given), began)


def require_possible(asked: Asked) -> None:
    """Raise ConfigError for an option that cannot be with this profile, or alone."""
    for name, instead in LOCAL.items():
        local = asked.profile.launcher == "local" or asked.options[name] is None
        require(local, "--profile", asked.profile.name, f"a local one with --{name}; {instead}")
    weights, archive = asked.options["weights"], asked.options["archive"]
    if weights is not None and archive is None:
        raise ConfigError("--weights needs --archive FILE, beside which they are written")


def foresee(asked: Asked) -> int:
    """Print the arrays that would be sent, or whose nodes would be computed here."""
    active, planned = planned_with_queue(asked)
    print_arrays(planned)
    if active:
        print(f"{len(active)} nodes are queued or running already")
    return 0


def send(asked: Asked) -> int:
    """Send the arrays of what is missing and not queued."""
    from dae_ssl.tracking import server

    stages = plan.chosen(asked.options["only"])
    there = nodes.finished(nodes.needed(asked.cells), asked.store)
    lacking = [
        cell for cell in asked.cells if any(id not in there and id[0] in stages for id in config.keys(cell).items())
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
        describe(asked)  # once nothing can refuse the submission
        if asked.profile.tracking_uri is not None:  # before any two tasks could find no experiment and create it
            server.announce(asked.profile.tracking_uri, asked.mlflow_experiment)
        launch.send(sent, planned, asked.store, asked.profile)
    print(f"dae-ssl status {shlex.join(asked.same)} --watch")
    return 0


def describe(asked: Asked) -> None:
    """Write down what the cells are, so that they can be copied to MLflow, whoever computed their nodes."""
    for cell in asked.cells:
        cells.describe(cell, asked.store)
