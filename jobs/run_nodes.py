"""Compute nodes of cells, as one SLURM task does; `jobs.submit` and slurm/cell.sbatch start it.

    python -m jobs.run_nodes --array FILE [--index N]   task N of an array ($SLURM_ARRAY_TASK_ID)
    python -m jobs.run_nodes CELL... --store STORE      every missing stage of cells, by their keys
    python -m jobs.run_nodes --lane --store STORE       the nodes that its standard input names, one by one

Exit code: 0 done, 1 failed, 2 bad input, 75 a rank was lost (the same again may succeed), 128 + signal when stopped.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dae_ssl.batch import lane, tasks
from dae_ssl.batch.interrupt import die_with_parent
from dae_ssl.batch.profile import DEVICES, Resources
from dae_ssl.config import ConfigError
from dae_ssl.store import Store, StoreError


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
    command.add_argument("--lane", action="store_true", help="the nodes that the standard input names, one by one")
    store = Path(os.environ.get("DAE_SSL_STORE", "store"))
    command.add_argument("--store", type=Path, default=store, help=f"with CELL: $DAE_SSL_STORE or ./store; now {store}")
    command.add_argument("--nodes", type=int, default=1, help="with CELL: machines that pretrain together")
    command.add_argument("--ranks-per-node", type=int, default=1, help="with CELL: processes that pretrain on each")
    command.add_argument("--cpus-per-node", type=int, default=2, help="with CELL: processors that it may use on each")
    command.add_argument("--device", choices=DEVICES, default="auto", help="with CELL: where to compute")
    command.add_argument("--save-seconds", type=float, default=tasks.SAVE_SECONDS, help="with CELL: how often to save")
    command.add_argument("--mlflow-experiment", default="dae_ssl", metavar="NAME", help="with CELL: its name in MLflow")
    return command


def work(given: argparse.Namespace) -> tasks.Work:
    """Return what the command line asks for. Raises ConfigError or StoreError."""
    if given.array is not None:
        if given.cells or given.index is None:
            raise ConfigError("--array needs --index N (outside an array task), and no CELL beside it")
        return tasks.read(given.array, given.index)
    if not given.cells and not given.lane:
        raise ConfigError("nothing to compute: name cells by their keys, or --array FILE")
    store, resources = (
        Store(given.store.resolve()),
        Resources(nodes=given.nodes, ranks_per_node=given.ranks_per_node, cpus_per_node=given.cpus_per_node),
    )
    items = tuple(item for key in given.cells for item in tasks.items(store, key))
    return tasks.Work(store=store.root, resources=resources, items=items, device=given.device,
                      save_seconds=given.save_seconds, mlflow_experiment=given.mlflow_experiment)  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Compute them and return the exit code."""
    given = parser().parse_args(arguments)
    if "RANK" in os.environ:
        die_with_parent()
    try:
        wanted = work(given)
    except (ConfigError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    this = [sys.executable, "-m", "jobs.run_nodes"]
    if given.lane:
        options = [argument for argument in arguments if argument != "--lane"]
        return lane.serve(wanted, lambda cell: [*this, cell, *options])
    if given.only is not None:
        return tasks.run_here(wanted, wanted.items[given.only])
    return tasks.run(wanted, [*this, *arguments])


if __name__ == "__main__":
    sys.exit(tasks.accounted(lambda: main(sys.argv[1:])))
