"""The resources of one task: machines, processes, GPUs, processors, memory, time."""

import re
from dataclasses import dataclass

from dae_ssl.config import require

FORMER = {
    "nodes": "machines",
    "ranks_per_node": "ranks_per_machine",
    "gpus_per_node": "gpus_per_machine",
    "cpus_per_node": "cpus_per_machine",
}
"""Names of settings in profiles and files of arrays from earlier versions, and their names now."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The resources that one array task of a stage asks for."""

    machines: int = 1
    """The number of machines that a task takes; several pretrain one cell together."""
    ranks_per_machine: int = 1
    """Ranks that pretrain one cell together on each machine, such as 4 with 4 GPUs. Other stages have one rank."""
    gpus_per_machine: int = 0
    """The number of GPUs on each machine: none, or one for each rank or packed cell."""
    gpu_type: str | None = None
    """The type of the GPUs, as the cluster names it in `gpu:a100:4`; null takes any."""
    cpus_per_machine: int = 2
    """The number of processors on each machine."""
    memory_gb: float = 8
    """Memory of each machine."""
    minutes: int = 60
    """Time limit; pretraining that reaches it continues in a new attempt."""
    packing: int = 1
    """Cells side by side in one task, each on one GPU; worthwhile on machines whose GPUs one cell cannot all use."""
    partition: str | None = None
    """The partition of this stage, if it is not the profile's."""
    sbatch: tuple[str, ...] = ()
    """Further options of sbatch, such as `constraint=a100`."""

    def __post_init__(self) -> None:
        for name in ("machines", "ranks_per_machine", "cpus_per_machine", "minutes", "packing"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.gpus_per_machine >= 0, "gpus_per_machine", self.gpus_per_machine, "0 or more")
        require(self.memory_gb > 0, "memory_gb", self.memory_gb, "more than 0")
        alone = self.packing == 1 or self.machines == self.ranks_per_machine == 1
        require(
            alone,
            "packing",
            self.packing,
            "1, or machines: 1 and ranks_per_machine: 1, since packed cells have one rank",
        )
        processes, gpus = max(self.ranks_per_machine, self.packing), self.gpus_per_machine
        require(
            gpus in (0, processes), "gpus_per_machine", gpus, f"0, or {processes}, one for each rank or packed cell"
        )
        if self.gpu_type is not None:
            named = re.fullmatch(r"[\w.-]+", self.gpu_type, re.ASCII) is not None
            require(named, "gpu_type", self.gpu_type, "a name such as a100")
            require(gpus > 0, "gpus_per_machine", gpus, f"at least 1 with gpu_type: {self.gpu_type}")
        for option in self.sbatch:
            asks_again = gpus > 0 and re.match(r"gpus|(gres|tres-per-[a-z]+)=.*gpu", option) is not None
            require(not asks_again, "sbatch", option, "gpus_per_machine and gpu_type instead")
            is_option = re.fullmatch(r"[a-z][a-z-]*(=.+)?", option) is not None
            require(is_option, "sbatch", option, "an option such as constraint=a100")

    @property
    def ranks(self) -> int:
        """The number of processes that pretrain one cell."""
        return self.machines * self.ranks_per_machine

    @property
    def gpus(self) -> int:
        """The number of GPUs of one task, on all its machines."""
        return self.machines * self.gpus_per_machine
