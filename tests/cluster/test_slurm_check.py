"""What `jobs.check` tells on a real cluster: a profile that works, and each mistake in the words of who found it."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.commanded import DAE_SSL, run

pytestmark = pytest.mark.slow

DEV = """
partition: main
device: cpu
stages:
  pretrain: {ranks_per_machine: 4, gpus_per_machine: 4, cpus_per_machine: 4, memory_gb: 1}
  features: {memory_gb: 1}
  probe: {memory_gb: 1}
  kmeans: {memory_gb: 1}
"""
Findings = dict[str, list[tuple[str, str]]]
"""Verdict and words by subject."""


@pytest.fixture
def checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, Findings]]:
    """Run the command with a profile's text on a cluster; return its exit code and what it found."""
    for name in [name for name in os.environ if name.startswith(("SLURM", "SBATCH"))]:
        monkeypatch.delenv(name)

    def found_by(cluster: Any, text: str, *arguments: str) -> tuple[int, Findings]:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        (tmp_path / "mine.yaml").write_text(text)
        code = run("check", [f"--profile={tmp_path / 'mine.yaml'}", f"--store={tmp_path / 'store'}", *arguments])
        found: Findings = {}
        for line in capsys.readouterr().out.splitlines()[:-2]:
            found.setdefault(line[16:32].strip(), []).append((line[:16].strip(), line[32:]))
        assert not (tmp_path / "store").exists()
        return code, found

    return found_by


@contextmanager
def changed(cluster: Any, change: str, back: str) -> Iterator[None]:
    """Have the cluster's administrator change something for a while."""
    cluster.ask("scontrol", "update", *change.split())
    try:
        yield
    finally:
        cluster.ask("scontrol", "update", *back.split())
        deadline = time.monotonic() + 60
        while re.search(r"down|drain|\*", cluster.ask("sinfo", "--noheader", "--partition=main", "--format=%T")):
            assert time.monotonic() < deadline, "nodes do not come back"
            time.sleep(0.2)  # a node that is resumed counts as silent until it is heard of


PACKED = DEV.replace("ranks_per_machine: 4", "packing: 4, ranks_per_machine: 1")


@pytest.mark.parametrize("profile", [DEV, PACKED], ids=["four ranks", "four packed cells"])
def test_profile_that_works_is_ok_and_nothing_is_queued(
    profile: str, cluster: Any, checked: Callable[..., Any]
) -> None:
    code, found = checked(cluster, profile)
    assert code == 0
    for stage in ("pretrain", "features", "probe", "kmeans"):
        assert found[f"stage {stage}"] == [("ok", "fits 2 machines of partition main")]
        ((verdict, told),) = found[f"sbatch {stage}"]
        assert (verdict, told.startswith("SLURM accepts it")) == ("ok", True)
    assert found["partition"] == [("ok", "main is up")]
    assert cluster.ask("squeue", "--noheader", "--states=all", "--format=%j").count("check") == 0


def test_what_is_too_large_is_told_by_us_and_by_slurm(cluster: Any, checked: Callable[..., Any]) -> None:
    code, found = checked(cluster, DEV.replace("4, gpus_per_machine: 4", "5, gpus_per_machine: 5"))
    assert code == 1
    assert found["stage pretrain"] == [("will not work", "asks for 5 GPUs on a machine; partition main has at most 4")]
    told = "SLURM refuses pretrain-0: Requested node configuration is not available"
    assert found["sbatch pretrain"] == [("will not work", told)]
    assert found["sbatch probe"][0][0] == "ok"


def test_type_of_gpu_is_asked_of_slurm_which_knows_the_types_there_are(
    clusters: Callable[..., Any], checked: Callable[..., Any]
) -> None:
    typed = clusters("--nodes=1", "--gpu-type=a100")
    for gpu_type, verdict in (("a100", "ok"), ("h100", "will not work")):
        _, found = checked(typed, DEV.replace("gpus_per_machine: 4", f"gpus_per_machine: 4, gpu_type: {gpu_type}"))
        assert [found[f"{what} pretrain"][0][0] for what in ("stage", "sbatch")] == [verdict] * 2, found


