"""What the person who watches a run is shown: what it takes for that, and plain lines."""

import sys
from typing import Protocol

from dae_ssl import config
from dae_ssl.compute.nodes import Node


class Show(Protocol):
    """What the person who watches is shown."""

    def called(self, node: Node) -> str:
        """Return what people call a node."""

    def tell(self, line: str) -> None:
        """Show what happens."""

    def warn(self, line: str) -> None:
        """Show what goes wrong."""

    def progress(self, lane: int, what: str, done: int, total: int) -> None:
        """Show how far a lane is with what it does."""

    def still(self, lane: int) -> None:
        """Show that a lane does nothing more of that."""


class Lines:
    """Prints a line for whatever happens, and no progress."""

    def called(self, node: Node) -> str:
        return config.title(node.cell)

    def tell(self, line: str) -> None:
        print(line, flush=True)

    def warn(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def progress(self, lane: int, what: str, done: int, total: int) -> None:
        """Print nothing: a line for every step would be too many."""

    def still(self, lane: int) -> None:
        """There is nothing to take away."""
