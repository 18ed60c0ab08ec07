"""Whether SLURM would take what a profile asks for, told in the profile's words from what SLURM printed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.cluster import judge
from dae_ssl.cluster import machines as as_told
from dae_ssl.cluster.finding import OK, UNKNOWN, WRONG, Finding
from dae_ssl.cluster.machines import Cluster
from dae_ssl.planning import plan
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
from tests.cluster.printed import DRAINED, NODE, PARTITION, URGENT

FITS = {"ranks_per_machine": 4, "gpus_per_machine": 4, "cpus_per_machine": 16, "memory_gb": 23, "minutes": 600}


def cluster(
    *, partitions: str = f"{PARTITION}\n{URGENT}\n", nodes: str = f"{NODE}\n{NODE}\n", **settings: str
) -> Cluster:
    found = as_told.read_partitions(partitions)
    return Cluster(settings, {partition.name: partition for partition in found}, as_told.read_machines(nodes))


def profile(**given: Any) -> Profile:
    return Profile.of("mine", given)


def only(found: Iterator[Finding]) -> Finding:
    (finding,) = found
    return finding


# ---------------------------------------------------------------------------------- what a stage asks for


def test_stage_that_just_fits_is_ok() -> None:
    assert judge.fits("pretrain", profile(stages={"pretrain": FITS}), cluster()).verdict == OK


def test_stage_that_asks_for_a_type_of_gpu_fits_where_there_are_enough_of_it() -> None:
    typed = cluster(nodes=NODE.replace("Gres=gpu:4", "Gres=gpu:a100:4"))
    for gpu_type in (None, "a100"):
        asked = profile(stages={"pretrain": FITS | {"gpu_type": gpu_type}})
        assert judge.fits("pretrain", asked, typed).verdict == OK


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"ranks_per_machine": 5, "gpus_per_machine": 5}, "5 GPUs on a machine; partition main has at most 4"),
        ({"gpu_type": "a100"}, "4 GPUs of type a100 on a machine; partition main has at most 0"),
        ({"cpus_per_machine": 17}, "17 CPUs on a machine; partition main has at most 16"),
        ({"memory_gb": 24}, "24576 MB of memory on a machine; partition main has at most 24105"),
        ({"machines": 3}, "3 machines; partition main has at most 2"),
        ({"minutes": 11, "partition": "urgent"}, "11 minutes; partition urgent has at most 10"),
    ],
)
def test_wish_that_is_too_large_is_named_with_the_limit(change: dict[str, Any], told: str) -> None:
    found = judge.fits("pretrain", profile(stages={"pretrain": FITS | change}), cluster())
    assert (found.subject, found.verdict, found.message) == ("stage pretrain", WRONG, f"asks for {told}")


def test_large_limits_are_told_in_full() -> None:
    large = cluster(nodes=NODE.replace("RealMemory=24105", "RealMemory=1031000"))
    found = judge.fits("probe", profile(stages={"probe": {"memory_gb": 2000}}), large)
    assert found.message == "asks for 2048000 MB of memory on a machine; partition main has at most 1031000"


def test_wishes_that_no_single_node_grants_together_do_not_work() -> None:
    many_cpus = NODE.replace("Gres=gpu:4", "Gres=(null)").replace("CPUEfctv=16", "CPUEfctv=64")
    found = judge.fits("pretrain", profile(stages={"pretrain": FITS | {"cpus_per_machine": 32}}),
                       cluster(nodes=f"{NODE}\n{many_cpus}"))  # fmt: skip
    assert found.verdict == WRONG
    assert found.message.startswith("0 machines of partition main have 4 GPUs on a machine, 32 CPUs")


def test_nodes_that_are_down_now_make_tasks_wait() -> None:
    found = judge.fits("pretrain", profile(stages={"pretrain": FITS}), cluster(nodes=f"{DRAINED}\n{DRAINED}"))
    assert (found.verdict, found.message) == (
        UNKNOWN,
        "fits 2 machines of partition main, of which 0 are up now: its tasks wait",
    )


def test_one_of_several_partitions_is_enough() -> None:
    asked = profile(partition="urgent,main", stages={"pretrain": FITS})
    assert judge.fits("pretrain", asked, cluster()).verdict == OK


def test_cuda_without_gpus_does_not_work() -> None:
    found = judge.fits("probe", profile(device="cuda"), cluster())
    assert found.verdict == WRONG
    assert "stages.probe.gpus_per_machine=0" in found.message


# ---------------------------------------------------------------------------------- partitions, accounts, arrays


def test_unknown_partition_is_told_with_those_there_are() -> None:
    asked = profile(partition="main", stages={"probe": {"partition": "gpu"}})
    found = {f.message: f.verdict for f in judge.listed(asked, cluster(), config.STAGES)}
    assert found == {"main is up": OK, "gpu is unknown: choose main, urgent": WRONG}


@pytest.mark.parametrize(("state", "verdict"), [("UP", OK), ("DOWN", UNKNOWN), ("DRAIN", WRONG), ("INACTIVE", WRONG)])
def test_partition_that_takes_no_jobs_does_not_work(state: str, verdict: str) -> None:
    shown = cluster(partitions=PARTITION.replace("State=UP", f"State={state}"))
    assert only(judge.listed(profile(partition="main"), shown, ["probe"])).verdict == verdict


def test_cluster_without_a_default_partition_needs_one_named() -> None:
    shown = cluster(partitions=PARTITION.replace("Default=YES", "Default=NO"))
    assert only(judge.listed(profile(), shown, ["probe"])).verdict == WRONG


def test_account_cannot_be_told_without_accounting() -> None:
    shown = cluster(AccountingStorageType="accounting_storage/none")
    found = {f.subject: (f.verdict, f.message) for f in judge.charged(profile(account="a", qos="q"), shown)}
    told = "this cannot be checked without accounting"
    assert found == {"account": (UNKNOWN, f"a: {told}"), "qos": (UNKNOWN, f"q: {told}")}
    assert list(judge.charged(profile(), shown)) == []


@pytest.mark.parametrize(
    ("enforced", "verdict"), [("associations,limits,qos,safe", WRONG), ("none", UNKNOWN), ("associations", WRONG)]
)
def test_unknown_account_does_not_work_where_slurm_insists(
    enforced: str, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge.queue, "ask", lambda _command: "lab|normal,high\nproject|normal\n")
    shown = cluster(AccountingStorageType="accounting_storage/slurmdbd", AccountingStorageEnforce=enforced)
    found = only(judge.charged(profile(account="x"), shown))
    assert (found.verdict, "(has: lab, project)" in found.message) == (verdict, True)
    assert [f.verdict for f in judge.charged(profile(account="lab", qos="high"), shown)] == [OK, OK]


def test_arrays_larger_than_the_clusters_are_told_and_the_split_is_counted(tmp_path: Path) -> None:
    cells = [config.cell(method="dae", data={"pretrain_images": count}) for count in range(1000, 1005)]
    asked = profile(array_size=3000)
    planned = plan.make(cells, Store(tmp_path), asked, queued={}, array_size=2)
    large, arrays = judge.split(planned, asked, 2)
    assert (large.subject, large.verdict) == ("array_size", WRONG)
    assert (arrays.subject, arrays.verdict) == ("arrays", OK)
    assert arrays.message.startswith("pretrain 5 tasks in 3 arrays, features 5 tasks in 3 arrays")
    assert list(judge.split(planned, profile(), 2)) == [arrays]


def test_only_stages_that_the_cells_need_are_judged(tmp_path: Path) -> None:
    raw = config.cell({"method": {"name": "pixels"}})
    planned = plan.make([raw], Store(tmp_path), profile(), queued={}, array_size=1001)
    assert list(judge.would_send(planned, profile())) == ["features", "probe", "kmeans"]
    nothing = plan.make([], Store(tmp_path), profile(), queued={}, array_size=1001)
    assert list(judge.would_send(nothing, profile())) == list(config.STAGES)
