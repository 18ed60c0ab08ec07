"""What a person who watches is shown."""

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

from dae_ssl import config
from dae_ssl.compute.nodes import Node

EVERY_SECONDS = 60.0
"""How often progress is printed where there is no terminal."""


class Terminal:
    """A progress bar, and lines above it; silent on all ranks but the first."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._bar: tqdm | None = None
        self._what = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def tell(self, line: str) -> None:
        if not self._silent:
            tqdm.write(line)
            sys.stdout.flush()

    def progress(self, what: str, done: int, total: int) -> None:
        if self._silent:
            return
        if what != self._what or self._bar is None:
            self.__exit__()
            # On a terminal ten times a second, in a file one line a minute.
            seconds = 0.1 if sys.stderr.isatty() else EVERY_SECONDS
            self._what, self._bar = (
                what,
                tqdm(desc=what, total=total, initial=done - 1, mininterval=seconds, unit="step"),
            )
        self._bar.update(done - self._bar.n)


class Board:
    """Lines, and under them the progress of every lane that works: a bar each, or in a file a line a minute."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        """Take what people call the cells, by key."""
        self.labels = labels
        self._bars: dict[int, tqdm] = {}
        self._printed: dict[int, tuple[str, float, int, float]] = {}
        """By lane, where there is no terminal: what it does, since when and from where on, and when that was said."""

    def called(self, node: Node) -> str:
        others = f" and {node.cells - 1} more cells" if node.cells > 1 else ""
        return f"{self.labels[config.cell_key(node.cell)]}{others}"

    def tell(self, line: str) -> None:
        tqdm.write(line)
        sys.stdout.flush()

    def warn(self, line: str) -> None:
        tqdm.write(line, file=sys.stderr)

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
