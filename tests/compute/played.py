"""Lanes without torch: their processes are real, but what they run is a few lines that play the part of a lane."""

import sys
from collections.abc import Callable
from pathlib import Path

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute.lanes import Lane
from dae_ssl.compute.nodes import Node, needed
from dae_ssl.compute.order import Order
from dae_ssl.compute.running import Round
from dae_ssl.compute.shares import Kind
from dae_ssl.config import Cell
from dae_ssl.store import Store

ALL = frozenset(config.STAGES)


def cell(seed: int) -> Cell:
    return config.cell({}, method={"name": "ae"}, seed=seed)


def nodes(cells: int) -> list[Node]:
    """Return the nodes of some cells, cell after cell."""
    return [node for seed in range(cells) for node in needed([cell(seed)]).values()]


def name(node: Node) -> str:
    """Return what tests call a node: its stage and the seed of its cell."""
    return f"{node.stage} {node.cell.seed}"


PLAYS = """
import json, os, pathlib, signal, sys, time
def say(*answer): print(json.dumps(answer), flush=True)
here = pathlib.Path(sys.argv[1])
for line in sys.stdin:
    given = json.loads(line)
    stage, seed = given["stage"], given["settings"]["seed"]
    with (here / "begun").open("a") as file: file.write(f"{stage} {seed} {os.getpid()}\\n")
    tries = sum(l.startswith(f"{stage} {seed} ") for l in (here / "begun").open())
    code = 0
"""


class Shown:
    """Takes what would be shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def called(self, node: Node) -> str:
        return f"cell {node.cell.seed}"

    def tell(self, line: str) -> None:
        self.lines.append(line)

    def warn(self, line: str) -> None:
        self.lines.append(f"! {line}")

    def progress(self, lane: int, what: str, done: int, total: int) -> None:
        self.lines.append(f"lane {lane}, {what} {done}/{total}")

    def still(self, lane: int) -> None:
        pass


class Played:
    """Runs an order on lanes that play: `program` is what each does with a node, of a `stage` and a `seed`."""

    def __init__(self, tmp_path: Path, program: str, cells: int = 2, lanes: int = 2, max_failures: int = 3) -> None:
        body = "".join(f"    {line}\n" for line in (*program.splitlines(), "say('ended', code)"))
        (tmp_path / "play.py").write_text(PLAYS + body)
        command = [sys.executable, str(tmp_path / "play.py"), str(tmp_path)]
        self.lanes = [Lane(number, Kind(), command) for number in range(lanes)]
        self.order, self.shown, self.folder = Order(nodes(cells), max_failures), Shown(), tmp_path
        self.store = Store(tmp_path / "store")
        self.done: list[str] = []

    def run(self, stop: Callable[[], bool] = lambda: False) -> None:
        work = Round(self.order, self.lanes, self.shown, self.store)
        try:
            work.to_the_end(stop, lambda done: self.done.extend(map(name, done)))
        finally:
            for lane in self.lanes:
                lane.kill()

    def begun(self) -> list[tuple[str, int]]:
        """Return what was begun, and by which process, in order."""
        lines = (self.folder / "begun").read_text().splitlines() if (self.folder / "begun").exists() else []
        return [(line.rpartition(" ")[0], int(line.rpartition(" ")[2])) for line in lines]

    def states(self) -> list[str]:
        return [self.order.states[node.id] for node in self.order.nodes]
