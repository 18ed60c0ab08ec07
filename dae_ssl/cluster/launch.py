"""Submit a plan as SLURM arrays: record the intention, submit, then record SLURM's answer.

A submitter that is killed between the last two steps leaves an array in SLURM's queue whose id is not recorded: the
next submission finds it by its name or comment and adopts it.
"""

import dataclasses
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dae_ssl import config
from dae_ssl.cluster import queue, tasks
from dae_ssl.cluster.queue import Queued, SlurmError
from dae_ssl.cluster.script import Script, executor, python, sending
from dae_ssl.cluster.snapshot import source
from dae_ssl.cluster.submissions import Launch, launches
from dae_ssl.compute.processes import Conditions
from dae_ssl.config import Cell
from dae_ssl.files import write_bytes, write_json
from dae_ssl.planning.plan import Array, Plan
from dae_ssl.planning.profile import Profile
from dae_ssl.store import LAUNCH, Store

ADOPTION_SECONDS = 10.0
"""How long an array may take to appear in the queue after its submitter was killed."""


def intend(plan: Plan, store: Store, profile: Profile, *, experiment: str, mlflow_experiment: str) -> Launch:
    """Record a submission, the tasks of its arrays and a snapshot of the code in the store; return the submission."""
    task_source = source(store, profile)
    folder = store.launch(f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}")
    folder.create()
    settings = _resolved_once()
    for array in plan.arrays:
        conditions = Conditions(store=store.root.resolve(), resources=array.resources, device=profile.device,
                                save_seconds=profile.save_seconds, mlflow_experiment=mlflow_experiment,
                                keep_features=profile.keep_features is not False)  # fmt: skip
        content = "".join(f"{line}\n" for line in tasks.lines(conditions, array.tasks, settings))
        write_bytes(folder.product(f"{array.name}.jsonl"), content.encode())
    arrays = {
        array.name: {"stage": array.stage, "indices": array.indices(), "after": array.after} for array in plan.arrays
    }
    intent = {"experiment": experiment, "profile": dataclasses.asdict(profile), "arrays": arrays,
              **dataclasses.asdict(task_source)}  # fmt: skip
    write_json(folder.product(LAUNCH), intent)
    return Launch(folder, intent)


def _resolved_once() -> Callable[[Cell], Mapping[str, Any]]:
    """Return a function that gives the settings of a cell and resolves them only once for all of its nodes."""
    known: dict[int, Mapping[str, Any]] = {}

    def settings(cell: Cell) -> Mapping[str, Any]:
        if id(cell) not in known:
            known[id(cell)] = config.settings(cell)
        return known[id(cell)]

    return settings


# ---------------------------------------------------------------------------------- submitting


def send(launch: Launch, plan: Plan, store: Store, profile: Profile, tell: Callable[[str], None] = print) -> None:
    """Submit the arrays of a submission, parents first.

    Raises SlurmError with SLURM's own message if it refuses one; the arrays that were submitted before stay recorded.
    """
    for array in plan.arrays:
        after = array.after if array.after is None or array.after.isdigit() else launch.job(array.after)
        try:
            with sending(profile, array.name):
                job = script(launch, array, after, store, profile).send()
        except SlurmError:
            # This array may have reached SLURM and only the answer was lost; the next submission looks for it.
            for unsent in launch.arrays()[launch.arrays().index(array.name) + 1 :]:
                launch.settle(unsent, None)
            raise
        launch.settle(array.name, job)
        waits = f", each starts after the task of job {after} with the same index" if after else ""
        tell(f"{array.name}: job {job}, {len(array.tasks)} tasks{waits}")


def script(launch: Launch, array: Array, after: str | None, store: Store, profile: Profile) -> Script:
    """Return the batch script of an array; `after` is the job of the array that it waits for, if any."""
    tasks_file = launch.folder.product(f"{array.name}.jsonl").resolve()
    further: dict[str, str | bool] = {"array": f"{array.indices()}%{profile.array_parallelism}"}
    if after is not None:
        # Unless the cluster's configuration says so already, tasks that depend on a failed one would wait for ever.
        further |= {"dependency": f"aftercorr:{after}", "kill-on-invalid-dep": "yes"}
    composer = executor(
        profile, array.resources, store, launch.folder, launch.source,
        name=launch.job_name(array.name), comment=launch.comment(array.name), further=further,
    )  # fmt: skip
    return Script(composer, (*python(profile), "-m", "jobs", "compute", "--array", str(tasks_file)), len(array.tasks))


# ---------------------------------------------------------------------------------- submitted but not recorded


def adopt(
    store: Store, look: Callable[[], Sequence[Queued]] = queue.queue, tell: Callable[[str], None] = print
) -> None:
    """Find and record the submitted arrays of interrupted submissions. Raises SlurmError if SLURM cannot be asked."""
    for launch in launches(store):
        unknown = [array for array in launch.arrays() if launch.open(array)]
        if not unknown:
            continue
        tell(f"looking for arrays of the interrupted submission {launch.folder.key}")
        jobs = {array: _sent(launch, array, look()) for array in unknown}
        deadline = time.monotonic() + ADOPTION_SECONDS
        while None in jobs.values() and time.monotonic() < deadline:
            time.sleep(0.5)
            jobs = {array: job or _sent(launch, array, look()) for array, job in jobs.items()}
        for array, job in jobs.items():
            if job is not None:
                tell(f"found {array} of an interrupted submission as job {job}")
            launch.settle(array, job)


def _sent(launch: Launch, array: str, queued: Sequence[Queued]) -> str | None:
    return next((entry.array for entry in queued if launch.named(array, entry)), None)
