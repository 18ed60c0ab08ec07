"""The lanes of this machine: its GPUs, processors and memory are divided among them.

On each GPU two lanes pretrain, extract features and probe, so that one lane compiles, extracts and probes while the
other trains; k-means runs on processors, in a lane of its own, during the training of the next cell. Without a GPU all
lanes are alike, and there is one unless more are asked for.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dae_ssl import config
from dae_ssl.compute.resources import Resources
from dae_ssl.config import Cell, require
from dae_ssl.data import prepared
from dae_ssl.store import Store

LANES_OF_A_GPU = 2
MOST_OF_EACH = 4
"""The largest number of lanes for each processor, or for each GPU if there are more GPUs than processors."""
ON_CPU = "kmeans"
"""The stage that uses no GPU."""
SHARED_OUT = 0.95
"""The share of a GPU's memory that its lanes may use; CUDA itself takes some for each process."""

# Measured with PyTorch 2.15 on two CPU cores, as the largest resident memory of a process. Three steps of DAE with the
# L2 embedding loss on 50,000 images (SimCLR takes less): 1.18 GB in batches of 64, 1.91 GB of 256, 2.70 GB of 512.
# Training in batches of 512, then features of 8192 numbers in float16 for 60,000 images (0.98 GB), then the probe on
# them, in one process, which keeps some of the memory that training took: 4.46 GB (without training 3.69 GB).
TRAINS_GB, TRAINS_GB_PER_IMAGE = 1.0, 0.0035
"""The memory of a process that pretrains, and the additional memory for each image of a batch."""
EVALUATES_GB, EVALUATES_TIMES = 1.5, 3
"""The memory of a process that evaluates, and how many times the size of the features it takes in addition."""
WIDTH = 8192
"""The number of features in a representation of the study's encoder."""
MARGIN = 1.2


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The stages that a lane computes, and its resources, which do not change the results."""

    stages: frozenset[str] = frozenset(config.STAGES)
    device: str = "auto"
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of its process, in addition to those of this process."""
    gpu_share: float = 1.0
    """The share of its GPU's memory that it may take."""


# ---------------------------------------------------------------------------------- the resources of this machine


def gpus(device: str) -> list[str]:
    """Return the GPUs of this machine that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if device == "cpu":
        return []
    import torch

    count, visible = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible else [str(number) for number in range(count)]


def available_gb(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the memory in GB that processes can still take here; None if the system does not report it.

    It is what the machine has left, or what the limit of this process's container or job (its control group) leaves.
    """
    try:
        lines = (line.partition(":") for line in (proc / "meminfo").read_text().splitlines())
        left = [1024 * int(value.split()[0]) for name, _, value in lines if name == "MemAvailable"]
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "memory" in controllers.split(","):
                top = groups / "memory" if controllers else groups
                inside = top / path.lstrip("/")
                left += [
                    room for group in (inside, *inside.parents) if group.is_relative_to(top) for room in _room(group)
                ]
    except (OSError, ValueError, IndexError):
        return None
    return min(left) / 1e9 if left else None


def _room(group: Path) -> list[int]:
    """Return the bytes that a control group may still take, counting cached files as free; [] if it has no limit."""
    for most, used, dropped in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # before Linux 4.5
    ):
        if (group / most).is_file() and (limit := (group / most).read_text().strip()) != "max":
            facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            return [int(limit) - int((group / used).read_text()) + int(facts.get(dropped, 0))]
    return []


# ---------------------------------------------------------------------------------- dividing them among lanes


def deal(parallel: int | None, pretrain: Resources, device: str, visible: Sequence[str], processors: int) -> list[Kind]:
    """Return the lanes of this machine: `parallel` that train, spread over its GPUs; with GPUs also one for k-means.

    By default there are `packing` lanes, or two for each GPU, or one. Processors are divided evenly, unless
    OMP_NUM_THREADS sets each lane's number; lanes of one GPU share its memory. Raises ConfigError for several lanes if
    each cell takes several ranks, and for far more lanes than the machine has processors or GPUs.
    """
    alone = pretrain.ranks > 1
    require(
        not alone or parallel in (None, 1), "--parallel", parallel, f"1, since each cell takes {pretrain.ranks} ranks"
    )
    most = MOST_OF_EACH * max(processors, len(visible))
    choices = f"at most {most}: {MOST_OF_EACH} for each of {processors} processors, or of {len(visible)} GPUs"
    require(parallel is None or 1 <= parallel <= most, "--parallel", parallel, choices)
    usual = 1 if alone else pretrain.packing if pretrain.packing > 1 else LANES_OF_A_GPU * len(visible) or 1
    count = parallel or usual
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, processors // (count + bool(visible))))
    share = {"OMP_NUM_THREADS": threads}
    if not visible:
        return [Kind(device=device, variables=share if count > 1 else {})] * count
    stages = frozenset(config.STAGES) - {ON_CPU}
    dealt = [visible[number % len(visible)] for number in range(count)]
    on_gpu = [
        Kind(stages=stages, device=device) if alone
        else Kind(stages=stages, device=device, variables=share | {"CUDA_VISIBLE_DEVICES": gpu},
                  gpu_share=1.0 if dealt.count(gpu) == 1 else SHARED_OUT / dealt.count(gpu))
        for gpu in dealt
    ]  # fmt: skip
    return [*on_gpu, Kind(stages=frozenset({ON_CPU}), device="cpu", variables=share | {"CUDA_VISIBLE_DEVICES": ""})]


def takes_gb(cell: Cell, store: Store) -> float:
    """Return the most memory, in GB, that a process on a CPU takes for any stage of a cell: measured, with a margin."""
    trains = TRAINS_GB + TRAINS_GB_PER_IMAGE * cell.optimisation.batch_size if cell.method.trains else 0.0
    images = sum(int(facts["images"]) for facts in prepared.splits(store, cell.data.evaluate).values())
    features_gb = images * WIDTH * {"float16": 2, "float32": 4}[cell.features.dtype] / 1e9
    return MARGIN * max(trains, EVALUATES_GB + EVALUATES_TIMES * features_gb)


def require_room(parallel: int, each: float, available: float | None) -> None:
    """Raise ConfigError if there are more lanes than the available memory allows; `each` and `available` are in GB.

    A single lane is never refused, since it may need less.
    """
    if available is not None:
        fits = max(1, int(available / each))
        choices = f"at most {fits}: each process may take {each:.1f} GB, and {available:.1f} GB of memory are free"
        require(parallel <= fits, "--parallel", parallel, choices)
