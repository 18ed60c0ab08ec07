"""A plan -> SLURM arrays. The one user of submitit, which composes and sends the batch scripts.

    STORE/launches/NAME/launch.json     what is meant to be sent, written before anything is
                        ARRAY.jsonl     the tasks of an array
                        ARRAY.job       the id that SLURM gave it, written after it was sent
                        outcomes.jsonl  how each attempt at a task ended

A submitter that is killed between the last two leaves an array that SLURM has and nobody knows: the next submission
finds it by its name or comment and adopts it.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.slurm.slurm import SlurmExecutor

import dae_ssl
from dae_ssl import config
from dae_ssl.batch import queue, tasks
from dae_ssl.batch.plan import Array, NodeId, Plan, Spot
from dae_ssl.batch.profile import Profile, Resources, passed, stated
from dae_ssl.batch.provenance import git_commit
from dae_ssl.batch.queue import Queued, SlurmError
from dae_ssl.store import LAUNCH, OUTCOMES, Node, Store, sync_folder, write_bytes, write_json

ADOPTION_SECONDS = 15.0
"""How long after its intent was written an array may take to show in the queue."""
LOGS = "logs"
PACKAGES = ("dae_ssl", "jobs", "slurm", "hydra_plugins")


@dataclass(frozen=True)
class Launch:
    """One submission: its folder, and what was meant to be sent."""

    folder: Node
    intent: Mapping[str, Any]

    @property
    def experiment(self) -> str:
        return str(self.intent["experiment"])

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

    def outcomes(self) -> list[dict[str, Any]]:
        """Return how each attempt at a task ended, oldest first."""
        found = []
        with contextlib.suppress(FileNotFoundError), self.folder.product(OUTCOMES).open() as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    found.append(dict(json.loads(line)))
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
        if entry.index is not None:
            by_array.setdefault(entry.array, {})[entry.index] = entry
    found: dict[NodeId, tuple[Spot, Queued]] = {}
    for launch in launches(store) if by_array else []:
        for array in launch.arrays():
            entries = by_array.get(launch.job(array) or "", {})
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
        """The file that took what its processes printed, in all its attempts."""
        return self.launch.folder.path / LOGS / f"{self.name}_0_log.out"

    def outcomes(self) -> list[dict[str, Any]]:
        """Return how each of its attempts ended that ended in its batch script, oldest first."""
        return [outcome for outcome in self.launch.outcomes() if outcome.get("task") == self.name]


def sent(store: Store) -> dict[NodeId, Sent]:
    """Return the last task that was sent for each node."""
    found: dict[NodeId, Sent] = {}
    for launch in launches(store):
        for array in launch.arrays():
            if (job := launch.job(array)) is not None:
                for index, nodes in tasks.nodes(launch.folder.product(f"{array}.jsonl")).items():
                    found |= dict.fromkeys(nodes, Sent(launch, job, index))
    return found


def adopt(
    store: Store, look: Callable[[], Sequence[Queued]] = queue.queue, tell: Callable[[str], None] = print
) -> None:
    """Find out whether arrays of an interrupted submission were sent. Raises SlurmError if the queue cannot be seen."""
    for launch in launches(store):
        intended = launch.folder.product(LAUNCH).stat().st_mtime
        for array in filter(launch.open, launch.arrays()):
            job = _sent(launch, array, look())
            while job is None and time.time() - intended < ADOPTION_SECONDS:
                time.sleep(0.5)
                job = _sent(launch, array, look())
            if job is not None:
                tell(f"found {array} of an interrupted submission as job {job}")
            launch.settle(array, job)


def _sent(launch: Launch, array: str, queued: Sequence[Queued]) -> str | None:
    marks = comment(launch.folder.key, array), job_name(launch, array)
    return next((entry.array for entry in queued if marks[0] == entry.comment or marks[1] == entry.name), None)


def comment(launch: str, array: str) -> str:
    """Return the comment by which SLURM can tell whose array it is."""
    return f"dae_ssl {launch} {array}"


def job_name(launch: Launch, array: str) -> str:
    """Return the name of an array in the queue; it ends in what tells it from every other."""
    return f"{launch.experiment}.{array}.{launch.folder.key.rpartition('-')[2]}"


# ---------------------------------------------------------------------------------- before anything is sent


def intend(plan: Plan, store: Store, profile: Profile, *, experiment: str, mlflow_experiment: str) -> Launch:
    """Write down what is to be sent, the tasks of every array, and a snapshot of the code; return the submission."""
    folder = store.launch(f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}")
    folder.create()
    settings: dict[int, dict[str, Any]] = {}
    for array in plan.arrays:
        header = tasks.Work(store=store.root.resolve(), resources=array.resources, items=(), device=profile.device,
                            save_seconds=profile.save_seconds, mlflow_experiment=mlflow_experiment)  # fmt: skip
        listed = {
            task.index: [
                tasks.Item(stage=node.stage, key=node.key, settings=_settings(node.cell, settings))
                for node in task.nodes
            ]
            for task in array.tasks
        }
        write_bytes(
            folder.product(f"{array.name}.jsonl"), "".join(f"{line}\n" for line in tasks.lines(header, listed)).encode()
        )
    arrays = {
        array.name: {"stage": array.stage, "indices": array.indices(), "after": array.after} for array in plan.arrays
    }
    intent = {"experiment": experiment, "profile": dataclasses.asdict(profile), "commit": git_commit(),
              "snapshot": snapshot(store), "arrays": arrays}  # fmt: skip
    write_json(folder.product(LAUNCH), intent)
    return Launch(folder, intent)


def _settings(cell: config.Cell, known: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Return a cell's settings, resolved once for all of its nodes."""
    if id(cell) not in known:
        known[id(cell)] = config.settings(cell)
    return known[id(cell)]


