"""What a cluster looks like: partition, resources of each stage, limits, container, environment."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from dae_ssl import config
from dae_ssl.compute.resources import FORMER, Resources
from dae_ssl.config import ConfigError, require

LAUNCHERS = ("slurm", "local")
DEVICES = ("auto", "cpu", "cuda")
PASSED = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "LC_ALL", "SLURM_CONF",
          "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")  # fmt: skip
"""What reaches a job of the environment it was submitted from, unless the profile says otherwise. Credentials travel
in the environment, where no script, log or command line shows them."""


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The resources of every stage."""

    pretrain: Resources = field(default_factory=Resources)
    features: Resources = field(default_factory=Resources)
    probe: Resources = field(default_factory=Resources)
    kmeans: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        for stage in config.STAGES[1:]:
            resources = getattr(self, stage)
            only = "1: only pretraining has more"
            require(resources.packing == 1, f"stages.{stage}.packing", resources.packing, only)
            require(resources.ranks == 1, f"stages.{stage}.ranks_per_machine", resources.ranks, only)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One cluster, or this machine."""

    name: str
    launcher: str = "slurm"
    """`slurm`, or `local` to run everything here, in order."""
    partition: str | None = None
    """The partition that jobs are sent to, unless a stage names another; null leaves it to SLURM."""
    account: str | None = None
    """The account that jobs are charged to; null leaves it to SLURM."""
    qos: str | None = None
    """The quality of service that jobs ask for; null leaves it to SLURM."""
    sbatch: tuple[str, ...] = ()
    """Further options of sbatch for every stage."""
    device: str = "auto"
    """The device that tasks compute on; `auto` takes a GPU where there is one."""
    stages: Stages = field(default_factory=Stages)
    array_parallelism: int = 16
    """Tasks of one array that run at the same time."""
    array_size: int | None = None
    """Tasks in one array at most, below the cluster's own MaxArraySize; None takes that."""
    max_requeues: int = 100
    """Times that a task goes on after a time limit or a preemption."""
    max_failures: int = 3
    """Times that a task is killed (out of memory, a lost rank) before it counts as failed."""
    signal_seconds: int = 90
    """How long before its time limit a task is told to save its state and continue in a new attempt."""
    save_seconds: float = 30.0
    """How often pretraining saves its state: what a sudden death costs at most."""
    keep_features: bool | None = None
    """False drops a cell's features, 983 MB for 60,000 images, once every node that reads them is done; they are
    computed again if something new is to be read from them. None keeps them, but where a run on this machine has a
    budget of minutes, or the disk has little room."""
    image: str | None = None
    """The image that the container command starts: a file, or a reference by digest, as in NAME@sha256:...; what it
    contains, by its SHA-256, stands in every commit record."""
    container: tuple[str, ...] = ()
    """Command and arguments that Python is started with in a container, as [apptainer, exec, --nv, IMAGE]."""
    python: str | None = None
    """Python of the jobs; None is the one that submits, or `python` in a container."""
    setup: tuple[str, ...] = ()
    """Lines of shell before a task, such as `module load cuda`."""
    environment: tuple[str, ...] = ()
    """NAME=VALUE for every task. No secrets: they would stand in the batch script."""
    pass_environment: tuple[str, ...] = PASSED
    """Variables that reach a task from where it is submitted; nothing else does."""
    tracking_uri: str | None = None
    """MLflow server that running tasks copy to; None leaves that to `dae-ssl sync`."""
    scratch: str | None = None
    """Folder on a machine's own disk for temporary files."""

    def __post_init__(self) -> None:
        require(self.launcher in LAUNCHERS, "launcher", self.launcher, " or ".join(LAUNCHERS))
        require(self.device in DEVICES, "device", self.device, ", ".join(DEVICES))
        for name in ("array_parallelism", "signal_seconds"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("max_requeues", "max_failures", "save_seconds"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(self.array_size is None or self.array_size >= 1, "array_size", self.array_size, "null or at least 1")
        for stage in config.STAGES:
            minutes, choices = self.resources(stage).minutes, f"more than signal_seconds, {self.signal_seconds} s"
            require(60 * minutes > self.signal_seconds, f"stages.{stage}.minutes", minutes, choices)
        for line in self.environment:
            require(re.fullmatch(r"[A-Za-z_]\w*=.*", line) is not None, "environment", line, "NAME=VALUE")
        secret = self.tracking_uri is not None and "@" in self.tracking_uri
        choices = "an address without credentials: put them into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        require(not secret, "tracking_uri", "…@…", f"{choices} of the shell that submits")

    def resources(self, stage: str) -> Resources:
        """Return what a stage asks for."""
        found: Resources = getattr(self.stages, stage)
        return found

    @classmethod
    def of(cls, name: str, given: Mapping[str, Any]) -> Self:
        """Build a profile from plain values. Raises ConfigError that names the profile and the setting."""
        try:
            _require_present_names(given.get("stages"))
            return config.build(cls, dict(given) | {"name": name})
        except ConfigError as error:
            raise ConfigError(f"profile {name}: {error}") from None


def _require_present_names(stages: object) -> None:
    """Raise ConfigError for a setting of resources under the name that it had in earlier versions."""
    for stage, resources in stages.items() if isinstance(stages, Mapping) else ():
        for name in sorted(FORMER.keys() & set(resources)) if isinstance(resources, Mapping) else ():
            told = (
                f"called {FORMER[name]} now, since a node is a stage of a cell: write {FORMER[name]}: {resources[name]}"
            )
            raise ConfigError(f"stages.{stage}.{name} is {told}")


def passed(profile: Profile) -> dict[str, str]:
    """Return what a job gets of the environment of this process: what the profile names, and nothing else."""
    return {name: os.environ[name] for name in profile.pass_environment if name in os.environ}


def stated(profile: Profile, store_root: Path) -> dict[str, str]:
    """Return the variables that every task of a profile sets for itself, none of them secret."""
    variables = {"DAE_SSL_STORE": str(store_root), "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
    if profile.tracking_uri is not None:
        variables["MLFLOW_TRACKING_URI"] = profile.tracking_uri
    if profile.scratch is not None:
        variables["TMPDIR"] = profile.scratch
    return variables | dict(line.split("=", 1) for line in profile.environment)
