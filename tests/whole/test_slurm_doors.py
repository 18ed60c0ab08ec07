"""Other ways to and around a cluster: from within a job, with plain sbatch, with accounting, with code that changes."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.store import Store
from tests.commanded import cell_of
from tests.conftest import ROOT, Cluster
from tests.patience import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

TINY = ["data.pretrain=tiny", "data.evaluate=tiny", "data.validation_images=6", "probe.epochs=3",
        "kmeans.clusters=3", "kmeans.restarts=2"]  # fmt: skip
RANDOM = config.cell({"method": "random", "data": {"evaluate": "tiny", "validation_images": 6}})

SEND = """
import sys
from dataclasses import replace
from pathlib import Path
import dae_ssl.training.methods
from dae_ssl import config
from dae_ssl.cluster import launch
from dae_ssl.planning import plan
from dae_ssl.store import Store
from jobs import profiles
folder = Path(sys.argv[1])
store, setup = Store(folder / "store"), (f"env > {folder}/environment",)
profile = replace(profiles.profile("dev"), sbatch=("hold",), setup=setup)
cell = config.cell({"method": "random", "data": {"evaluate": "tiny", "validation_images": 6}})
made = plan.make([cell], store, profile, queued={}, array_size=1001)
made = replace(made, arrays=made.arrays[:1])
sent = launch.intend(made, store, profile, experiment="nested", mlflow_experiment="nested")
launch.send(sent, made, store, profile, tell=lambda line: None)
print(sent.job("pretrain-0"))
"""


def wait(cluster: Cluster, job: str, seconds: float = 300) -> str:
    """Return the state of a job that has ended."""
    deadline = time.monotonic() + seconds
    while cluster.ask("squeue", "--noheader", "--jobs", job):
        assert time.monotonic() < deadline, cluster.ask("scontrol", "show", "job", job)
        time.sleep(0.2)
    return cluster.ask("scontrol", "show", "job", job).partition("JobState=")[2].split()[0]


@dataclass
class Nested:
    """A task that was sent from within a job, from a copy of the code that was broken before the task began."""

    folder: Path
    state: str
    outer: str

    @property
    def environment(self) -> dict[str, str]:
        lines = (self.folder / "environment").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.fixture(scope="module")
def nested(cluster: Cluster, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Nested:
    folder = tmp_path_factory.mktemp("nested")
    shutil.copytree(images, folder / "store")
    for part in ("dae_ssl", "jobs", "slurm", "hydra_plugins"):
        shutil.copytree(ROOT / part, folder / "code" / part)
    (folder / "send.py").write_text(SEND)
    program = f"cd {folder}/code && PYTHONPATH=. {sys.executable} {folder}/send.py {folder}"
    odd = {"OMP_NUM_THREADS": "77", "CUDA_VISIBLE_DEVICES": "3", "SLURM_HINT": "nomultithread", "SECRET": "x"}
    sent = cluster.run(
        "sbatch", "--parsable", "--gpus-per-node=1", "--cpus-per-task=3", "--mem=3G", "--nice=7",
        f"--output={folder}/outer", f"--wrap={program}", **odd,
    )  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    outer = sent.stdout.strip()
    assert wait(cluster, outer) == "COMPLETED", (folder / "outer").read_text()
    for path in (folder / "code").rglob("*.py"):
        path.write_text("raise SystemExit('this code changed after the submission')\n")
    inner = (folder / "outer").read_text().split()[-1]
    cluster.ask("scontrol", "release", inner)
    return Nested(folder, wait(cluster, inner), outer)


def test_code_that_changes_after_the_submission_changes_nothing(nested: Nested) -> None:
    printed = [path.read_text() for path in nested.folder.glob("store/launches/*/logs/*.out")]
    assert nested.state == "COMPLETED", printed
    (snapshot,) = (nested.folder / "store" / "snapshots").iterdir()
    record = Store(nested.folder / "store").node("pretrain", config.key(RANDOM, "pretrain")).record()
    assert record is not None
    assert record["snapshot"] == snapshot.name


def test_job_that_is_sent_from_within_a_job_has_the_stated_environment_and_its_own_allocation(nested: Nested) -> None:
    seen = nested.environment
    assert seen["SLURM_JOB_ID"] != nested.outer
    assert seen["SLURM_CPUS_PER_TASK"] == "2", "the profile's, not those of the job it was sent from"
    assert seen["SLURM_MEM_PER_NODE"] == "2048"
    assert not {"SECRET", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "SLURM_HINT", "SLURM_NICE"} & seen.keys()
    script = next(nested.folder.glob("store/launches/*/logs/*_submission.sh")).read_text()
    assert "export OMP_NUM_THREADS=1\n" in script


def test_cell_is_computed_with_plain_sbatch(cluster: Cluster, images: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(images, store)
    small = ["optimisation.epochs=1", "optimisation.batch_size=8", "optimisation.checkpoints=[]"]
    cell = ["method=dae", *TINY, *small]
    key = config.cell_key(cell_of(cell))
    variables = {"DAE_SSL_STORE": str(store), "DAE_SSL_PYTHON": sys.executable, "DAE_SSL_DEVICE": "cpu"}
    sent = cluster.run(
        "sbatch", "--parsable", "--gpus-per-node=2", "--cpus-per-task=2", "--mem=6G",
        f"--chdir={ROOT}", f"--output={tmp_path}/out", "slurm/cell.sbatch", *cell, **variables, OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    assert wait(cluster, sent.stdout.strip()) == "COMPLETED", (tmp_path / "out").read_text()
    nodes = json.loads((store / "cells" / key / "cell.json").read_text())["nodes"]
    records = {stage: Store(store).node(stage, node).record() for stage, node in nodes.items()}
    assert {stage: (record or {}).get("ranks") for stage, record in records.items()} == {
        "pretrain": 2, "features": 1, "probe": 1, "kmeans": 1,
    }  # fmt: skip
    again = cluster.run("sbatch", "--parsable", "--array=0", f"--chdir={ROOT}", f"--output={tmp_path}/again",
                        "slurm/cell.sbatch", key, **variables)  # fmt: skip
    assert wait(cluster, again.stdout.strip()) == "COMPLETED", "a cell that is there is found by its key, in an array"


def test_plain_sbatch_without_a_cell_or_with_an_unknown_one_is_one_line(cluster: Cluster, tmp_path: Path) -> None:
    for keys, said in (((), "no cell is named"), (("0123",), "cell 0123 is not described in"),
                       (("method=dea",), "error: method='dea': did you mean dae?")):  # fmt: skip
        variables = {"DAE_SSL_STORE": str(tmp_path), "DAE_SSL_PYTHON": sys.executable}
        sent = cluster.run("sbatch", "--parsable", f"--chdir={ROOT}", f"--output={tmp_path}/%j", "slurm/cell.sbatch",
                           *keys, **variables)  # fmt: skip
        assert wait(cluster, sent.stdout.strip()) == "FAILED"
        assert said in (tmp_path / sent.stdout.strip()).read_text()


def test_status_tells_history_where_the_cluster_keeps_it(
    clusters: Callable[..., Cluster], images: Path, tmp_path: Path
) -> None:
    cluster, store = clusters("--proctrack", "cgroup", "--accounting"), tmp_path / "store"
    shutil.copytree(images, store)
    tour = ["tour", "--profile=dev", "--seeds=0", "--no-floors", *TINY, "optimisation.batch_size=8",
            f"--store={store}"]  # fmt: skip
    assert cluster.dae_ssl("submit", *tour).returncode == 0
    deadline = time.monotonic() + PATIENCE  # SLURM itself knows only after a moment why a pending one is pending
    while "features: Dependency" not in (waiting := cluster.dae_ssl("status", *tour)).stdout:
        assert time.monotonic() < deadline, waiting.stdout
        time.sleep(0.5)
    jobs = cluster.ask("squeue", "--noheader", "--format=%F").split()
    cluster.ask("scancel", "--signal=KILL", "--full", *jobs)
    cluster.ask("scancel", *jobs)
    deadline = time.monotonic() + 300
    while "SLURM says CANCELLED" not in (seen := cluster.dae_ssl("status", *tour)).stdout:
        assert time.monotonic() < deadline, seen.stdout
        time.sleep(1)
