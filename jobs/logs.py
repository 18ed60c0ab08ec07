"""Show what a cell's tasks printed and what its nodes logged.

  dae-ssl logs CELL
  dae-ssl logs CELL pretrain --lines 30

CELL is the key that `dae-ssl status` shows, or the first characters of it; or the settings of a cell.
"""

import argparse
import time
from collections import deque
from collections.abc import Iterable

from dae_ssl import config
from dae_ssl.cluster import submissions
from dae_ssl.compute import log
from dae_ssl.compute.nodes import Node, needed
from dae_ssl.config import ConfigError, closest
from dae_ssl.store import Store
from jobs import asked, grammar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a cell, one of its stages, and the number of lines."""
    asked.add_cell(parser, "CELL [STAGE]")
    parser.add_argument("--lines", type=grammar.whole(), default=10, metavar="N",
                        help="number of lines from the end of each log; default: 10")  # fmt: skip


def run(given: argparse.Namespace) -> int:
    """Print the path and the last lines of each stage's logs."""
    names, settings = asked.apart(given.words)
    stages = [name for name in names if name in config.STAGES]
    if len(stages) > 1 or len(names) - len(stages) > 1:
        hint, choices = closest(names[1], config.STAGES), ", ".join(config.STAGES)
        raise ConfigError(f"{' '.join(names)!r}: {hint}name one cell, and at most one stage of {choices}")
    cell = asked.one_cell([*(name for name in names if name not in stages), *settings], given)
    show(Store(given.store), needed([cell]).values(), stages[0] if stages else None, given.lines)
    return 0


def show(store: Store, wanted: Iterable[Node], only: str | None, lines: int) -> None:
    """Print the last lines of the logs of nodes, or only of those of one stage."""
    sent = submissions.sent(store)
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
