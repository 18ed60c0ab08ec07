"""An experiment on a real cluster: sent as arrays, computed once, cancelled, found again."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.cluster import launch, submissions
from dae_ssl.compute import nodes
from dae_ssl.compute.nodes import needed
from dae_ssl.planning import plan
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
from jobs import profiles
from tests.commanded import ask
from tests.conftest import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

TINY = [
    "data.pretrain=tiny", "data.evaluate=tiny", "data.validation_images=6", "optimisation.batch_size=8",
    "optimisation.epochs=2", "optimisation.checkpoints=[1]", "probe.epochs=3", "kmeans.clusters=3", "kmeans.restarts=2",
]  # fmt: skip
TOUR = ["tour", "--profile=dev", "--seeds=0", *TINY]


def wait(cluster: Cluster, seconds: float = 480) -> None:
    """Wait until the queue is empty."""
    deadline = time.monotonic() + seconds
    while cluster.ask("squeue", "--noheader"):
        assert time.monotonic() < deadline, cluster.ask("squeue", "--noheader", "--array")
        time.sleep(0.5)


def tour_cells() -> list[config.Cell]:
    return ask(TOUR).cells


def commits(store: Path) -> dict[str, int]:
    """Return when each node was committed."""
    return {str(path.parent.relative_to(store)): path.stat().st_mtime_ns for path in store.glob("[!d]*/*/record.json")}


def sent(store: Path) -> list[str]:
    """Return the nodes of the newest submission, stage by stage, with repetition if it has any."""
    newest = submissions.launches(Store(store))[-1]
    found = []
    for array in newest.arrays():
        lines = newest.folder.product(f"{array}.jsonl").read_text().splitlines()[1:]
        found += [f"{node['stage']}/{node['key']}" for line in lines for node in json.loads(line)["nodes"]]
    return found


@pytest.fixture(scope="module")
def finished(cluster: Cluster, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with three cells of four ranks each and the floors they share, submitted and left to the cluster."""
    store = tmp_path_factory.mktemp("finished") / "store"
    shutil.copytree(images, store)
    done = cluster.dae_ssl("submit", *TOUR, f"--store={store}")
    assert done.returncode == 0, done.stderr
    wait(cluster)
    return store


def test_experiment_is_computed_from_submission_to_report(cluster: Cluster, finished: Path) -> None:
    seen = cluster.dae_ssl("status", *TOUR, f"--store={finished}")
    assert seen.returncode == 0, seen.stdout + seen.stderr
    assert "19 nodes: 19 done" in seen.stdout
    records = [json.loads(path.read_text()) for path in finished.glob("pretrain/*/record.json")]
    assert sorted(record["ranks"] for record in records) == [1, 4, 4, 4], "three cells and the random encoder"
    report = cluster.dae_ssl("report", *TOUR, f"--store={finished}")
    assert report.returncode == 0, report.stderr
    page = Path(report.stdout.splitlines()[-1])
    assert all(row in page.read_text() for row in ("SimCLR", "DAE, L2, α = 1", "random encoder", "raw pixels"))


def test_nodes_that_cells_share_are_computed_once_and_a_second_submission_sends_nothing(
    cluster: Cluster, finished: Path
) -> None:
    assert len(sent(finished)) == len(set(sent(finished))) == 19
    before = commits(finished)
    again = cluster.dae_ssl("submit", *TOUR, f"--store={finished}")
    assert "nothing is missing" in again.stdout
    assert cluster.ask("squeue", "--noheader") == ""
    assert commits(finished) == before
    assert len(submissions.launches(Store(finished))) == 1


