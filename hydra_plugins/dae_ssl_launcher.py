"""Run a Hydra sweep as a SLURM array with the settings of a cluster profile (`hydra/launcher=slurm`).

    dae-ssl run --multirun method=dae seed=1,2,3 --profile dev

    STORE/launches/multirun-…/   outcomes.jsonl and logs/, as for any submission, with submitit's pickles in logs/

Each cell is a task with one process, which pretrains on one rank, evaluates and draws the page. If it is interrupted,
it saves its state; the batch script, outside any container, queues the task again, and the same pickle continues from
the store.

Hydra finds launchers only in the namespace package `hydra_plugins`, which has no __init__.py since other packages add
to it. Every Hydra program imports this module when it starts, so heavy libraries are imported only at submission.
"""

import contextlib
import dataclasses
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

from dae_ssl import config
from dae_ssl.cluster import queue
from dae_ssl.cluster.queue import SlurmError
from dae_ssl.compute.interrupt import Stopped, stopping
from dae_ssl.compute.resources import Resources
from dae_ssl.config import ConfigError
from dae_ssl.files import StoreError
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Folder, Store

if TYPE_CHECKING:
    from submitit.slurm.slurm import SlurmExecutor, SlurmJob


class ProfileLauncher(SlurmLauncher):  # type: ignore[misc]
    """Submits the cells of a sweep, waits until all have ended, and exits with an error if a cell failed."""

    def __init__(self, profile: str | None, look_seconds: float) -> None:
        super().__init__()
        self.profile, self.look_seconds = profile, look_seconds

    def __call__(self, *arguments: Any) -> JobReturn:
        """Compute one cell in its task, and handle signals instead of submitit.

        submitit would ignore SIGTERM, and at SIGUSR2 it would call `scontrol`, which a container does not have. Here
        either signal ends the task with exit code 128 + signal, to which `slurm/after_task.sh` reacts. An exception in
        a cell fails its task.
        """
        from dae_ssl.compute import processes

        returned = list[JobReturn]()

        def compute() -> int:
            try:
                with stopping():
                    returned.append(super(ProfileLauncher, self).__call__(*arguments))
                    returned[0].return_value  # noqa: B018  (raises what the cell raised)
            except Stopped as stopped:
                sys.exit(stopped.code)
            return processes.DONE

        processes.accounted(compute)
        return returned[0]

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Submit a cell for each list of overrides, and return their results once all have ended."""
        from jobs import profiles
        from jobs.endings import INTERRUPTED, ended, fail

        assert self.config is not None
        try:
            profile, store = chosen(self.profile, profiles.profile), Store(Path(self.config.store).resolve())
            known = usual(profile)
            cells = [[*known, *overrides, "store=${oc.env:DAE_SSL_STORE}"] for overrides in job_overrides]
            jobs = self._send(profile, store, cells, initial_job_idx)
            return self._collected(jobs, dict(zip([job.job_id for job in jobs], differing(job_overrides), strict=True)))
        except (ConfigError, StoreError) as error:
            sys.exit(ended(error))
        except SlurmError as error:
            sys.exit(fail(error, 1))
        except KeyboardInterrupt:
            advice = "the submitted cells continue; the same command later computes only what is then missing"
            sys.exit(fail(f"interrupted; {advice}", INTERRUPTED))

    def _send(self, profile: Profile, store: Store, cells: list[list[str]], first: int) -> "list[SlurmJob[JobReturn]]":
        from hydra.core.singleton import Singleton

        from dae_ssl.cluster import script
        from dae_ssl.tracking import server

        if len(cells) > (most := array_size(profile)):
            advice = f"add hydra.sweeper.max_batch_size={most}, which submits {most} cells at a time"
            raise ConfigError(f"{len(cells)} cells are more than the largest array of {most} tasks: {advice}")
        folder = store.launch(f"multirun-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}")
        numbers = range(first, first + len(cells))
        arguments = [cells, ["hydra.sweep.dir"] * len(cells), numbers, [str(number) for number in numbers],
                     [Singleton.get_state()] * len(cells)]  # fmt: skip
        if profile.tracking_uri is not None:
            server.announce(profile.tracking_uri, str(self.config.mlflow_experiment))
        submitter = executor(profile, store, folder)
        with script.sending(profile, "the sweep"):
            jobs: list[SlurmJob[JobReturn]] = submitter.map_array(self, *arguments)
        array = jobs[0].job_id.partition("_")[0]
        print(f"job {array}: {len(jobs)} cells, {folder.path}; it continues if this command ends, and "
              f"`scancel {array}` cancels it")  # fmt: skip
        return jobs

    def _collected(self, jobs: "list[SlurmJob[JobReturn]]", labels: dict[str, str]) -> list[JobReturn]:
        """Return the results of the jobs, in order. Raises SlurmError once all have ended, if one has failed."""
        from submitit.core.utils import FailedJobError

        returned, failed = {}, []
        for job in ended(jobs, self.look_seconds):
            try:
                if not job.paths.result_pickle.exists():
                    raise FailedJobError
                returned[job.job_id] = job.result()
                print(f"{job.job_id}: done: {labels[job.job_id]}", flush=True)
            except FailedJobError:
                failed.append(job.job_id)
                print(f"{job.job_id}: failed: {labels[job.job_id]}: {reason(job.paths.stdout)}", file=sys.stderr)
        if failed:
            raise SlurmError(f"{len(failed)} of {len(jobs)} cells failed; their logs are in {jobs[0].paths.folder}")
        return [returned[job.job_id] for job in jobs]


def chosen(name: str | None, read: Callable[[str], Profile]) -> Profile:
    """Return the profile with a name. Raises ConfigError if there is none or it does not submit to SLURM."""
    if name is None:
        raise ConfigError("--profile is missing: name one of slurm/profiles, or the path of such a file")
    profile = read(name)
    if profile.launcher != "slurm":
        raise ConfigError(f"--profile={name!r} does not submit to SLURM: leave it out to compute here, or name another")
    return profile


def usual(profile: Profile) -> list[str]:
    """Return the overrides that a profile implies; the command line takes precedence over them.

    Without a tracking server nothing is copied to MLflow, since tasks on several machines would write one SQLite file.
    """
    return [f"device={profile.device}", *([] if profile.tracking_uri else ["mlflow_experiment=null"])]


def array_size(profile: Profile) -> int:
    """Return the largest number of tasks of an array. Raises SlurmError."""
    return min(filter(None, [profile.array_size, queue.array_size()]))


def share(profile: Profile) -> Resources:
    """Return the resources of a cell that computes all its stages in one process.

    They are the most that any stage asks for per rank or per packed cell, and at most one GPU.
    """
    ranks = []
    for stage in config.STAGES:
        asked = profile.resources(stage)
        parts = max(asked.ranks_per_machine, asked.packing)
        ranks.append((asked.gpus_per_machine // parts, asked.cpus_per_machine // parts, asked.memory_gb / parts))
    gpus, cpus, memory_gb = (max(column) for column in zip(*ranks, strict=True))
    minutes = max(profile.resources(stage).minutes for stage in config.STAGES)
    return dataclasses.replace(
        profile.stages.pretrain, machines=1, ranks_per_machine=1, packing=1,
        gpus_per_machine=gpus, cpus_per_machine=max(1, cpus), memory_gb=memory_gb, minutes=minutes,
    )  # fmt: skip


def executor(profile: Profile, store: Store, folder: Folder) -> "SlurmExecutor":
    """Return the executor that submits a sweep with a profile, a snapshot of the current code, and logs in a folder."""
    from dae_ssl.cluster import script
    from dae_ssl.cluster.snapshot import source

    return script.executor(profile, share(profile), store, folder, source(store, profile),
                           name="run", comment=f"dae_ssl {folder.key}", further={})  # fmt: skip


def differing(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return the overrides in which each cell of a sweep differs from the others; all overrides of a single cell."""
    shared = set.intersection(*map(set, cells)) if len(cells) > 1 else set()
    return [" ".join(override for override in cell if override not in shared) for cell in cells]


