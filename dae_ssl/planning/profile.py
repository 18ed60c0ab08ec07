"""A profile describes a cluster: its partition, the resources of each stage, limits, container and environment."""

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
"""The variables that a job takes over from the submitting shell unless the profile names others. Credentials travel in
the environment, where no script, log or command line shows them."""


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
            only = "1, since only pretraining can have more"
            require(resources.packing == 1, f"stages.{stage}.packing", resources.packing, only)
            require(resources.ranks == 1, f"stages.{stage}.ranks_per_machine", resources.ranks, only)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The description of one cluster, or of this machine."""

    name: str
    launcher: str = "slurm"
    """`slurm`, or `local` to compute everything on this machine, one node after another."""
    partition: str | None = None
    """The partition that jobs are sent to, unless a stage names another; null leaves it to SLURM."""
    account: str | None = None
    """The account that jobs are charged to; null leaves it to SLURM."""
    qos: str | None = None
    """The quality of service that jobs ask for; null leaves it to SLURM."""
    sbatch: tuple[str, ...] = ()
    """Further options of sbatch for the tasks of every stage."""
    device: str = "auto"
    """The device that tasks compute on; `auto` takes a GPU where there is one."""
    stages: Stages = field(default_factory=Stages)
    array_parallelism: int = 16
    """The largest number of tasks of one array that run at the same time."""
    array_size: int | None = None
    """The largest number of tasks in one array; None uses the cluster's MaxArraySize, which is the upper limit."""
    max_requeues: int = 100
    """How many times a task is put into the queue again after a time limit or a preemption."""
    max_failures: int = 3
    """How many times a task may be killed (out of memory, a lost rank) before it counts as failed."""
    signal_seconds: int = 90
    """How many seconds before its time limit a task gets the signal to save its state and end; a new attempt
    continues."""
    save_seconds: float = 30.0
    """The seconds between two saved states of pretraining, which is the most work that a crash can lose."""
    keep_features: bool | None = None
    """False drops a cell's features (983 MB for 60,000 images) once every node that reads them is done; they are
    computed again if a new node needs them. None keeps them, except in a run on this machine with a budget of minutes
    or with little free disk space."""
    image: str | None = None
    """The container image: a file, or a reference by digest such as NAME@sha256:...; its SHA-256 is in every commit
    record."""
    container: tuple[str, ...] = ()
    """The command and arguments that start a program in the container, such as [apptainer, exec, --nv, IMAGE]."""
    python: str | None = None
    """The Python interpreter of the jobs; None is the interpreter that submits, or `python` in a container."""
    setup: tuple[str, ...] = ()
    """Shell commands that run before each task, such as `module load cuda`."""
    environment: tuple[str, ...] = ()
    """Variables of every task, as NAME=VALUE. Put no secrets here: the batch script shows them."""
    pass_environment: tuple[str, ...] = PASSED
    """The variables that a task takes over from the submitting shell; no others reach it."""
    tracking_uri: str | None = None
    """The MLflow server to which running tasks copy their logs; None leaves the copying to `dae-ssl sync`."""
    scratch: str | None = None
    """A folder for temporary files on the local disk of each machine."""

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
        choices = "an address without credentials, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        require(not secret, "tracking_uri", "…@…", f"{choices} in the shell that submits")

    def resources(self, stage: str) -> Resources:
        """Return the resources of a stage."""
        resources: Resources = getattr(self.stages, stage)
        return resources

    @classmethod
    def of(cls, name: str, given: Mapping[str, Any]) -> Self:
        """Build a profile from plain values. Raises a ConfigError that names the profile and the setting."""
        try:
            _require_present_names(given.get("stages"))
            return config.build(cls, dict(given) | {"name": name})
        except ConfigError as error:
            raise ConfigError(f"profile {name}: {error}") from None


def _require_present_names(stages: object) -> None:
    """Raise ConfigError if a setting of resources has its name from an earlier version."""
    for stage, resources in stages.items() if isinstance(stages, Mapping) else ():
        for name in sorted(FORMER.keys() & set(resources)) if isinstance(resources, Mapping) else ():
            present = FORMER[name]
            raise ConfigError(f"stages.{stage}.{name} is now called {present}: write {present}: {resources[name]}")


def passed(profile: Profile) -> dict[str, str]:
    """Return the variables of this process that a job takes over: those that the profile names, and no others."""
    return {name: os.environ[name] for name in profile.pass_environment if name in os.environ}


def stated(profile: Profile, store_root: Path) -> dict[str, str]:
    """Return the variables that the batch script sets for every task of a profile; none of them is secret."""
    variables = {"DAE_SSL_STORE": str(store_root), "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
    if profile.tracking_uri is not None:
        variables["MLFLOW_TRACKING_URI"] = profile.tracking_uri
    if profile.scratch is not None:
        variables["TMPDIR"] = profile.scratch
    return variables | dict(line.split("=", 1) for line in profile.environment)
