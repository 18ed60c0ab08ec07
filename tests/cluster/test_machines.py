"""How what SLURM printed of machines, partitions and limits is read."""

import math

import pytest

from dae_ssl.cluster import machines as as_told
from tests.cluster.printed import DRAINED, NODE, PARTITION, URGENT


def test_nodes_are_read_as_slurm_prints_them() -> None:
    idle, drained = as_told.read_machines(f"{NODE}\n{DRAINED}\n")
    assert (idle.gpus, idle.cpus, idle.memory_mb, idle.up) == ({"": 4}, 16, 24105, True)
    assert idle.partitions == {"main", "low", "urgent"}
    assert (drained.gpus, drained.up) == ({"": 4}, False)


def test_partitions_are_read_as_slurm_prints_them() -> None:
    main, urgent = as_told.read_partitions(f"{PARTITION}\n{URGENT}\n")
    assert (main.name, main.state, main.default) == ("main", "UP", True)
    assert main.minutes == main.machines == math.inf
    assert (urgent.name, urgent.default, urgent.minutes) == ("urgent", False, 10)


@pytest.mark.parametrize(
    ("state", "up"),
    [("IDLE", True), ("MIXED+CLOUD", True), ("IDLE+CLOUD+POWERED_DOWN", True), ("DOWN", False), ("DOWN*", False),
     ("IDLE*", False), ("ALLOCATED+DRAIN", False), ("IDLE+NOT_RESPONDING", False), ("DOWN+DRAIN+INVALID_REG", False)],
)  # fmt: skip
def test_node_is_up_unless_jobs_are_kept_from_it(state: str, up: bool) -> None:
    (machine,) = as_told.read_machines(NODE.replace("State=IDLE", f"State={state}"))
    assert machine.up is up


@pytest.mark.parametrize(
    ("gres", "counts"),
    [("gpu:4", {"": 4}), ("gpu:a100:4", {"a100": 4}), ("gpu:a100:4(S:0-1)", {"a100": 4}),
     ("gpu:a100:2(S:0,1),gpu:v100:1(S:1),shard:8", {"a100": 2, "v100": 1}), ("gpu:a100", {"a100": 1}),
     ("nvme:1,gpu", {"": 1}), ("(null)", {}), ("", {})],
)  # fmt: skip
def test_gpus_of_every_type_are_counted(gres: str, counts: dict[str, int]) -> None:
    assert as_told.gpus(gres) == counts


def test_gpus_are_counted_of_one_type_or_of_all() -> None:
    (machine,) = as_told.read_machines(NODE.replace("gpu:4", "gpu:a100:2,gpu:v100:1"))
    assert [machine.count(gpu_type) for gpu_type in ("a100", "v100", "h100", None)] == [2, 1, 0, 3]


@pytest.mark.parametrize(
    ("limit", "minutes"), [("00:10:00", 10), ("2-01:30:00", 2 * 1440 + 90), ("UNLIMITED", math.inf), ("", math.inf)]
)
def test_time_limits_are_read(limit: str, minutes: float) -> None:
    assert as_told.minutes(limit) == minutes
