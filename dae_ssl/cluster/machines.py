"""Read the partitions, machines (SLURM's nodes) and settings of a cluster from SLURM."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from dae_ssl.cluster import queue

ABSENT = {"DOWN", "DRAIN", "DRAINED", "DRAINING", "FAIL", "FAILING", "ERROR", "FUTURE", "UNKNOWN", "NOT_RESPONDING",
          "INVAL", "INVALID_REG"}  # fmt: skip
"""The words in a machine's state that mean that it takes no jobs; a POWERED_DOWN machine is started for them."""


@dataclass(frozen=True)
class Partition:
    """One partition, as `scontrol show partition` describes it."""

    name: str
    state: str
    default: bool
    minutes: float
    """The longest time limit of a job."""
    machines: float
    """The largest number of machines of a job."""


@dataclass(frozen=True)
class Machine:
    """One machine, as `scontrol show node` describes it: everything it has, not only what is free now."""

    partitions: frozenset[str]
    gpus: Mapping[str, int]
    """The number of GPUs by type; those without a type are under an empty name."""
    cpus: int
    memory_mb: int
    up: bool

    def count(self, gpu_type: str | None) -> int:
        """Return the number of GPUs of a type, or of all with None."""
        return sum(self.gpus.values()) if gpu_type is None else self.gpus.get(gpu_type, 0)


@dataclass(frozen=True)
class Cluster:
    """The properties of a cluster that decide whether a task can run."""

    settings: Mapping[str, str]
    partitions: Mapping[str, Partition]
    machines: Sequence[Machine]

    @classmethod
    def asked(cls) -> Self:
        """Return the cluster that SLURM describes. Raises SlurmError if SLURM cannot be asked."""
        shown = queue.ask(["scontrol", "show", "config"]).splitlines()
        settings = {name.strip(): value.strip() for name, equals, value in (s.partition("=") for s in shown) if equals}
        partitions = read_partitions(queue.ask(["scontrol", "--all", "--oneliner", "show", "partition"]))
        machines = read_machines(queue.ask(["scontrol", "--all", "--oneliner", "show", "node"]))
        return cls(settings, {partition.name: partition for partition in partitions}, machines)

    def chosen(self, name: str | None) -> list[Partition]:
        """Return the known ones of the partitions that are named, separated by commas; None names the default one."""
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


def gpus(gres: str) -> dict[str, int]:
    """Return the number of GPUs by type in a Gres field such as `gpu:a100:4(S:0-1),shard:8`."""
    counts: dict[str, int] = {}
    for part in re.sub(r"\([^)]*\)", "", gres).split(","):
        name, *described = part.split(":")
        if name == "gpu":
            count = int(described.pop()) if described and described[-1].isdigit() else 1
            gpu_type = described[0] if described else ""
            counts[gpu_type] = counts.get(gpu_type, 0) + count
    return counts


def minutes(limit: str) -> float:
    """Return a time limit `[D-]HH:MM:SS` in minutes, and infinity for anything else, such as UNLIMITED."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", limit)
    if match is None:
        return math.inf
    days, hours, mins, seconds = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + mins + seconds / 60


def _number(value: str) -> float:
    return int(value) if value.isdigit() else math.inf


def _fields(line: str) -> dict[str, str]:
    """Return the first value of each NAME=VALUE of a line; free text at its end may contain further ones."""
    pairs = [word.partition("=") for word in line.split()]
    return {name: value for name, equals, value in reversed(pairs) if equals}
