"""Compute the nodes of cells, as the task of a job does.

  dae-ssl compute --array FILE --index 3     compute task 3 of an array; default: $SLURM_ARRAY_TASK_ID
  dae-ssl compute KEY...                     compute every missing stage of cells that the store describes
  dae-ssl compute method=dae seed=5          compute every missing stage of one cell, given its settings

`dae-ssl submit` and slurm/cell.sbatch start this command. The exit code is 0 when all is done, 1 after a failure, 2 for
bad input, 75 if a rank was lost (a retry may succeed), and 128 + signal if the command was stopped.
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
"""In seconds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the cells or the task of an array, and the resources to compute them with."""
    add_words(parser, "KEY... | NAME=VALUE...", "full keys of cells in the store; or the settings of one cell, such as "
              "method=dae seed=5", lambda: setting_words(["seed", *CHANGES]))  # fmt: skip
    add_changes(parser)
    count, index = grammar.whole(), grammar.whole(0)
    parser.add_argument("--array", type=grammar.path, metavar="FILE", help="file of tasks that `dae-ssl submit` wrote")
    parser.add_argument("--index", type=index, default=os.environ.get("SLURM_ARRAY_TASK_ID"), metavar="N",
                        help="index of the task in this file; default: $SLURM_ARRAY_TASK_ID")  # fmt: skip
    parser.add_argument("--only", type=index, metavar="N",
                        help="compute only the task's node N; a task starts its processes with this flag")  # fmt: skip
    group = parser.add_argument_group("with cells")
    group.add_argument("--machines", type=count, default=1, metavar="N",
                       help="number of machines that pretrain together; default: 1")  # fmt: skip
    group.add_argument("--ranks-per-machine", type=count, default=1, metavar="N",
                       help="number of pretraining processes on each machine; default: 1")  # fmt: skip
    group.add_argument("--cpus-per-machine", type=count, default=2, metavar="N",
                       help="number of CPUs to use on each machine; default: 2")  # fmt: skip
    group.add_argument("--device", type=grammar.one_of(DEVICES), default="auto", metavar="NAME",
                       help=f"one of {', '.join(DEVICES)}; default: auto")  # fmt: skip
    group.add_argument("--save-seconds", type=grammar.above_0(MONTH), default=SAVE_SECONDS, metavar="N",
                       help=f"seconds between saved states of pretraining; default: {SAVE_SECONDS:g}")  # fmt: skip
    group.add_argument("--drop-features", action="store_true",
                       help="delete features once all nodes that read them are done")  # fmt: skip
    add_mlflow_experiment(group)


def cells_of(given: argparse.Namespace, store: Store) -> list[Cell]:
    """Return the cells that the words name; a cell given by settings is described in the store. Raises ConfigError."""
    keys, settings = apart(given.words)
    if settings or given.scale or given.variant:
        cell = one_cell(given.words, given)
        cells.describe(cell, store)
        return [cell]
    return [cells.known(key, store) for key in keys]


def asked(given: argparse.Namespace) -> tuple[Task, Conditions]:
    """Return the task that the command line names, and how to compute it. Raises ConfigError or StoreError."""
    if given.array is not None:
        from dae_ssl.cluster import tasks

        if given.words or given.index is None:
            raise ConfigError("--array needs --index N outside an array task, and cannot be combined with cells")
        return tasks.read(given.array, int(given.index))
    if not given.words:
        raise ConfigError("no cell is named: give keys of cells, the settings of one cell, or --array FILE")
    store = Store(given.store.resolve())
    resources = Resources(machines=given.machines, ranks_per_machine=given.ranks_per_machine,
                          cpus_per_machine=given.cpus_per_machine)  # fmt: skip
    wanted = needed(cells_of(given, store))
    conditions = Conditions(store=store.root, resources=resources, device=given.device,
                            save_seconds=given.save_seconds, mlflow_experiment=given.mlflow_experiment,
                            keep_features=not given.drop_features)  # fmt: skip
    return Task(0, tuple(wanted.values())), conditions


def run(given: argparse.Namespace) -> int:
    """Compute the task and return the exit code, which is recorded for the batch script too."""
    from dae_ssl.compute import processes

    def compute() -> int:
        try:
            return work(given)
        except (Exception, KeyboardInterrupt) as error:
            return ended(error)

    return processes.accounted(compute)


def work(given: argparse.Namespace) -> int:
    """Compute the requested task; return the exit code."""
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
