"""Ask SLURM for its queue, its limits and, if the cluster has accounting, its history; cancel tasks."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PENDING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD", "CONFIGURING")


class SlurmError(RuntimeError):
    """SLURM refused a request or cannot be asked; the message is one line with SLURM's own words."""


@dataclass(frozen=True)
class Queued:
    """One task in SLURM's queue, pending or running."""

    array: str
    """The id of its array, or of the job if it is not an array."""
    index: int | None
    state: str
    reason: str
    """Why a pending task is pending."""
    name: str
    comment: str

    @property
    def task(self) -> str:
        """The name of the task for scancel, ARRAY_INDEX."""
        return self.array if self.index is None else f"{self.array}_{self.index}"

    @property
    def pending(self) -> bool:
        return self.state in PENDING


def available() -> bool:
    """Return whether this machine has SLURM's commands."""
    return shutil.which("sbatch") is not None


def queue() -> list[Queued]:
    """Return every task of this user that is pending, running or completing. Raises SlurmError."""
    printed = ask(["squeue", "--me", "--noheader", "--array", "--format=%F|%K|%T|%r|%j|%k"])
    entries = []
    for line in printed.splitlines():
        array, index, state, reason, name, comment = line.split("|", 5)
        entries.append(Queued(array, int(index) if index.isdigit() else None, state, reason, name, comment))
    return entries


def array_size() -> int:
    """Return MaxArraySize, which is one more than the largest index of an array. Raises SlurmError."""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask(["scontrol", "show", "config"]), re.MULTILINE)
    if match is None:
        raise SlurmError("`scontrol show config` does not print MaxArraySize: set array_size in the profile")
    return int(match[1])


def ended(tasks: Sequence[str]) -> dict[str, str]:
    """Return the final state of each task (ARRAY_INDEX) that accounting knows; nothing without accounting."""
    if not tasks or shutil.which("sacct") is None:
        return {}
    command = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State", "-j", ",".join(tasks)]
    try:
        lines = ask(command).splitlines()
    except SlurmError:
        return {}
    return {task: state.partition(" ")[0] for task, _, state in (line.partition("|") for line in lines)}


def cancel(tasks: Iterable[str]) -> None:
    """Cancel tasks or whole arrays; those that have ended are ignored. Raises SlurmError."""
    if names := list(tasks):
        ask(["scancel", "--quiet", *names])


def ask(command: Sequence[str], seconds: float = 60) -> str:
    """Return the output of one of SLURM's commands. Raises SlurmError if it fails or does not answer in time."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SACCT_", "SCANCEL_"))}
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds, env=kept)
    except FileNotFoundError:
        raise SlurmError(
            f"{command[0]} is not on this machine: submit from a machine that has SLURM, or choose --profile local"
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]} did not answer within {seconds:g} s: try again later") from None
    except subprocess.CalledProcessError as error:
        said = " ".join((error.stderr or error.stdout or "").split()) or f"exit code {error.returncode}"
        raise SlurmError(f"{command[0]}: {said}") from None
    return done.stdout
