"""How long tests wait for what must happen: a bound against hanging, far above what a busy machine needs."""

import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 300.0
"""Seconds. A process that something must end sleeps for longer, so that it cannot end by itself meanwhile."""


def until(happened: Callable[[], object], otherwise: Callable[[], object] = lambda: "it never happened") -> None:
    """Wait until something has happened; fail with what `otherwise` says when patience is over."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)


def ended(process: Path) -> bool:
    """Return whether a process, given by its folder in /proc, has ended, waited for by its parent or not."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
