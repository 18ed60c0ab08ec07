"""What each lane gets of this machine: its GPUs dealt round, its processors and memory shared out.

On a GPU two lanes pretrain, extract features and probe, so that one's compiling, features and probe hide behind the
other's steps; k-means, which is work for a CPU, has a lane of its own and runs beside the next cell's training. Without
a GPU all lanes are alike, and there is one unless more are asked for.
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
"""Lanes at most for each processor, or for each GPU where these are more."""
ON_CPU = "kmeans"
"""The stage that uses no GPU."""
SHARED_OUT = 0.95
"""How much of a GPU's memory its lanes share; CUDA itself takes some for each process beside that."""

# Measured with PyTorch 2.15 on two CPU cores, as the most that a process was resident with. Three steps of DAE
# with the L2 embedding loss on 50,000 images (SimCLR takes less): 1.18 GB in batches of 64, 1.91 GB of 256, 2.70 GB of
# 512. Training in batches of 512, then features of 8192 numbers in float16 for 60,000 images (0.98 GB), and then the
# probe on them, in one process, which keeps some of what training took: 4.46 GB (without training 3.69 GB).
TRAINS_GB, TRAINS_GB_PER_IMAGE = 1.0, 0.0035
"""What a process takes that pretrains, and what it takes more for each image of a batch."""
EVALUATES_GB, EVALUATES_TIMES = 1.5, 3
"""What a process takes that evaluates, and how many times the bytes of the features it takes beside that."""
WIDTH = 8192
"""Numbers in a representation of the study's encoder."""
MARGIN = 1.2


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a lane computes and with what, which changes nothing of what is computed."""

    stages: frozenset[str] = frozenset(config.STAGES)
    device: str = "auto"
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment of its process, beside what this one has."""
    gpu_share: float = 1.0
    """How much of its GPU's memory it may take."""


# ---------------------------------------------------------------------------------- what this machine has


def gpus(device: str) -> list[str]:
    """Return the GPUs of this machine that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if device == "cpu":
        return []
    import torch

    count, visible = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible else [str(number) for number in range(count)]


def available_gb(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the memory that processes can still take here, in GB; None where the system does not tell.

    The machine has it, and the container or job that this process is in, which Linux calls its control group, may.
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
    """Return what a control group may still take, in bytes, beside files that it would drop; [] if it has no limit."""
    for most, used, dropped in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # before Linux 4.5
    ):
        if (group / most).is_file() and (limit := (group / most).read_text().strip()) != "max":
            facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            return [int(limit) - int((group / used).read_text()) + int(facts.get(dropped, 0))]
    return []


# ---------------------------------------------------------------------------------- shared out


def deal(parallel: int | None, pretrain: Resources, device: str, visible: Sequence[str], processors: int) -> list[Kind]:
    """Return the lanes of this machine: so many for training, dealt round over its GPUs, and on a GPU one for k-means.

    None asks for `packing`, or two for each GPU, or one. Processors are shared evenly unless OMP_NUM_THREADS says what
    each is to have, and the memory of a GPU among the lanes that it has. Raises ConfigError for several lanes where one
    cell takes all ranks, and for more than the machine can be meant to have.
    """
    alone = pretrain.ranks > 1
    require(not alone or parallel in (None, 1), "--parallel", parallel, f"1 with {pretrain.ranks} ranks a cell")
    most = MOST_OF_EACH * max(processors, len(visible))
    choices = f"{most} at most: {MOST_OF_EACH} for each of {processors} processors, or of {len(visible)} GPUs"
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
    """Return what a process on a CPU takes at most for any stage of a cell, in GB: as measured, and some more."""
    trains = TRAINS_GB + TRAINS_GB_PER_IMAGE * cell.optimisation.batch_size if cell.method.trains else 0.0
    images = sum(int(facts["images"]) for facts in prepared.splits(store, cell.data.evaluate).values())
    features_gb = images * WIDTH * {"float16": 2, "float32": 4}[cell.features.dtype] / 1e9
    return MARGIN * max(trains, EVALUATES_GB + EVALUATES_TIMES * features_gb)


def require_room(parallel: int, each: float, available: float | None) -> None:
    """Raise ConfigError for more lanes than memory is available for, in GB, where each takes so much.

    One lane is never refused: it may do with less.
    """
    if available is not None:
        fits = max(1, int(available / each))
        choices = f"{fits} at most: each process may take {each:.1f} GB, and {available:.1f} GB of memory are free"
        require(parallel <= fits, "--parallel", parallel, choices)