def ended(jobs: "Sequence[SlurmJob[Any]]", look_seconds: float) -> "Iterator[SlurmJob[Any]]":
    """Yield each job once it has written its result or has left the queue.

    submitit would ask SLURM's accounting, which a cluster may not have. A requeued task stays in the queue; a task that
    is missing in two successive looks has ended, and a shared file system had the time between them to show its result.
    """
    waiting = {job.job_id: job for job in jobs}
    missing: set[str] = set()
    look = time.monotonic() + look_seconds
    while waiting:
        time.sleep(min(1.0, look_seconds))
        over = {name for name, job in waiting.items() if job.paths.result_pickle.exists()}
        if time.monotonic() >= look:
            with contextlib.suppress(SlurmError):  # the queue is read again later
                gone = waiting.keys() - {entry.task for entry in queue.queue()}
                over, missing = over | gone & missing, gone
            look = time.monotonic() + look_seconds
        for name in sorted(over):
            yield waiting.pop(name)


def reason(log: Path) -> str:
    """Return the last line that a task printed itself, preferably an error."""
    with contextlib.suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        printed = [line for line in lines if not line.startswith(("srun:", "slurmstepd:"))]
        return next((line for line in reversed(printed) if line.startswith("error:")), (printed or lines or [""])[-1])
    return "it printed nothing"
