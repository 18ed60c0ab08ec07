"""Show how far an experiment is, and why what failed did.

  dae-ssl status methods --profile gpu4
  dae-ssl status methods --profile gpu4 --watch       again every few seconds, until nothing runs

A line for each cell, a word for each stage. Exits 1 if something failed.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Mapping

from dae_ssl import config
from dae_ssl.cluster import launch, queue, status
from dae_ssl.cluster.status import Seen
from dae_ssl.compute.nodes import Node, NodeId
from dae_ssl.config import Cell
from dae_ssl.report.command import run_again
from jobs.asked import Asked, add_experiment, experiment
from jobs.plan import make, queued

EVERY_SECONDS = 5.0
LAST_LINES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an experiment."""
    add_experiment(parser)
    parser.add_argument("--watch", action="store_true", help="again every few seconds, until nothing runs")


def run(given: argparse.Namespace) -> int:
    """Print the table; return 1 if something failed."""
    asked, watch = experiment(given), given.watch
    while True:
        seen = look(asked)
        if watch and sys.stdout.isatty():
            print("\033[2J\033[H", end="")  # clears the screen
        print_table(asked, seen)
        words = {found.word for found, _ in seen.values()}
        if not watch or not words & {"running", "waiting"}:
            print_failures(asked, seen)
            return 1 if "failed" in words else 0
        time.sleep(EVERY_SECONDS)


def look(asked: Asked) -> dict[NodeId, tuple[Seen, Node]]:
    """Return the state of every node of the experiment."""
    active = queued(asked)
    planned = make(asked, active)
    sent = launch.sent(asked.store)
    over = {task.name for id, task in sent.items() if id in planned.wanted and id not in planned.done | active.keys()}
    ended = queue.ended(sorted(over)) if asked.profile.launcher == "slurm" else {}
    return {
        id: (status.look(asked.store, planned, node, active, sent, ended), node) for id, node in planned.wanted.items()
    }


def print_table(asked: Asked, seen: Mapping[NodeId, tuple[Seen, Node]]) -> None:
    """Print a line for each cell, under its row's label."""
    width = max(len(label) for label, _ in asked.labelled)
    print(f"{'':{width}}  {'cell':16}  " + "  ".join(f"{stage:8}" for stage in config.STAGES))
    for label, cell in asked.labelled:
        states = {stage: seen[stage, key][0] for stage, key in config.keys(cell).items()}
        words = "  ".join(f"{_word(states, stage):8}" for stage in config.STAGES)
        print(f"{label:{width}}  {config.cell_key(cell)}  {words}  {_told(states)}".rstrip())
    counts = {word: sum(found.word == word for found, _ in seen.values()) for word in status.WORDS}
    print(f"{len(seen)} nodes: " + ", ".join(f"{count} {word}" for word, count in counts.items() if count))


def _word(states: Mapping[str, Seen], stage: str) -> str:
    if stage not in states:
        return "-"
    return states[stage].detail if stage in ("probe", "kmeans") and states[stage].word == "done" else states[stage].word


def _told(states: Mapping[str, Seen]) -> str:
    """Return what is most worth knowing of a cell's unfinished stages."""
    for word in ("failed", "running", "waiting", "missing"):
        for stage, found in states.items():
            if found.word == word and found.detail:
                return f"{stage}: {found.detail.splitlines()[0]}"
    return ""


def print_failures(asked: Asked, seen: Mapping[NodeId, tuple[Seen, Node]]) -> None:
    """Print of each failed node the reason, the end of its log, and the command that runs its cell here."""
    for (stage, key), (found, node) in seen.items():
        if found.word != "failed":
            continue
        print(f"\n{stage} {key} failed: {found.detail}")
        if found.log is not None and found.log.exists():
            print(f"  {found.log}:")
            for line in found.log.read_text(errors="replace").splitlines()[-LAST_LINES:]:
                print(f"    {line}")
        print(f"  here: {command(node.cell, asked)}")


def command(cell: Cell, asked: Asked) -> str:
    """Return the command that computes a cell here."""
    return f"{run_again(cell)} {shlex.join(['--store', str(asked.store.root)])} --no-floors"
