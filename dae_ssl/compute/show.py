"""The interface to whatever shows a run to the user, and plain lines as its simplest form."""

import sys
from typing import Protocol

from dae_ssl import config
from dae_ssl.compute.nodes import Node


class Show(Protocol):
    """Shows a run to the user."""

    def called(self, node: Node) -> str:
        """Return the name of a node for the user."""

    def tell(self, line: str) -> None:
        """Show a message."""

    def warn(self, line: str) -> None:
        """Show a warning."""

    def progress(self, lane: int, what: str, done: int, total: int) -> None:
        """Show how many of `total` parts of its work a lane has done."""

    def still(self, lane: int) -> None:
        """Remove the progress of a lane, whose work has ended."""


class Lines:
    """Prints a line for each message and warning, and no progress."""

    def called(self, node: Node) -> str:
        return f"{node.cell.method.name}, seed {node.cell.seed}, cell {config.cell_key(node.cell)}"

    def tell(self, line: str) -> None:
        print(line, flush=True)

    def warn(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def progress(self, lane: int, what: str, done: int, total: int) -> None:
        """Print nothing: a line for every step would be too many."""

    def still(self, lane: int) -> None:
        """Do nothing, as no progress is shown."""
