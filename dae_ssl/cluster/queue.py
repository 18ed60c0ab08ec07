"""What SLURM says: the queue, its limits, and history where a cluster keeps one. Works without accounting."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PENDING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD", "CONFIGURING")


class SlurmError(RuntimeError):
    """SLURM refused or cannot be asked; the message is one line with its own words."""


@dataclass(frozen=True)
class Queued:
    """One task that SLURM has and has not finished with."""

    array: str
    """Id of its array, or of the job where it is none."""
    index: int | None
    state: str
    reason: str
    """Why a pending one is pending."""
    name: str
    comment: str

    @property
    def task(self) -> str:
        """Its name as scancel takes it, ARRAY_INDEX."""
        return self.array if self.index is None else f"{self.array}_{self.index}"

    @property
    def pending(self) -> bool:
        return self.state in PENDING


def available() -> bool:
    """Tell whether this machine has SLURM's commands."""
    return shutil.which("sbatch") is not None


def queue() -> list[Queued]:
    """Return every task of this user that is pending, running or about to end. Raises SlurmError."""
    printed = ask(["squeue", "--me", "--noheader", "--array", "--format=%F|%K|%T|%r|%j|%k"])
    found = []
    for line in printed.splitlines():
        array, index, state, reason, name, comment = line.split("|", 5)
        found.append(Queued(array, int(index) if index.isdigit() else None, state, reason, name, comment))
    return found


def array_size() -> int:
    """Return MaxArraySize, one more than the largest index of an array. Raises SlurmError."""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask(["scontrol", "show", "config"]), re.MULTILINE)
    if match is None:
        raise SlurmError("`scontrol show config` does not tell MaxArraySize: set array_size in the profile")
    return int(match[1])


def ended(tasks: Sequence[str]) -> dict[str, str]:
    """Return the final state of each task (ARRAY_INDEX) that accounting knows; nothing where there is none."""
    if not tasks or shutil.which("sacct") is None:
        return {}
    command = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State", "-j", ",".join(tasks)]
    try:
        lines = ask(command).splitlines()
    except SlurmError:
        return {}
    return {task: state.partition(" ")[0] for task, _, state in (line.partition("|") for line in lines)}


def cancel(tasks: Iterable[str]) -> None:
    """Cancel tasks or whole arrays; those that are over already are passed over. Raises SlurmError."""
    if names := list(tasks):
        ask(["scancel", "--quiet", *names])


def ask(command: Sequence[str], seconds: float = 60) -> str:
    """Return what one of SLURM's commands prints. Raises SlurmError when it fails or does not answer."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SACCT_", "SCANCEL_"))}
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds, env=kept)
    except FileNotFoundError:
        raise SlurmError(
            f"{command[0]} is not on this machine: submit from where SLURM is, or choose --profile local"
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]} does not answer within {seconds:g} s: try again later") from None
    except subprocess.CalledProcessError as error:
        said = " ".join((error.stderr or error.stdout or "").split()) or f"exit code {error.returncode}"
        raise SlurmError(f"{command[0]}: {said}") from None
    return done.stdout
