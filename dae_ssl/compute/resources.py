"""What one task has: machines, processes, GPUs, processors, memory, time."""

import re
from dataclasses import dataclass

from dae_ssl.config import require

FORMER = {
    "nodes": "machines",
    "ranks_per_node": "ranks_per_machine",
    "gpus_per_node": "gpus_per_machine",
    "cpus_per_node": "cpus_per_machine",
}
"""Names that settings had in earlier versions, in profiles and in files of arrays, and what they are called now."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one array task of a stage asks for."""

    machines: int = 1
    """The number of machines that a task takes; several pretrain one cell together."""
    ranks_per_machine: int = 1
    """Processes that pretrain together on a machine; 4 with 4 GPUs. Other stages have one rank."""
    gpus_per_machine: int = 0
    """The number of GPUs on each machine: none, or one for each rank or packed cell."""
    cpus_per_machine: int = 2
    """The number of processors on each machine."""
    memory_gb: float = 8
    """Memory of each machine."""
    minutes: int = 60
    """Time limit; pretraining goes on in a new attempt when it is over."""
    packing: int = 1
    """Cells side by side in one task, each on its own single GPU; pays where one cell cannot fill four."""
    partition: str | None = None
    """Where this stage runs, if not in the profile's partition."""
    sbatch: tuple[str, ...] = ()
    """Further options of sbatch, as in `constraint=a100`."""

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
        for option in self.sbatch:
            require(re.fullmatch(r"[a-z][a-z-]*(=.+)?", option) is not None, "sbatch", option, "as in constraint=a100")

    @property
    def ranks(self) -> int:
        """Processes that pretrain one cell."""
        return self.machines * self.ranks_per_machine

    @property
    def gpus(self) -> int:
        """GPUs of one task; a task without any is counted by its machines."""
        return self.machines * self.gpus_per_machine
