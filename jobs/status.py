"""Show the state of an experiment's cells, and why nodes failed.

  dae-ssl status methods --profile gpu4
  dae-ssl status methods --profile gpu4 --watch       update every few seconds until nothing runs

Each line is a cell, with the state of each of its stages. The exit code is 1 if a node failed.
"""

import argparse
import shlex
from collections.abc import Mapping

from dae_ssl.cluster import queue, status, submissions
from dae_ssl.cluster.status import Seen
from dae_ssl.compute import disk
from dae_ssl.compute.command import run_again
from dae_ssl.compute.nodes import Node, NodeId
from dae_ssl.config import Cell
from jobs import board
from jobs.asked import Asked, add_experiment, experiment
from jobs.plan import make, queued

LAST_LINES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an experiment and `--watch`."""
    add_experiment(parser)
    parser.add_argument("--watch", action="store_true", help="update every few seconds until nothing runs")


def run(given: argparse.Namespace) -> int:
    """Print the table; return 1 if a node failed, or 0."""
    asked = experiment(given)
    if given.watch:
        seen = board.watch(asked.labelled, lambda: look(asked))
    else:
        seen = look(asked)
        board.show(asked.labelled, seen)
    for line in disk.lines(asked.store):
        print(line)
    print_failures(asked, seen)
    return 1 if any(node_state.word == "failed" for node_state, _ in seen.values()) else 0


def look(asked: Asked) -> dict[NodeId, tuple[Seen, Node]]:
    """Return the state of every node of the experiment."""
    active = queued(asked)
    planned = make(asked, active)
    sent = submissions.sent(asked.store)
    over = {task.name for id, task in sent.items() if id in planned.wanted and id not in planned.done | active.keys()}
    ended = queue.ended(sorted(over)) if asked.profile.launcher == "slurm" else {}
    return {
        id: (status.look(asked.store, planned, node, active, sent, ended), node) for id, node in planned.wanted.items()
    }


def print_failures(asked: Asked, seen: Mapping[NodeId, tuple[Seen, Node]]) -> None:
    """Print for each failed node the reason, the end of its log, and the command that computes its cell here."""
    for (stage, key), (state, node) in seen.items():
        if state.word != "failed":
            continue
        print(f"\n{stage} {key} failed: {state.detail}")
        if state.log is not None and state.log.exists():
            print(f"  {state.log}:")
            for line in state.log.read_text(errors="replace").splitlines()[-LAST_LINES:]:
                print(f"    {line}")
        print(f"  to compute the cell on this machine: {command(node.cell, asked)}")


def command(cell: Cell, asked: Asked) -> str:
    """Return the command that computes a cell on this machine."""
    return f"{run_again(cell)} {shlex.join(['--store', str(asked.store.root)])} --no-floors"
