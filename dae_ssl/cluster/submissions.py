"""What was sent, as the store has it: submissions, their arrays and tasks, and where SLURM has nodes now.

    STORE/launches/NAME/launch.json     what is meant to be sent, written before anything is
                        ARRAY.jsonl     the tasks of an array
                        ARRAY.job       the id that SLURM gave it, written after it was sent
                        outcomes.jsonl  how each attempt at a task ended

Nothing here is sent or changed but by `Launch.settle`, which writes down SLURM's answer.
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
    """One submission: its folder, and what was meant to be sent."""

    folder: Folder
    intent: Mapping[str, Any]

    @property
    def experiment(self) -> str:
        return str(self.intent["experiment"])

    @property
    def source(self) -> Source:
        return Source(self.intent["snapshot"], self.intent["commit"], self.intent["image"])

    def arrays(self) -> list[str]:
        """Return the names of its arrays, in the order in which they are sent."""
        return list(self.intent["arrays"])

    def job(self, array: str) -> str | None:
        """Return the id that SLURM gave an array; None if it was not sent, as far as anyone knows."""
        try:
            job: str | None = json.loads(self.folder.product(f"{array}.job").read_text())["job"]
        except FileNotFoundError:
            return None
        return job

    def open(self, array: str) -> bool:
        """Tell whether nobody knows yet if an array was sent."""
        return not self.folder.product(f"{array}.job").exists()

    def owns(self, entry: Queued) -> bool:
        """Tell whether a task that SLURM has was sent by this submission."""
        return any(self.job(array) == entry.array and self.named(array, entry) for array in self.arrays())

    def named(self, array: str, entry: Queued) -> bool:
        """Tell by comment or name whether a task belongs to an array; ids begin anew where a cluster is set up anew."""
        return entry.comment == self.comment(array) or entry.name == self.job_name(array)

    def comment(self, array: str) -> str:
        """Return the comment by which SLURM can tell whose array it is."""
        return f"dae_ssl {self.folder.key} {array}"

    def job_name(self, array: str) -> str:
        """Return the name of an array in the queue; it ends in what tells it from every other."""
        return f"{self.experiment}.{array}.{self.folder.key.rpartition('-')[2]}"

    @cached_property
    def outcomes(self) -> dict[str, list[dict[str, Any]]]:
        """How each attempt at each task ended, oldest first, as far as it was known when first asked."""
        found: dict[str, list[dict[str, Any]]] = {}
        with contextlib.suppress(FileNotFoundError), self.folder.product(OUTCOMES).open(errors="replace") as file:
            for line in file:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    outcome = dict(json.loads(line))
                    found.setdefault(outcome["task"], []).append(outcome)
        return found

    def settle(self, array: str, job: str | None) -> None:
        """Write down the id of an array that was sent, or that it never was."""
        write_json(self.folder.product(f"{array}.job"), {"job": job, "time": time.time()})


def launches(store: Store) -> list[Launch]:
    """Return every submission from this store, oldest first."""
    return [Launch(folder, json.loads(folder.product(LAUNCH).read_text())) for folder in store.launches()]


def active(store: Store, queued: Sequence[Queued]) -> dict[NodeId, tuple[Spot, Queued]]:
    """Return where SLURM has nodes, pending or running, by what was written when they were sent."""
    by_array: dict[str, dict[int, Queued]] = {}
    for entry in queued:
        # What waits for a task that failed never runs, on a cluster that leaves it in the queue.
        if entry.index is not None and entry.reason != "DependencyNeverSatisfied":
            by_array.setdefault(entry.array, {})[entry.index] = entry
    found: dict[NodeId, tuple[Spot, Queued]] = {}
    for launch in launches(store) if by_array else []:
        for array in launch.arrays():
            entries = by_array.get(launch.job(array) or "", {})
            entries = {index: entry for index, entry in entries.items() if launch.named(array, entry)}
            for index, nodes in tasks.nodes(launch.folder.product(f"{array}.jsonl")).items() if entries else ():
                if index in entries:
                    spot = Spot(entries[index].array, index)
                    found |= dict.fromkeys(nodes, (spot, entries[index]))
    return found


@dataclass(frozen=True)
class Sent:
    """A task that was sent."""

    launch: Launch
    job: str
    index: int

    @property
    def name(self) -> str:
        """Its name as SLURM's commands take it."""
        return f"{self.job}_{self.index}"

    @property
    def printed(self) -> Path:
        """The file that took what its process on the first machine printed, in all its attempts."""
        return self.launch.folder.path / LOGS / f"{self.name}_0_log.out"

    def outcomes(self) -> list[dict[str, Any]]:
        """Return how each of its attempts ended that ended in its batch script, oldest first."""
        return self.launch.outcomes.get(self.name, [])


def sent(store: Store) -> dict[NodeId, Sent]:
    """Return the last task that was sent for each node."""
    found: dict[NodeId, Sent] = {}
    for launch in launches(store):
        for array in launch.arrays():
            if (job := launch.job(array)) is not None:
                with contextlib.suppress(StoreError):  # of an older version, or deleted: it only tells history
                    for index, nodes in tasks.nodes(launch.folder.product(f"{array}.jsonl")).items():
                        found |= dict.fromkeys(nodes, Sent(launch, job, index))
    return found