def test_what_only_slurm_knows_is_told_in_its_words(cluster: Any, checked: Callable[..., Any]) -> None:
    code, found = checked(cluster, f"{DEV}sbatch: [constraint=a100]\n")
    assert (code, found["stage probe"][0][0]) == (1, "ok")
    assert found["sbatch probe"] == [("will not work", "SLURM refuses probe-0: Invalid feature specification")]


def test_unknown_partition_is_told_with_those_there_are(cluster: Any, checked: Callable[..., Any]) -> None:
    code, found = checked(cluster, DEV.replace("main", "gpu"))
    assert (code, found["partition"]) == (1, [("will not work", "gpu is unknown: choose main, low, urgent")])


def test_account_and_array_size_and_cells_are_told_without_accounting(
    cluster: Any, checked: Callable[..., Any]
) -> None:
    code, found = checked(cluster, f"{DEV}account: lab\narray_size: 2000\n", "tour", "--seeds=0")
    assert (code, found["account"]) == (1, [("not certain", "lab: this cannot be checked without accounting")])
    told = "2000 is more than MaxArraySize of this cluster: choose null or at most 1001"
    assert found["array_size"] == [("will not work", told)]
    assert found["data"][0][0] == "will not work"
    assert found["arrays"][0][0] == "ok"


def test_partition_and_nodes_that_are_down_make_tasks_wait(cluster: Any, checked: Callable[..., Any]) -> None:
    with changed(cluster, "nodename=node1,node2 state=drain reason=test", "nodename=node1,node2 state=resume"):
        code, found = checked(cluster, DEV)
    assert (code, found["stage probe"][0][0], found["sbatch probe"][0][0]) == (0, "not certain", "not certain")
    with changed(cluster, "partitionname=low state=down", "partitionname=low state=up"):
        code, found = checked(cluster, DEV.replace("main", "low"))
    assert (code, found["partition"]) == (0, [("not certain", "low is down: tasks wait until it is up")])
    with changed(cluster, "partitionname=low state=inactive", "partitionname=low state=up"):
        code, found = checked(cluster, DEV.replace("main", "low"))
    assert (code, found["partition"][0][0]) == (1, "will not work")


def test_variables_of_the_shell_do_not_reach_the_judgement(
    cluster: Any, checked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    code, found = checked(cluster, DEV.replace("partition: main\n", ""))
    assert (code, found["sbatch pretrain"][0][0]) == (0, "ok")


def test_controller_that_does_not_answer_is_one_finding(
    cluster: Any, checked: Callable[..., Any], tmp_path: Path
) -> None:
    conf = Path(cluster.environment["SLURM_CONF"]).read_text()
    (tmp_path / "slurm.conf").write_text(re.sub(r"(?m)^SlurmctldPort=.*", "SlurmctldPort=1", conf))
    code, found = checked(SimpleNamespace(environment={"SLURM_CONF": str(tmp_path / "slurm.conf")}), DEV)
    ((verdict, told),) = found["SLURM"]
    assert (code, verdict, "Unable to contact slurm controller" in told) == (1, "will not work", True)
    assert not any(subject.startswith(("stage", "sbatch")) for subject in found)


def test_account_and_qos_are_told_by_accounting(clusters: Callable[..., Any], checked: Callable[..., Any]) -> None:
    cluster = clusters("--accounting", "--conf", "AccountingStorageEnforce=associations,limits,qos")
    code, found = checked(cluster, f"{DEV}account: root\nqos: normal\n")
    assert (code, found["account"], found["qos"]) == (0, [("ok", "root")], [("ok", "normal")])
    code, found = checked(cluster, f"{DEV}account: lab\nqos: gold\n")
    assert (code, found["account"]) == (1, [("will not work", "root has no account lab (has: root)")])
    assert found["qos"] == [("will not work", "root has no qos gold (has: normal)")]
    assert found["sbatch probe"][0][0] == "will not work"


def test_bad_input_is_one_line_and_code_2() -> None:
    command = [*DAE_SSL, "check", "--profile=nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