def snapshot(store: Store) -> str:
    """Copy the package as it is now into the store, unless it is there, and return the copy's digest.

    Tasks run from it, so that code which changes between submission and start changes nothing that is computed.
    """
    root = Path(dae_ssl.__file__).parents[1]
    files = {
        str(path.relative_to(root)): path.read_bytes()
        for package in PACKAGES
        for path in sorted((root / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    folder = store.snapshot(digest.hexdigest()[:16])
    if not folder.path.exists():
        store.snapshot("").path.mkdir(parents=True, exist_ok=True)
        aside = folder.path.with_name(f".{folder.key}.{secrets.token_hex(4)}")
        for name, content in files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_bytes(content)
            shutil.copymode(root / name, aside / name)
        with contextlib.suppress(OSError):  # another process made the same one meanwhile
            aside.rename(folder.path)
        shutil.rmtree(aside, ignore_errors=True)
        sync_folder(folder.path.parent)
    return folder.key


# ---------------------------------------------------------------------------------- sending


def send(launch: Launch, plan: Plan, store: Store, profile: Profile, tell: Callable[[str], None] = print) -> None:
    """Send the arrays of a submission, parents first.

    Raises SlurmError in SLURM's own words when it takes no more; what was sent is known and stays.
    """
    for array in plan.arrays:
        after = array.after if array.after is None or array.after.isdigit() else launch.job(array.after)
        script = Script(launch, array, after, store, profile)
        try:
            with _environment(passed(profile)):
                job = script.send()
        except (
            subprocess.CalledProcessError,
            submitit.core.utils.FailedJobError,
            submitit.core.utils.FailedSubmissionError,
        ) as error:
            for unsent in launch.arrays()[launch.arrays().index(array.name) :]:
                launch.settle(unsent, None)
            raise SlurmError(f"sbatch refused {array.name}: {_refusal(error)}") from None
        launch.settle(array.name, job)
        tell(
            f"{array.name}: job {job}, {len(array.tasks)} tasks" + (f", each after its own of {after}" if after else "")
        )


def _refusal(error: Exception) -> str:
    found = re.findall(r"sbatch: error: (.*)", str(error))
    return "; ".join(found) if found else " ".join(str(error).split())


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have only these variables while the block runs: what sbatch is started with is what the job gets.

    Nothing of the shell that submits reaches a job by accident, such as the SLURM_* of a job it runs in itself.
    """
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclass(frozen=True)
class Script:
    """The batch script of an array."""

    launch: Launch
    array: Array
    after: str | None
    store: Store
    profile: Profile

    def text(self) -> str:
        """Return the script as it is sent."""
        return str(self._executor()._make_submission_file_text(self.command(), ""))

    def send(self) -> str:
        """Hand the script to sbatch and return the id of the array."""
        executor = self._executor()
        executor.folder.mkdir(parents=True, exist_ok=True)
        return str(executor._submit_command(self.command()).job_id)

    def command(self) -> str:
        """Return what each task runs, as a shell reads it."""
        tasks_file = self.launch.folder.product(f"{self.array.name}.jsonl").resolve()
        python = self.profile.python or ("python" if self.profile.container else sys.executable)
        return shlex.join([*self.profile.container, python, "-m", "jobs.run_nodes", "--array", str(tasks_file)])

    def _executor(self) -> SlurmExecutor:
        profile, array, resources = self.profile, self.array, self.array.resources
        executor = SlurmExecutor(folder=self.launch.folder.path.resolve() / LOGS)
        further = dict(_option(option) for option in (*profile.sbatch, *resources.sbatch))
        further |= {"array": f"{array.indices()}%{profile.array_parallelism}", "requeue": True,
                    "chdir": str(self.store.snapshot(self.launch.intent["snapshot"]).path.resolve())}  # fmt: skip
        if self.after is not None:
            further["dependency"] = f"aftercorr:{self.after}"
        executor.update_parameters(
            job_name=job_name(self.launch, array.name), comment=comment(self.launch.folder.key, array.name),
            signal_delay_s=profile.signal_seconds, wckey=None, stderr_to_stdout=True,
            setup=self._setup(), teardown=self._teardown(),
            srun_args=["--kill-on-bad-exit=1", f"--cpus-per-task={resources.cpus_per_node}"],
            additional_parameters=further, **allocation(profile, resources),
        )  # fmt: skip
        executor.parameters["map_count"] = len(array.tasks)  # also one task is an array, named by its index
        return executor

    def _setup(self) -> list[str]:
        intent, profile = self.launch.intent, self.profile
        variables = stated(profile, self.store.root.resolve()) | {"DAE_SSL_SNAPSHOT": intent["snapshot"]}
        variables["PYTHONPATH"] = str(self.store.snapshot(intent["snapshot"]).path.resolve())
        if intent["commit"]:
            variables["DAE_SSL_COMMIT"] = intent["commit"]
        lines = [*profile.setup, *(f"export {name}={shlex.quote(value)}" for name, value in variables.items())]
        if self.array.resources.nodes > 1:  # here, because a container may have no scontrol
            lines.append('export DAE_SSL_RENDEZVOUS="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)'
                         ':$((10000 + SLURM_JOB_ID % 10000))"')  # fmt: skip
        return lines

    def _teardown(self) -> list[str]:
        script = self.store.snapshot(self.launch.intent["snapshot"]).path.resolve() / "slurm" / "after_task.sh"
        outcomes = self.launch.folder.product(OUTCOMES).resolve()
        limits = f"{self.profile.max_requeues} {self.profile.max_failures}"
        return [f'exec bash {shlex.quote(str(script))} "$?" {shlex.quote(str(outcomes))} {limits}']


def allocation(profile: Profile, resources: Resources) -> dict[str, Any]:
    """Return what a stage asks for, in submitit's words; what is not asked for is left out."""
    asked = {
        "partition": resources.partition or profile.partition, "account": profile.account, "qos": profile.qos,
        "nodes": resources.nodes, "ntasks_per_node": 1, "cpus_per_task": resources.cpus_per_node,
        "gpus_per_node": resources.gpus_per_node or None, "mem": f"{round(resources.memory_gb * 1024)}M",
        "time": resources.minutes,
    }  # fmt: skip
    return {name: value for name, value in asked.items() if value is not None}


def _option(option: str) -> tuple[str, str | bool]:
    name, given, value = option.partition("=")
    return name, value if given else True
