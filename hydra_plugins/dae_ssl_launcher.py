"""`hydra/launcher=slurm`: an ad-hoc Hydra sweep as a SLURM array, on the terms of a cluster profile.

    dae-ssl run --multirun method=dae seed=1,2,3 --profile dev

    STORE/launches/multirun-…/   outcomes.jsonl and logs/, as of any submission, with submitit's pickles in logs/

Each cell is a task of one process, which pretrains on one rank, evaluates and draws the page. Interrupted, it saves its
state; the batch script, outside any container, queues the task again, and the same pickle goes on from the store.

Hydra takes launchers from the namespace `hydra_plugins` only, which it shares with others: it has no __init__.py. Every
Hydra program imports this module when it starts, so what is heavy is imported where something is sent.
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
    """Sends the cells of a sweep, waits until all have ended, and ends the program with what failed, if any did."""

    def __init__(self, profile: str | None, look_seconds: float) -> None:
        super().__init__()
        self.profile, self.look_seconds = profile, look_seconds

    def __call__(self, *arguments: Any) -> JobReturn:
        """Compute one cell; runs in its task, where submitit would answer signals itself.

        Submitit would ignore SIGTERM, and call `scontrol` at SIGUSR2, which a container has not; here either ends the
        task with 128 + signal, for `slurm/after_task.sh` to act on. What a cell raises fails its task.
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
        """Send a cell for each list of overrides and return what each returned, once all have ended."""
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
            told = "interrupted; what was sent goes on, and the same command later computes only the rest"
            sys.exit(fail(told, INTERRUPTED))

    def _send(self, profile: Profile, store: Store, cells: list[list[str]], first: int) -> "list[SlurmJob[JobReturn]]":
        from hydra.core.singleton import Singleton

        from dae_ssl.cluster import script
        from dae_ssl.tracking import server

        config.require(len(cells) <= (most := array_size(profile)), "cells", len(cells),
                       f"at most {most}, the largest array here; hydra.sweeper.max_batch_size={most} sends so many "
                       "at a time")  # fmt: skip
        folder = store.launch(f"multirun-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}")
        numbers = range(first, first + len(cells))
        arguments = [cells, ["hydra.sweep.dir"] * len(cells), numbers, [str(number) for number in numbers],
                     [Singleton.get_state()] * len(cells)]  # fmt: skip
        if profile.tracking_uri is not None:
            server.announce(profile.tracking_uri, str(self.config.mlflow_experiment))
        sender = executor(profile, store, folder)
        with script.sending(profile, "the sweep"):
            jobs: list[SlurmJob[JobReturn]] = sender.map_array(self, *arguments)
        array = jobs[0].job_id.partition("_")[0]
        print(f"job {array}: {len(jobs)} cells, {folder.path}; goes on if this ends; `scancel {array}` ends it")
        return jobs

    def _collected(self, jobs: "list[SlurmJob[JobReturn]]", said: dict[str, str]) -> list[JobReturn]:
        """Return what each job returned, in their order. Raises SlurmError when one failed, after all have ended."""
        from submitit.core.utils import FailedJobError

        returned, failed = {}, []
        for job in ended(jobs, self.look_seconds):
            try:
                if not job.paths.result_pickle.exists():
                    raise FailedJobError
                returned[job.job_id] = job.result()
                print(f"{job.job_id}: done: {said[job.job_id]}", flush=True)
            except FailedJobError:
                failed.append(job.job_id)
                print(f"{job.job_id}: failed: {said[job.job_id]}: {reason(job.paths.stdout)}", file=sys.stderr)
        if failed:
            raise SlurmError(f"{len(failed)} of {len(jobs)} cells failed; their logs are in {jobs[0].paths.folder}")
        return [returned[job.job_id] for job in jobs]


def chosen(name: str | None, read: Callable[[str], Profile]) -> Profile:
    """Return the profile of a name. Raises ConfigError if it is none that SLURM can be asked with."""
    if name is None:
        raise ConfigError("--profile is not given: choose one of slurm/profiles, or the path of such a file")
    profile = read(name)
    if profile.launcher != "slurm":
        raise ConfigError(f"--profile={name!r} sends nothing: choose another, or leave it out to compute here")
    return profile


def usual(profile: Profile) -> list[str]:
    """Return the overrides that a profile stands for, unless the command line has its own.

    Without a tracking server nothing is copied to MLflow: tasks on several machines would write one SQLite file.
    """
    return [f"device={profile.device}", *([] if profile.tracking_uri else ["mlflow_experiment=null"])]


def array_size(profile: Profile) -> int:
    """Return how many tasks an array has at most. Raises SlurmError."""
    return min(filter(None, [profile.array_size, queue.array_size()]))


def share(profile: Profile) -> Resources:
    """Return what a cell asks for that computes all its stages in one process.

    That is the most that any stage asks for each rank, or each packed cell: at most one GPU.
    """
    ranks = []
    for stage in config.STAGES:
        asked = profile.resources(stage)
        beside = max(asked.ranks_per_machine, asked.packing)
        ranks.append((asked.gpus_per_machine // beside, asked.cpus_per_machine // beside, asked.memory_gb / beside))
    gpus, cpus, memory_gb = (max(column) for column in zip(*ranks, strict=True))
    minutes = max(profile.resources(stage).minutes for stage in config.STAGES)
    return dataclasses.replace(
        profile.stages.pretrain, machines=1, ranks_per_machine=1, packing=1,
        gpus_per_machine=gpus, cpus_per_machine=max(1, cpus), memory_gb=memory_gb, minutes=minutes,
    )  # fmt: skip


def executor(profile: Profile, store: Store, folder: Folder) -> "SlurmExecutor":
    """Return what sends a sweep from a profile, with code from a snapshot made now, and logs to a folder."""
    from dae_ssl.cluster import script
    from dae_ssl.cluster.snapshot import source

    return script.executor(profile, share(profile), store, folder, source(store, profile),
                           name="run", comment=f"dae_ssl {folder.key}", further={})  # fmt: skip


def differing(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return what tells each cell of a sweep from the others; of a single one, everything."""
    alike = set.intersection(*map(set, cells)) if len(cells) > 1 else set()
    return [" ".join(override for override in cell if override not in alike) for cell in cells]


def ended(jobs: "Sequence[SlurmJob[Any]]", look_seconds: float) -> "Iterator[SlurmJob[Any]]":
    """Yield each job once it has left its result or has left the queue.

    Submitit would ask accounting, which a cluster may not have. A task that is queued again stays in the queue; one
    that is missing at two looks has ended, and a shared file system had the time between them to show its result.
    """
    waiting = {job.job_id: job for job in jobs}
    missing: set[str] = set()
    look = time.monotonic() + look_seconds
    while waiting:
        time.sleep(min(1.0, look_seconds))
        over = {name for name, job in waiting.items() if job.paths.result_pickle.exists()}
        if time.monotonic() >= look:
            with contextlib.suppress(SlurmError):  # asked again later
                gone = waiting.keys() - {entry.task for entry in queue.queue()}
                over, missing = over | gone & missing, gone
            look = time.monotonic() + look_seconds
        for name in sorted(over):
            yield waiting.pop(name)


def reason(log: Path) -> str:
    """Return the last thing that a task said itself."""
    with contextlib.suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        own = [line for line in lines if not line.startswith(("srun:", "slurmstepd:"))]
        return next((line for line in reversed(own) if line.startswith("error:")), (own or lines or [""])[-1])
    return "it printed nothing"
