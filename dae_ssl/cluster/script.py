"""Compose batch scripts and hand them to sbatch. This is the only module that uses submitit, which composes them.

submitit is imported only where a script is composed or submitted, so that a local run does not need it.
"""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dae_ssl.cluster.queue import SlurmError
from dae_ssl.cluster.snapshot import Source
from dae_ssl.compute.resources import Resources
from dae_ssl.planning.profile import Profile, passed, stated
from dae_ssl.store import OUTCOMES, Folder, Store

if TYPE_CHECKING:
    from submitit.slurm.slurm import SlurmExecutor

LOGS = "logs"


def executor(
    profile: Profile,
    resources: Resources,
    store: Store,
    folder: Folder,
    source: Source,
    *,
    name: str,
    comment: str,
    further: Mapping[str, str | bool],
) -> "SlurmExecutor":
    """Return the submitit executor that composes and submits the batch scripts of a submission.

    Its tasks ask for `resources`, run the code of `source` and print into `folder`. After each task its batch script
    runs slurm/after_task.sh, outside any container. `further` are options of sbatch that are passed on unchanged.
    """
    from submitit.slurm.slurm import SlurmExecutor

    code = store.snapshot(source.snapshot).path.resolve()
    composer = SlurmExecutor(folder.path.resolve() / LOGS, python=shlex.join(python(profile)))
    options = dict(_option(option) for option in (*profile.sbatch, *resources.sbatch)) | dict(further)
    options |= {"requeue": True, "chdir": str(code), "signal": f"USR2@{profile.signal_seconds}"}
    composer.update_parameters(
        job_name=name, comment=comment, array_parallelism=profile.array_parallelism, wckey=None, stderr_to_stdout=True,
        setup=_setup(profile, resources, store, source, folder), teardown=_teardown(profile, folder, code),
        srun_args=["--kill-on-bad-exit=1", f"--cpus-per-task={resources.cpus_per_machine}"],
        additional_parameters=options, **allocation(profile, resources),
    )  # fmt: skip
    return composer


@dataclass(frozen=True)
class Script:
    """The batch script of an array, each of whose tasks runs the same command."""

    composer: "SlurmExecutor"
    command: Sequence[str]
    tasks: int

    def __post_init__(self) -> None:
        self.composer.parameters["map_count"] = self.tasks  # a single task becomes an array too, and has an index

    def text(self) -> str:
        """Return the text of the script that is submitted."""
        return str(self.composer._make_submission_file_text(shlex.join(self.command), ""))

    def send(self) -> str:
        """Hand the script to sbatch and return the id of the array."""
        self.composer.folder.mkdir(parents=True, exist_ok=True)
        return str(self.composer._submit_command(shlex.join(self.command)).job_id)


def python(profile: Profile) -> Sequence[str]:
    """Return the command that starts Python in a task, including the container command if the profile has one."""
    return *profile.container, profile.python or ("python" if profile.container else sys.executable)


def allocation(profile: Profile, resources: Resources) -> dict[str, Any]:
    """Return the resources of a stage as submitit's parameters, without those that the profile does not set."""
    gpus = ":".join(filter(None, (resources.gpu_type, str(resources.gpus_per_machine))))
    asked = {
        "partition": resources.partition or profile.partition, "account": profile.account, "qos": profile.qos,
        "nodes": resources.machines, "ntasks_per_node": 1, "cpus_per_task": resources.cpus_per_machine,
        "gpus_per_node": gpus if resources.gpus_per_machine else None, "mem": f"{round(resources.memory_gb * 1024)}M",
        "time": resources.minutes,
    }  # fmt: skip
    return {name: value for name, value in asked.items() if value is not None}


def _setup(profile: Profile, resources: Resources, store: Store, source: Source, folder: Folder) -> list[str]:
    threads = max(1, resources.cpus_per_machine // max(resources.ranks_per_machine, resources.packing))
    variables = {"OMP_NUM_THREADS": str(threads)} | stated(profile, store.root.resolve())
    known = {"SNAPSHOT": source.snapshot, "COMMIT": source.commit, "IMAGE": source.image}
    variables |= {f"DAE_SSL_{name}": value for name, value in known.items() if value is not None}
    variables["PYTHONPATH"] = str(store.snapshot(source.snapshot).path.resolve())
    lines = [*profile.setup, *(f"export {name}={shlex.quote(value)}" for name, value in variables.items())]
    attempt = "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}_${SLURM_ARRAY_TASK_ID:-0}.${SLURM_RESTART_COUNT:-0}"
    lines.append(f"export DAE_SSL_TASK_CODES={shlex.quote(str(folder.path.resolve() / LOGS))}/{attempt}.codes")
    if resources.machines > 1:  # here, because a container may have no scontrol
        lines.append('export DAE_SSL_RENDEZVOUS="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)'
                     ':$((10000 + SLURM_JOB_ID % 10000))"')  # fmt: skip
    return lines


def _teardown(profile: Profile, folder: Folder, code: Path) -> list[str]:
    script = code / "slurm" / "after_task.sh"
    outcomes = folder.product(OUTCOMES).resolve()
    limits = f"{profile.max_requeues} {profile.max_failures}"
    return [f'exec bash {shlex.quote(str(script))} "$?" {shlex.quote(str(outcomes))} {limits}']


def _option(option: str) -> tuple[str, str | bool]:
    name, equals, value = option.partition("=")
    return name, value if equals else True


@contextlib.contextmanager
def sending(profile: Profile, what: str) -> Iterator[None]:
    """Restrict the environment to the variables that a profile passes on while the block calls sbatch.

    A job inherits the environment of sbatch. So no other variable of the submitting shell reaches a job by accident,
    such as the SLURM_* of a job that submits. Raises SlurmError with SLURM's own message if sbatch refuses.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    before, kept = dict(os.environ), passed(profile)
    os.environ.clear()
    os.environ.update(kept)
    try:
        yield
    except (subprocess.CalledProcessError, FailedJobError, FailedSubmissionError) as error:
        said = re.findall(r"sbatch: error: (.*)", str(error))
        raise SlurmError(f"sbatch refused {what}: {'; '.join(said) or ' '.join(str(error).split())}") from None
    finally:
        os.environ.clear()
        os.environ.update(before)
