"""Compute nodes of cells, as one SLURM task does; `jobs.submit` and slurm/cell.sbatch start it.

    python -m jobs.run_nodes --array FILE [--index N]   task N of an array ($SLURM_ARRAY_TASK_ID)
    python -m jobs.run_nodes CELL... --store STORE      every missing stage of cells, by their keys

Exit code: 0 done, 1 failed, 2 bad input, 75 a rank was lost (the same again may succeed), 128 + signal when stopped.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl.cluster import tasks
from dae_ssl.compute import cells, processes
from dae_ssl.compute.interrupt import die_with_parent
from dae_ssl.compute.nodes import Task, needed
from dae_ssl.compute.processes import Conditions, Output
from dae_ssl.compute.resources import Resources
from dae_ssl.config import ConfigError
from dae_ssl.files import StoreError
from dae_ssl.planning.profile import DEVICES
from dae_ssl.store import Store
from dae_ssl.tracking import runs


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    command = argparse.ArgumentParser(
        prog="python -m jobs.run_nodes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("cells", nargs="*", metavar="CELL", help="key of a cell, as jobs.status and jobs.explain show")
    command.add_argument("--array", type=Path, metavar="FILE", help="the tasks of an array, as jobs.submit wrote them")
    command.add_argument("--index", type=int, default=os.environ.get("SLURM_ARRAY_TASK_ID"), metavar="N")
    command.add_argument(
        "--only", type=int, metavar="N", help="only the task's node N: how a task starts its processes"
    )
    store = Path(os.environ.get("DAE_SSL_STORE", "store"))
    command.add_argument("--store", type=Path, default=store, help=f"with CELL: $DAE_SSL_STORE or ./store; now {store}")
    command.add_argument("--machines", type=int, default=1, help="with CELL: machines that pretrain together")
    command.add_argument("--ranks-per-machine", type=int, default=1, help="with CELL: processes that pretrain on each")
    command.add_argument(
        "--cpus-per-machine", type=int, default=2, help="with CELL: processors that it may use on each"
    )
    command.add_argument("--device", choices=DEVICES, default="auto", help="with CELL: where to compute")
    command.add_argument("--save-seconds", type=float, default=processes.SAVE_SECONDS, help="with CELL")
    command.add_argument("--drop-features", action="store_true", help="with CELL: once all that reads them is done")
    command.add_argument("--mlflow-experiment", default="dae_ssl", metavar="NAME", help="with CELL: its name in MLflow")
    return command


def asked(given: argparse.Namespace) -> tuple[Task, Conditions]:
    """Return what the command line asks for. Raises ConfigError or StoreError."""
    if given.array is not None:
        if given.cells or given.index is None:
            raise ConfigError("--array needs --index N (outside an array task), and no CELL beside it")
        return tasks.read(given.array, given.index)
    if not given.cells:
        raise ConfigError("nothing to compute: name cells by their keys, or --array FILE")
    store, resources = (
        Store(given.store.resolve()),
        Resources(machines=given.machines, ranks_per_machine=given.ranks_per_machine,
                  cpus_per_machine=given.cpus_per_machine),
    )  # fmt: skip
    wanted = needed(cells.known(key, store) for key in given.cells)
    conditions = Conditions(store=store.root, resources=resources, device=given.device,
                            save_seconds=given.save_seconds, mlflow_experiment=given.mlflow_experiment,
                            keep_features=not given.drop_features)  # fmt: skip
    return Task(0, tuple(wanted.values())), conditions


def main(arguments: Sequence[str]) -> int:
    """Compute them and return the exit code."""
    given = parser().parse_args(arguments)
    if "RANK" in os.environ:
        die_with_parent()
    try:
        task, conditions = asked(given)
    except (ConfigError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    this = [sys.executable, "-m", "jobs.run_nodes"]
    copying = runs.copying(Store(conditions.store), conditions.mlflow_experiment)
    if given.only is not None:
        return processes.run_here(task.nodes[given.only], conditions, Output(copying=copying))
    return processes.run(task, conditions, [*this, *arguments], Output(copying=copying))


if __name__ == "__main__":
    sys.exit(processes.accounted(lambda: main(sys.argv[1:])))
