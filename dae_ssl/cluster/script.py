"""Batch scripts, and handing them to sbatch. The one user of submitit, which composes them.

It is imported where a script is composed or sent, so that a machine which computes everything itself need not have it.
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
    """Return what composes and sends the batch scripts of a submission.

    Its tasks ask for `resources`, run `source`, print into `folder`, and are followed by slurm/after_task.sh, outside
    any container. `further` are options of sbatch as they are.
    """
    from submitit.slurm.slurm import SlurmExecutor

    code = store.snapshot(source.snapshot).path.resolve()
    made = SlurmExecutor(folder.path.resolve() / LOGS, python=shlex.join(python(profile)))
    options = dict(_option(option) for option in (*profile.sbatch, *resources.sbatch)) | dict(further)
    options |= {"requeue": True, "chdir": str(code), "signal": f"USR2@{profile.signal_seconds}"}
    made.update_parameters(
        job_name=name, comment=comment, array_parallelism=profile.array_parallelism, wckey=None, stderr_to_stdout=True,
        setup=_setup(profile, resources, store, source, folder), teardown=_teardown(profile, folder, code),
        srun_args=["--kill-on-bad-exit=1", f"--cpus-per-task={resources.cpus_per_machine}"],
        additional_parameters=options, **allocation(profile, resources),
    )  # fmt: skip
    return made


@dataclass(frozen=True)
class Script:
    """The batch script of an array whose tasks run a command."""

    composer: "SlurmExecutor"
    command: Sequence[str]
    tasks: int

    def __post_init__(self) -> None:
        self.composer.parameters["map_count"] = self.tasks  # also one task is an array, named by its index

    def text(self) -> str:
        """Return the script as it is sent."""
        return str(self.composer._make_submission_file_text(shlex.join(self.command), ""))

    def send(self) -> str:
        """Hand the script to sbatch and return the id of the array."""
        self.composer.folder.mkdir(parents=True, exist_ok=True)
        return str(self.composer._submit_command(shlex.join(self.command)).job_id)


def python(profile: Profile) -> Sequence[str]:
    """Return the command that starts Python in a task, in its container where there is one."""
    return *profile.container, profile.python or ("python" if profile.container else sys.executable)


def allocation(profile: Profile, resources: Resources) -> dict[str, Any]:
    """Return what a stage asks for, in submitit's words; what is not asked for is left out."""
    asked = {
        "partition": resources.partition or profile.partition, "account": profile.account, "qos": profile.qos,
        "nodes": resources.machines, "ntasks_per_node": 1, "cpus_per_task": resources.cpus_per_machine,
        "gpus_per_node": resources.gpus_per_machine or None, "mem": f"{round(resources.memory_gb * 1024)}M",
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
    name, given, value = option.partition("=")
    return name, value if given else True


@contextlib.contextmanager
def sending(profile: Profile, what: str) -> Iterator[None]:
    """Have only the variables that a profile passes on while the block hands something to sbatch.

    What sbatch is started with is what the job gets, so nothing of the shell that submits reaches a job by accident,
    such as the SLURM_* of a job it runs in itself. Raises SlurmError, one line in SLURM's own words, when it refuses.
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
