"""What a person who watches is shown."""

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

from dae_ssl import config
from dae_ssl.compute.nodes import Node

EVERY_SECONDS = 60.0
"""How often progress is printed where there is no terminal."""


class Lanes:
    """Lines, and under them the progress of every lane that works: a bar each, or in a file a line a minute."""

    def __init__(self) -> None:
        self._bars: dict[int, tqdm] = {}
        self._printed: dict[int, tuple[str, float, int, float]] = {}
        """By lane, where there is no terminal: what it does, since when and from where on, and when that was said."""

    def tell(self, line: str) -> None:
        tqdm.write(line)
        sys.stdout.flush()

    def progress(self, lane: int, what: str, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            self._print(lane, what, done, total)
            return
        if lane not in self._bars or self._bars[lane].desc != what:
            self.still(lane)
            self._bars[lane] = tqdm(desc=what, total=total, initial=done, position=lane, leave=False, unit="step")
        self._bars[lane].update(done - self._bars[lane].n)

    def _print(self, lane: int, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        known, since, first, printed = self._printed.get(lane, ("", now, done, now))
        if known != what:
            since, first, printed = now, done, now
        if now - printed >= EVERY_SECONDS:
            print(tqdm.format_meter(done, total, now - since, ncols=0, prefix=what, unit="step", initial=first),
                  file=sys.stderr)  # fmt: skip
            printed = now
        self._printed[lane] = (what, since, first, printed)

    def still(self, lane: int) -> None:
        self._printed.pop(lane, None)
        if lane in self._bars:
            self._bars.pop(lane).close()


class Terminal:
    """What is shown of one cell after another: which stage of how many, and its progress; silent on all other ranks."""

    def __init__(self, stages: int, *, silent: bool) -> None:
        """Take how many stages there will be, over all cells."""
        self._lanes, self._silent = Lanes(), silent
        self._begun, self._stages, self._stage = 0, stages, ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self._lanes.still(0)

    def tell(self, line: str) -> None:
        if not self._silent:
            self._lanes.tell(line)

    def begin(self, stage: str, called: str, *, done: bool) -> None:
        """Say which stage of which cell begins, or that it is done already."""
        self._lanes.still(0)
        self._begun += 1
        self._stage = f"[{self._begun}/{self._stages}] {stage} of {called}"
        self.tell(f"{self._stage}: done already" if done else self._stage)

    def progress(self, _what: str, done: int, total: int) -> None:
        if not self._silent:
            self._lanes.progress(0, self._stage, done, total)


class Board(Lanes):
    """What is shown of an experiment, whose cells are computed on several lanes."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        """Take what people call the cells, by key."""
        super().__init__()
        self.labels = labels

    def called(self, node: Node) -> str:
        others = f" and {node.cells - 1} more cells" if node.cells > 1 else ""
        return f"{self.labels[config.cell_key(node.cell)]}{others}"

    def warn(self, line: str) -> None:
        tqdm.write(line, file=sys.stderr)
