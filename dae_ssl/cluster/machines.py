"""What a cluster is made of, as SLURM tells it: partitions, machines (its nodes), settings."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from dae_ssl.cluster import queue

ABSENT = {"DOWN", "DRAIN", "DRAINED", "DRAINING", "FAIL", "FAILING", "ERROR", "FUTURE", "UNKNOWN", "NOT_RESPONDING",
          "INVAL", "INVALID_REG"}  # fmt: skip
"""Words of a machine's state that keep jobs from it; one that is POWERED_DOWN is started for them."""


@dataclass(frozen=True)
class Partition:
    """What `scontrol show partition` tells of one."""

    name: str
    state: str
    default: bool
    minutes: float
    """Longest time limit."""
    machines: float
    """Most machines of a job."""


@dataclass(frozen=True)
class Machine:
    """What `scontrol show node` tells of one; as a whole, not what is free now."""

    partitions: frozenset[str]
    gpus: int
    cpus: int
    memory_mb: int
    up: bool


@dataclass(frozen=True)
class Cluster:
    """What of a cluster decides whether a task can run."""

    settings: Mapping[str, str]
    partitions: Mapping[str, Partition]
    machines: Sequence[Machine]

    @classmethod
    def asked(cls) -> Self:
        """Ask SLURM. Raises SlurmError."""
        shown = queue.ask(["scontrol", "show", "config"]).splitlines()
        settings = {name.strip(): value.strip() for name, equals, value in (s.partition("=") for s in shown) if equals}
        partitions = read_partitions(queue.ask(["scontrol", "--all", "--oneliner", "show", "partition"]))
        machines = read_machines(queue.ask(["scontrol", "--all", "--oneliner", "show", "node"]))
        return cls(settings, {partition.name: partition for partition in partitions}, machines)

    def chosen(self, name: str | None) -> list[Partition]:
        """Return the known partitions that a name, or several with commas, stands for; None is the default one."""
        if name is None:
            return [partition for partition in self.partitions.values() if partition.default]
        return [self.partitions[part] for part in name.split(",") if part in self.partitions]


def read_partitions(printed: str) -> list[Partition]:
    """Return the partitions that `scontrol --oneliner show partition` printed."""
    return [
        Partition(
            fields["PartitionName"], fields.get("State", "UP"), fields.get("Default") == "YES",
            minutes(fields.get("MaxTime", "")), _number(fields.get("MaxNodes", "")),
        )
        for fields in map(_fields, printed.splitlines()) if "PartitionName" in fields
    ]  # fmt: skip


def read_machines(printed: str) -> list[Machine]:
    """Return the machines that `scontrol --oneliner show node` printed."""
    return [
        Machine(
            frozenset(fields.get("Partitions", "").split(",")), gpus(fields.get("Gres", "")),
            int(fields.get("CPUEfctv", fields["CPUTot"])), int(fields["RealMemory"]),
            "*" not in fields["State"] and not ABSENT & set(re.split(r"\W+", fields["State"])),
        )
        for fields in map(_fields, printed.splitlines()) if "NodeName" in fields
    ]  # fmt: skip


def gpus(gres: str) -> int:
    """Return how many GPUs there are of any type, of Gres as in `gpu:a100:4(S:0-1),shard:8`."""
    listed = [part.split(":") for part in re.sub(r"\([^)]*\)", "", gres).split(",")]
    return sum(int(parts[-1]) if parts[-1].isdigit() else 1 for parts in listed if parts[0] == "gpu")


def minutes(limit: str) -> float:
    """Return a time limit, `[D-]HH:MM:SS`, in minutes; without bound if it names none."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", limit)
    if match is None:
        return math.inf
    days, hours, mins, seconds = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + mins + seconds / 60


def _number(value: str) -> float:
    return int(value) if value.isdigit() else math.inf


def _fields(line: str) -> dict[str, str]:
    """Return NAME=VALUE of a line by name, the first of each; a reason in words at its end may hold anything."""
    pairs = [word.partition("=") for word in line.split()]
    return {name: value for name, equals, value in reversed(pairs) if equals}
