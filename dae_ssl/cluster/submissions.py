"""Read submissions from the store: their arrays and tasks, and which nodes SLURM has now.

    STORE/launches/NAME/launch.json     what will be submitted, written before anything is
                        ARRAY.jsonl     the tasks of an array
                        ARRAY.job       the id that SLURM gave the array, written after it was submitted
                        outcomes.jsonl  how each attempt at a task ended

Only `Launch.settle` writes anything: it records SLURM's answer.
"""

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dae_ssl.cluster import tasks
from dae_ssl.cluster.queue import Queued
from dae_ssl.cluster.script import LOGS
from dae_ssl.cluster.snapshot import Source
from dae_ssl.compute.nodes import NodeId
from dae_ssl.files import StoreError, write_json
from dae_ssl.planning.plan import Spot
from dae_ssl.store import LAUNCH, OUTCOMES, Folder, Store


@dataclass(frozen=True)
class Launch:
    """One submission: its folder, and the record of what it was to submit."""

    folder: Folder
    intent: Mapping[str, Any]

    @property
    def experiment(self) -> str:
        return str(self.intent["experiment"])

    @property
    def source(self) -> Source:
        return Source(self.intent["snapshot"], self.intent["commit"], self.intent["image"])

    def arrays(self) -> list[str]:
        """Return the names of its arrays, in the order of submission."""
        return list(self.intent["arrays"])

    def job(self, array: str) -> str | None:
        """Return the id that SLURM gave an array; None if no id is recorded."""
        try:
            job: str | None = json.loads(self.folder.product(f"{array}.job").read_text())["job"]
        except FileNotFoundError:
            return None
        return job

    def open(self, array: str) -> bool:
        """Return whether it is still unknown if an array was submitted."""
        return not self.folder.product(f"{array}.job").exists()

    def owns(self, entry: Queued) -> bool:
        """Return whether a task in SLURM's queue belongs to this submission."""
        return any(self.job(array) == entry.array and self.named(array, entry) for array in self.arrays())

    def named(self, array: str, entry: Queued) -> bool:
        """Return whether a task belongs to an array, by comment or name; a reinstalled cluster gives out ids again."""
        return entry.comment == self.comment(array) or entry.name == self.job_name(array)

    def comment(self, array: str) -> str:
        """Return the comment that identifies an array in SLURM's queue."""
        return f"dae_ssl {self.folder.key} {array}"

    def job_name(self, array: str) -> str:
        """Return the name of an array in the queue; its last part differs for every submission."""
        return f"{self.experiment}.{array}.{self.folder.key.rpartition('-')[2]}"

    @cached_property
    def outcomes(self) -> dict[str, list[dict[str, Any]]]:
        """How each attempt at each task ended, oldest first; read once."""
        by_task: dict[str, list[dict[str, Any]]] = {}
        with contextlib.suppress(FileNotFoundError), self.folder.product(OUTCOMES).open(errors="replace") as file:
            for line in file:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    outcome = dict(json.loads(line))
                    by_task.setdefault(outcome["task"], []).append(outcome)
        return by_task

    def settle(self, array: str, job: str | None) -> None:
        """Record the id of an array that was submitted, or None if it was not."""
        write_json(self.folder.product(f"{array}.job"), {"job": job, "time": time.time()})


def launches(store: Store) -> list[Launch]:
    """Return every submission from this store, oldest first."""
    return [read(folder) for folder in store.launches()]


def read(folder: Folder) -> Launch:
    """Return the submission of a folder. Raises OSError, ValueError or KeyError for a damaged record."""
    return Launch(folder, json.loads(folder.product(LAUNCH).read_text()))


def active(store: Store, queued: Sequence[Queued]) -> dict[NodeId, tuple[Spot, Queued]]:
    """Return the pending or running task of each node that SLURM has, as recorded when it was submitted."""
    by_array: dict[str, dict[int, Queued]] = {}
    for entry in queued:
        # Some clusters leave a task in the queue that depends on a failed one; it never runs.
        if entry.index is not None and entry.reason != "DependencyNeverSatisfied":
            by_array.setdefault(entry.array, {})[entry.index] = entry
    by_node: dict[NodeId, tuple[Spot, Queued]] = {}
    for launch in launches(store) if by_array else []:
        for array in launch.arrays():
            entries = by_array.get(launch.job(array) or "", {})
            entries = {index: entry for index, entry in entries.items() if launch.named(array, entry)}
            for index, nodes in tasks.nodes(launch.folder.product(f"{array}.jsonl")).items() if entries else ():
                if index in entries:
                    spot = Spot(entries[index].array, index)
                    by_node |= dict.fromkeys(nodes, (spot, entries[index]))
    return by_node


@dataclass(frozen=True)
class Sent:
    """A submitted task."""

    launch: Launch
    job: str
    index: int

    @property
    def name(self) -> str:
        """The name of the task in SLURM's commands."""
        return f"{self.job}_{self.index}"

    @property
    def printed(self) -> Path:
        """The file with the output of its process on the first machine, over all attempts."""
        return self.launch.folder.path / LOGS / f"{self.name}_0_log.out"

    def outcomes(self) -> list[dict[str, Any]]:
        """Return how its attempts ended, oldest first, without those whose batch script was killed."""
        return self.launch.outcomes.get(self.name, [])


def sent(store: Store) -> dict[NodeId, Sent]:
    """Return the last submitted task of each node."""
    by_node: dict[NodeId, Sent] = {}
    for launch in launches(store):
        for array in launch.arrays():
            if (job := launch.job(array)) is not None:
                with contextlib.suppress(StoreError):  # a file of an older version, or a deleted one
                    for index, nodes in tasks.nodes(launch.folder.product(f"{array}.jsonl")).items():
                        by_node |= dict.fromkeys(nodes, Sent(launch, job, index))
    return by_node
