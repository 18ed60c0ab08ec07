"""A plan -> SLURM arrays.

    STORE/launches/NAME/launch.json     what is meant to be sent, written before anything is
                        ARRAY.jsonl     the tasks of an array
                        ARRAY.job       the id that SLURM gave it, written after it was sent
                        outcomes.jsonl  how each attempt at a task ended

A submitter that is killed between the last two leaves an array that SLURM has and nobody knows: the next submission
finds it by its name or comment and adopts it.
"""

import contextlib
import dataclasses
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dae_ssl import config
from dae_ssl.cluster import queue, tasks
from dae_ssl.cluster.queue import Queued, SlurmError
from dae_ssl.cluster.script import LOGS, Script, executor, python, sending
from dae_ssl.cluster.snapshot import Source, source
from dae_ssl.compute.nodes import NodeId
from dae_ssl.compute.processes import Conditions
from dae_ssl.config import Cell
from dae_ssl.files import StoreError, write_bytes, write_json
from dae_ssl.planning.plan import Array, Plan, Spot
from dae_ssl.planning.profile import Profile
from dae_ssl.store import LAUNCH, OUTCOMES, Folder, Store

ADOPTION_SECONDS = 10.0
"""How long an array may take to show in the queue after its submitter was killed."""


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
        with contextlib.suppress(FileNotFoundError):
            job: str | None = json.loads(self.folder.product(f"{array}.job").read_text())["job"]
            return job
        return None

    def open(self, array: str) -> bool:
        """Tell whether nobody knows yet if an array was sent."""
        return not self.folder.product(f"{array}.job").exists()

    def owns(self, entry: Queued) -> bool:
        """Tell whether a task that SLURM has was sent by this submission."""
        return any(self.job(array) == entry.array and _is(self, array, entry) for array in self.arrays())

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
            entries = {index: entry for index, entry in entries.items() if _is(launch, array, entry)}
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


def adopt(
    store: Store, look: Callable[[], Sequence[Queued]] = queue.queue, tell: Callable[[str], None] = print
) -> None:
    """Find out whether arrays of an interrupted submission were sent. Raises SlurmError if the queue cannot be seen."""
    for launch in launches(store):
        unknown = [array for array in launch.arrays() if launch.open(array)]
        if not unknown:
            continue
        tell(f"looking for what the interrupted submission {launch.folder.key} had sent")
        found = {array: _sent(launch, array, look()) for array in unknown}
        deadline = time.monotonic() + ADOPTION_SECONDS
        while None in found.values() and time.monotonic() < deadline:
            time.sleep(0.5)
            found = {array: job or _sent(launch, array, look()) for array, job in found.items()}
        for array, job in found.items():
            if job is not None:
                tell(f"found {array} of an interrupted submission as job {job}")
            launch.settle(array, job)


def _sent(launch: Launch, array: str, queued: Sequence[Queued]) -> str | None:
    return next((entry.array for entry in queued if _is(launch, array, entry)), None)


def _is(launch: Launch, array: str, entry: Queued) -> bool:
    """Tell by comment or name whether a task belongs to an array; ids begin anew where a cluster is set up anew."""
    return entry.comment == comment(launch.folder.key, array) or entry.name == job_name(launch, array)


def comment(launch: str, array: str) -> str:
    """Return the comment by which SLURM can tell whose array it is."""
    return f"dae_ssl {launch} {array}"


def job_name(launch: Launch, array: str) -> str:
    """Return the name of an array in the queue; it ends in what tells it from every other."""
    return f"{launch.experiment}.{array}.{launch.folder.key.rpartition('-')[2]}"


# ---------------------------------------------------------------------------------- before anything is sent


def intend(plan: Plan, store: Store, profile: Profile, *, experiment: str, mlflow_experiment: str) -> Launch:
    """Write down what is to be sent, the tasks of every array, and a snapshot of the code; return the submission."""
    running = source(store, profile)
    folder = store.launch(f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}")
    folder.create()
    settings = _resolved_once()
    for array in plan.arrays:
        conditions = Conditions(store=store.root.resolve(), resources=array.resources, device=profile.device,
                                save_seconds=profile.save_seconds, mlflow_experiment=mlflow_experiment)  # fmt: skip
        content = "".join(f"{line}\n" for line in tasks.lines(conditions, array.tasks, settings))
        write_bytes(folder.product(f"{array.name}.jsonl"), content.encode())
    arrays = {
        array.name: {"stage": array.stage, "indices": array.indices(), "after": array.after} for array in plan.arrays
    }
    intent = {"experiment": experiment, "profile": dataclasses.asdict(profile), "arrays": arrays,
              **dataclasses.asdict(running)}  # fmt: skip
    write_json(folder.product(LAUNCH), intent)
    return Launch(folder, intent)


def _resolved_once() -> Callable[[Cell], Mapping[str, Any]]:
    """Return what gives a cell's settings, resolved once for all of its nodes."""
    known: dict[int, Mapping[str, Any]] = {}

    def settings(cell: Cell) -> Mapping[str, Any]:
        if id(cell) not in known:
            known[id(cell)] = config.settings(cell)
        return known[id(cell)]

    return settings


# ---------------------------------------------------------------------------------- sending


def send(launch: Launch, plan: Plan, store: Store, profile: Profile, tell: Callable[[str], None] = print) -> None:
    """Send the arrays of a submission, parents first.

    Raises SlurmError in SLURM's own words when it takes no more; what was sent is known and stays.
    """
    for array in plan.arrays:
        after = array.after if array.after is None or array.after.isdigit() else launch.job(array.after)
        try:
            with sending(profile, array.name):
                job = script(launch, array, after, store, profile).send()
        except SlurmError:
            # This one may have reached SLURM, whose answer was lost; the next submission looks for it.
            for unsent in launch.arrays()[launch.arrays().index(array.name) + 1 :]:
                launch.settle(unsent, None)
            raise
        launch.settle(array.name, job)
        tell(
            f"{array.name}: job {job}, {len(array.tasks)} tasks" + (f", each after its own of {after}" if after else "")
        )


def script(launch: Launch, array: Array, after: str | None, store: Store, profile: Profile) -> Script:
    """Return the batch script of an array whose parents, if it waits for any, are in job `after`."""
    tasks_file = launch.folder.product(f"{array.name}.jsonl").resolve()
    further: dict[str, str | bool] = {"array": f"{array.indices()}%{profile.array_parallelism}"}
    if after is not None:
        # Where the cluster does not see to it, dependents of a failed task would wait for ever.
        further |= {"dependency": f"aftercorr:{after}", "kill-on-invalid-dep": "yes"}
    composer = executor(
        profile, array.resources, store, launch.folder, launch.source,
        name=job_name(launch, array.name), comment=comment(launch.folder.key, array.name), further=further,
    )  # fmt: skip
    return Script(composer, (*python(profile), "-m", "jobs", "compute", "--array", str(tasks_file)), len(array.tasks))
