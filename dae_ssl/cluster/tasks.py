"""Write and read the file of an array: one line on how its tasks are computed, then one line per task."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dae_ssl import config
from dae_ssl.compute.nodes import Node, NodeId, Task
from dae_ssl.compute.processes import Conditions
from dae_ssl.config import Cell, ConfigError
from dae_ssl.files import StoreError


def lines(
    conditions: Conditions, tasks: Iterable[Task], settings: Callable[[Cell], Mapping[str, Any]] = config.settings
) -> Iterator[str]:
    """Yield the lines of the file: how all tasks are computed, then each task with the settings of its nodes' cells."""
    yield json.dumps(conditions.plain())
    for task in tasks:
        nodes = [{"stage": node.stage, "key": node.key, "settings": settings(node.cell)} for node in task.nodes]
        yield json.dumps({"index": task.index, "nodes": nodes})


def read(path: Path, index: int) -> tuple[Task, Conditions]:
    """Return the task at an index, and how it is computed.

    Raises StoreError if the file is damaged or lacks the index, ConfigError for a cell that this version cannot read.
    """
    with _explained(path), path.open() as file:
        conditions = Conditions.of(json.loads(next(file)))
        for line in file:
            task = json.loads(line)
            if task["index"] == index:
                return Task(
                    index, tuple(Node.of(node["settings"], node["stage"]) for node in task["nodes"])
                ), conditions
    raise StoreError(f"{path} has no task {index}: submit again, which writes a new file")


def nodes(path: Path) -> dict[int, list[NodeId]]:
    """Return the nodes of each task, by its index. Raises StoreError if the file cannot be read."""
    with _explained(path):
        listed = [json.loads(line) for line in path.read_text().splitlines()[1:]]
        return {int(task["index"]): [(node["stage"], node["key"]) for node in task["nodes"]] for task in listed}


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        if isinstance(error, ConfigError):
            raise
        raise StoreError(f"{path} does not describe the tasks of an array: {error!r}") from error
