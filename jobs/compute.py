"""Compute nodes of cells, as a task of a job does.

  dae-ssl compute --array FILE --index 3     task 3 of an array, else task $SLURM_ARRAY_TASK_ID
  dae-ssl compute KEY...                     every missing stage of cells that the store describes
  dae-ssl compute method=dae seed=5          every missing stage of one cell, by its settings

`dae-ssl submit` and slurm/cell.sbatch start it. Exit code: 0 done, 1 failed, 2 bad input, 75 a rank was lost (the same
again may succeed), 128 + signal when stopped.
"""

import argparse
import os
import sys

from dae_ssl.compute import cells
from dae_ssl.compute.nodes import Task, needed
from dae_ssl.compute.processes import SAVE_SECONDS, Conditions
from dae_ssl.compute.resources import Resources
from dae_ssl.config import Cell, ConfigError
from dae_ssl.planning.profile import DEVICES
from dae_ssl.store import Store
from jobs import grammar
from jobs.asked import CHANGES, add_changes, add_mlflow_experiment, add_words, apart, one_cell, setting_words
from jobs.endings import ended

MONTH = 30 * 24 * 3600
"""Seconds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add cells or the task of an array, and what they are computed with."""
    add_words(parser, "KEY... | NAME=VALUE...", "whole keys of cells in the store; or settings, as method=dae seed=5",
              lambda: setting_words(["seed", *CHANGES]))  # fmt: skip
    add_changes(parser)
    count, index = grammar.whole(), grammar.whole(0)
    parser.add_argument("--array", type=grammar.path, metavar="FILE", help="tasks, as `dae-ssl submit` wrote them")
    parser.add_argument("--index", type=index, default=os.environ.get("SLURM_ARRAY_TASK_ID"), metavar="N",
                        help="which of these tasks; $SLURM_ARRAY_TASK_ID, where that is set")  # fmt: skip
    parser.add_argument("--only", type=index, metavar="N", help="the task's node N: how a task starts its processes")
    beside = parser.add_argument_group("with cells")
    beside.add_argument("--machines", type=count, default=1, metavar="N", help="machines that pretrain together")
    beside.add_argument(
        "--ranks-per-machine", type=count, default=1, metavar="N", help="processes that pretrain on each"
    )
    beside.add_argument("--cpus-per-machine", type=count, default=2, metavar="N", help="processors it may use on each")
    beside.add_argument("--device", type=grammar.one_of(DEVICES), default="auto", metavar="NAME",
                        help=f"{', '.join(DEVICES)} (auto)")  # fmt: skip
    beside.add_argument("--save-seconds", type=grammar.above_0(MONTH), default=SAVE_SECONDS, metavar="N",
                        help=f"how often state is saved ({SAVE_SECONDS:g})")  # fmt: skip
    beside.add_argument("--drop-features", action="store_true", help="features go once all that reads them is done")
    add_mlflow_experiment(beside)


def cells_of(given: argparse.Namespace, store: Store) -> list[Cell]:
    """Return the cells that the words name; a cell of settings is written down in the store. Raises ConfigError."""
    keys, settings = apart(given.words)
    if settings or given.scale or given.variant:
        cell = one_cell(given.words, given)
        cells.describe(cell, store)
        return [cell]
    return [cells.known(key, store) for key in keys]


def asked(given: argparse.Namespace) -> tuple[Task, Conditions]:
    """Return what the command line asks for. Raises ConfigError or StoreError."""
    if given.array is not None:
        from dae_ssl.cluster import tasks

        if given.words or given.index is None:
            raise ConfigError("--array needs --index N (outside an array task), and no CELL beside it")
        return tasks.read(given.array, int(given.index))
    if not given.words:
        raise ConfigError("nothing to compute: name cells by their keys, one by its settings, or --array FILE")
    store = Store(given.store.resolve())
    resources = Resources(machines=given.machines, ranks_per_machine=given.ranks_per_machine,
                          cpus_per_machine=given.cpus_per_machine)  # fmt: skip
    wanted = needed(cells_of(given, store))
    conditions = Conditions(store=store.root, resources=resources, device=given.device,
                            save_seconds=given.save_seconds, mlflow_experiment=given.mlflow_experiment,
                            keep_features=not given.drop_features)  # fmt: skip
    return Task(0, tuple(wanted.values())), conditions


def run(given: argparse.Namespace) -> int:
    """Compute them, and return the exit code, which the batch script is told too."""
    from dae_ssl.compute import processes

    def compute() -> int:
        try:
            return work(given)
        except (Exception, KeyboardInterrupt) as error:
            return ended(error)

    return processes.accounted(compute)


def work(given: argparse.Namespace) -> int:
    """Compute what is asked for; return the exit code."""
    from dae_ssl.compute import processes
    from dae_ssl.compute.interrupt import die_with_parent
    from dae_ssl.compute.processes import Output
    from dae_ssl.tracking import runs

    if "RANK" in os.environ:
        die_with_parent()
    task, conditions = asked(given)
    this = [sys.executable, "-m", "jobs", "compute"]
    copying = runs.copying(Store(conditions.store), conditions.mlflow_experiment)
    if given.only is not None:
        return processes.run_here(task.nodes[given.only], conditions, Output(copying=copying))
    return processes.run(task, conditions, [*this, *given.arguments], Output(copying=copying))
