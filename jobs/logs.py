"""Show what the tasks of a cell printed, and what its nodes logged last.

python -m jobs.logs CELL [STAGE] [store=FOLDER] [lines=N]

CELL is its key, as jobs.status shows it, or the beginning of it.
"""

import argparse
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.cluster import launch
from dae_ssl.compute import cells, log
from dae_ssl.compute.nodes import Node, needed
from dae_ssl.config import ConfigError
from dae_ssl.files import StoreError
from dae_ssl.store import Store
from jobs import flags, settings


def main(arguments: Sequence[str]) -> None:
    """Print the last lines of every stage's log, its path before them."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.logs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cell", metavar="CELL")
    parser.add_argument("stage", nargs="?", choices=config.STAGES, metavar="STAGE", help=", ".join(config.STAGES))
    flags.add_store(parser)
    parser.add_argument("--lines", type=int, default=10, metavar="N", help="of each log; 10")
    given = flags.parsed(parser, arguments, "store", "lines")
    store = Store(given.store)
    try:
        show(store, needed([cells.known(_whole(store, given.cell), store)]).values(), given.stage, given.lines)
    except (ConfigError, StoreError) as error:
        settings.fail(error, 2)


def show(store: Store, wanted: Iterable[Node], only: str | None, lines: int) -> None:
    """Print the logs of a cell's nodes."""
    sent = launch.sent(store)
    for node in wanted:
        if only not in (None, node.stage):
            continue
        folder, task = store.node(*node.id), sent.get(node.id)
        print(f"== {node.stage} {node.key}: {'done' if folder.record() else 'not done'}")
        for outcome in task.outcomes() if task else []:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(outcome["time"]))
            print(
                f"   {when} task {outcome['task']} on {outcome['host']}: {outcome['outcome']}, code {outcome['code']}"
            )
        if task and task.printed.exists():
            print(f"-- {task.printed}")
            with task.printed.open(errors="replace") as file:
                print("".join(deque(file, lines)), end="")
        if folder.log.exists():
            print(f"-- {folder.log}")
            for entry in deque(log.read(folder.log), lines):
                when = time.strftime("%H:%M:%S", time.localtime(entry.time))
                words = entry.event or f"step {entry.step}"
                print(
                    f"{when} {words}",
                    *(f"{k}={v}" for k, v in {**entry.terms, **entry.fields}.items() if k != "versions"),
                )


def _whole(store: Store, beginning: str) -> str:
    """Return the key that begins so. Raises StoreError unless it is exactly one."""
    found = [folder.key for folder in store.cells() if folder.key.startswith(beginning)]
    if len(found) != 1:
        raise StoreError(
            f"cell {beginning!r}: {len(found)} cells of {store.root} begin so; jobs.status shows their keys"
        )
    return found[0]


if __name__ == "__main__":
    main(sys.argv[1:])