def test_only_a_deleted_node_and_its_dependents_are_sent_again(
    cluster: Cluster, finished: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(finished, store)
    before = commits(store)
    trained = config.key(tour_cells()[0], "features")
    victim = store / "features" / trained
    (victim / "features.h5").unlink()
    again = cluster.dae_ssl("submit", *TOUR, f"--store={store}")
    assert again.returncode == 0, again.stderr
    assert [node.split("/")[0] for node in sent(store)] == ["features", "probe", "kmeans"]
    wait(cluster)
    after = commits(store)
    changed = {node for node in after if after[node] != before[node]}
    assert changed == {f"features/{victim.name}"}, "the new features are the old ones, so what was made from them stays"


def test_task_runs_from_a_snapshot_that_its_record_names(finished: Path) -> None:
    (snapshot,) = (finished / "snapshots").iterdir()
    for path in finished.glob("pretrain/*/record.json"):
        record = json.loads(path.read_text())
        assert record["snapshot"] == snapshot.name
        assert record["commit"] == submissions.launches(Store(finished))[0].intent["commit"]


@pytest.fixture
def idle(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, while no node takes a job."""
    cluster.ask("scontrol", "update", "nodename=node[1-2]", "state=drain", "reason=test")
    yield cluster
    cluster.ask("scontrol", "update", "nodename=node[1-2]", "state=resume")


@pytest.mark.parametrize("when", ["before", "after", "answer lost"])
def test_array_of_a_submitter_that_was_killed_is_adopted_not_sent_twice(
    when: str, idle: Cluster, images: Path, tmp_path: Path
) -> None:
    cluster = idle
    store = tmp_path / "store"
    shutil.copytree(images, store)
    shim = tmp_path / "bin" / "sbatch"
    shim.parent.mkdir()
    real = shutil.which("sbatch")
    sends = f'{real} "$@" >/dev/null; ' if when != "before" else ""
    ends = "echo 'sbatch: error: Socket timed out' >&2; exit 1" if when == "answer lost" else "kill -9 $PPID"
    shim.write_text(f"#!/bin/sh\n{sends}{ends}\n")
    shim.chmod(0o755)
    tour = [*TOUR, f"--store={store}"]
    killed = cluster.dae_ssl("submit", *tour, PATH=f"{shim.parent}:{os.environ['PATH']}")
    assert killed.returncode == (2 if when == "answer lost" else -9)
    again = cluster.dae_ssl("submit", *tour)
    assert again.returncode == 0, again.stderr
    assert ("found pretrain-0 of an interrupted submission" in again.stdout) == (when != "before")
    queued = cluster.ask("squeue", "--noheader", "--array", "--format=%j").split()
    assert len(queued) == 19, "each node is queued once"
    cancelled = cluster.dae_ssl("cancel", *tour)
    assert cancelled.stdout.strip() == "19 tasks of tour cancelled", cancelled.stderr
    wait(cluster)


def test_submission_that_is_refused_leaves_neither_jobs_nor_cells(
    cluster: Cluster, images: Path, tmp_path: Path
) -> None:
    shutil.copytree(images, tmp_path / "store")
    mine = tmp_path / "mine.yaml"
    mine.write_text("{partition: main, image: /nowhere.sif, container: [apptainer, exec, '${image}']}")
    before = cluster.ask("squeue", "--noheader")
    refused = cluster.dae_ssl("submit", *TOUR, f"--store={tmp_path / 'store'}", f"--profile={mine}")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "/nowhere.sif" in refused.stderr
    assert not Store(tmp_path / "store").cells()
    assert cluster.ask("squeue", "--noheader") == before


def test_failed_cell_cancels_its_dependents_and_leaves_its_siblings_alone(
    cluster: Cluster, images: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(images, store)
    good, bad = (config.cell({"method": "dae", **tiny(rate)}) for rate in (1e-3, 1e30))
    dev = profiles.profile("dev")
    alone = replace(dev.stages.pretrain, ranks_per_machine=1, gpus_per_machine=1)
    profile = replace(dev, array_parallelism=4, stages=replace(dev.stages, pretrain=alone))
    pretrain, *dependents = send(cluster, store, [good, bad], profile)
    wait(cluster)
    assert [state(cluster, f"{pretrain}_{index}") for index in (0, 1)] == ["COMPLETED", "FAILED"]
    assert {stage for stage, _ in nodes.finished(needed([good]), Store(store))} == set(config.STAGES)
    assert not nodes.finished(needed([bad]), Store(store))
    assert [state(cluster, f"{array}_1") for array in dependents] == ["CANCELLED"] * 3
    assert [state(cluster, f"{array}_0") for array in dependents] == ["COMPLETED"] * 3


def tiny(rate: float) -> dict[str, Any]:
    return {
        "data": {"pretrain": "tiny", "evaluate": "tiny", "validation_images": 6},
        "optimisation": {"epochs": 2, "batch_size": 8, "learning_rate": rate, "checkpoints": []},
        "probe": {"epochs": 3}, "kmeans": {"clusters": 3, "restarts": 2},
    }  # fmt: skip


def send(cluster: Cluster, root: Path, cells: list[config.Cell], profile: Profile) -> list[str]:
    """Send cells and return the ids of the arrays, that of pretraining first."""
    store = Store(root)
    made = plan.make(cells, store, profile, queued={}, array_size=1001)
    intent = launch.intend(made, store, profile, experiment="test", mlflow_experiment="test")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        launch.send(intent, made, store, profile, tell=lambda _line: None)
    return [str(intent.job(f"{stage}-0")) for stage in config.STAGES]


def state(cluster: Cluster, task: str) -> str:
    shown = cluster.ask("scontrol", "show", "job", task)
    return shown.partition("JobState=")[2].split()[0]
