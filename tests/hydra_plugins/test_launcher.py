"""Ad-hoc Hydra sweeps through SLURM: what a profile asks for, how cells end, and a sweep that is disturbed."""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
from omegaconf import OmegaConf

from dae_ssl import config
from dae_ssl.cluster import queue
from dae_ssl.cluster.queue import Queued, SlurmError
from dae_ssl.compute import cells, life
from dae_ssl.compute.resources import Resources
from dae_ssl.compute.stages import Context
from dae_ssl.config import Cell, ConfigError
from dae_ssl.distributed import world
from dae_ssl.planning.profile import Profile, Stages
from dae_ssl.store import OUTCOMES, Store
from hydra_plugins import dae_ssl_launcher as launcher
from jobs import profiles
from tests.commanded import DAE_SSL, cell_of
from tests.patience import PATIENCE

TINY = [
    "data.pretrain=tiny", "data.validation_images=6", "optimisation.batch_size=8", "optimisation.checkpoints=[1]",
    "probe.epochs=2", "kmeans.clusters=3", "kmeans.restarts=1", "--no-floors",
]  # fmt: skip
DAE = ["method=dae", "method.embedding=l2", "method.alpha=1", "data.evaluate=tiny", "optimisation.epochs=4"]
HIDES_SCONTROL = ["unshare", "-m", "sh", "-c", 'mount --bind /bin/false "$(command -v scontrol)"; exec "$@"', "--"]


# ---------------------------------------------------------------------------------- what is asked for


def test_cell_asks_for_the_most_that_any_stage_asks_for_each_rank() -> None:
    stages = Stages(
        pretrain=Resources(machines=2, ranks_per_machine=4, gpus_per_machine=4, cpus_per_machine=16, memory_gb=32,
                           minutes=240, partition="gpu", sbatch=("constraint=a100",)),
        features=Resources(gpus_per_machine=1, cpus_per_machine=2, memory_gb=20, minutes=30),
        kmeans=Resources(partition="cpu", cpus_per_machine=8, memory_gb=4, minutes=300),
    )  # fmt: skip
    assert launcher.share(Profile(name="x", stages=stages)) == Resources(
        gpus_per_machine=1, cpus_per_machine=8, memory_gb=20, minutes=300, partition="gpu", sbatch=("constraint=a100",)
    )


def test_cell_asks_for_its_share_of_a_packed_task_and_for_no_gpu_where_no_stage_does() -> None:
    packed = Resources(packing=4, gpus_per_machine=4, cpus_per_machine=3, memory_gb=64)
    rest = dict.fromkeys(config.STAGES[1:], Resources(cpus_per_machine=1))
    assert launcher.share(Profile(name="x", stages=Stages(pretrain=packed, **rest))) == Resources(
        gpus_per_machine=1, cpus_per_machine=1, memory_gb=16
    )
    assert launcher.share(Profile(name="x")).gpus_per_machine == 0


@pytest.fixture
def a_submitter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an `srun`, without which submitit composes nothing."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}:{os.environ['PATH']}")
    return tmp_path


def test_batch_script_says_what_the_profile_says(a_submitter: Path) -> None:
    profile = Profile(
        name="x", partition="gpu", account="a", qos="q", sbatch=("exclusive",), array_parallelism=7, max_requeues=5,
        max_failures=2, signal_seconds=120, container=("apptainer", "exec", "--nv", "an image.sif"),
        image=str(a_submitter / "an image.sif"),
        setup=("module load apptainer",), environment=("OMP_NUM_THREADS=3",), tracking_uri="http://server:5000",
        stages=Stages(pretrain=Resources(gpus_per_machine=1, cpus_per_machine=8, memory_gb=16, minutes=240,
                                         sbatch=("constraint=a100",))),
    )  # fmt: skip
    (a_submitter / "an image.sif").write_bytes(b"image")
    store = Store(a_submitter / "store")
    folder = store.launch("multirun-x")
    made = launcher.executor(profile, store, folder)
    lines = made._make_submission_file_text(made._submitit_command_str, "").splitlines()
    (snapshot,) = (store.root / "snapshots").iterdir()
    asked = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    assert asked == {
        "partition=gpu", "account=a", "qos=q", "exclusive", "constraint=a100", "nodes=1", "ntasks-per-node=1",
        "gpus-per-node=1", "cpus-per-task=8", "mem=16384M", "time=240", "signal=USR2@120", "requeue",
        "open-mode=append", "job-name=run", "comment='dae_ssl multirun-x'", f"chdir={snapshot}",
        f"output={folder.path}/logs/%j_0_log.out",
    }  # fmt: skip
    begins = lines.index("# setup") + 1
    assert lines[begins] == "module load apptainer"
    exported = dict(
        line.removeprefix("export ").split("=", 1) for line in lines[begins + 1 : lines.index("# command")] if line
    )
    assert exported.items() >= {
        "OMP_NUM_THREADS": "3", "DAE_SSL_STORE": str(store.root), "PYTHONPATH": str(snapshot),
        "DAE_SSL_SNAPSHOT": snapshot.name, "MLFLOW_TRACKING_URI": "http://server:5000",
        "DAE_SSL_IMAGE": f"sha256:{hashlib.sha256(b'image').hexdigest()}",
    }.items()  # fmt: skip
    (command,) = (shlex.split(line) for line in lines if line.startswith("srun"))
    assert command[-9:] == ["apptainer", "exec", "--nv", "an image.sif", "python", "-u", "-m",
                            "submitit.core._submit", f"{folder.path}/logs"]  # fmt: skip
    after = ["exec", "bash", f"{snapshot}/slurm/after_task.sh", "$?", f"{folder.path}/{OUTCOMES}", "5", "2"]
    assert shlex.split(lines[-1]) == after
    assert (snapshot / "hydra_plugins" / "dae_ssl_launcher.py").is_file(), "a task could not load its pickle"


def test_profile_decides_device_and_mlflow_where_the_command_line_does_not() -> None:
    assert launcher.usual(Profile(name="x", device="cpu")) == ["device=cpu", "mlflow_experiment=null"]
    assert launcher.usual(Profile(name="x", tracking_uri="http://server:5000")) == ["device=auto"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (None, "--profile is missing"),
        ("local", "--profile='local' does not submit to SLURM"),
        ("nowhere", "--profile='nowhere': choose dev, gpu4, gpu4-packed, local"),
    ],
)
def test_profile_that_nothing_can_be_sent_with_is_refused_in_one_line(name: str | None, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        launcher.chosen(name, profiles.profile)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_sweep_larger_than_an_array_may_be_says_how_to_send_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(queue, "array_size", lambda: 1001)
    sender = launcher.ProfileLauncher("x", 1)
    with pytest.raises(ConfigError, match=r"3 cells are more than .* 2 tasks: add hydra.sweeper.max_batch_size=2"):
        sender._send(Profile(name="x", array_size=2), Store(tmp_path), [["seed=1"], ["seed=2"], ["seed=3"]], 0)


def test_cells_of_a_sweep_are_told_apart_by_what_differs() -> None:
    swept = [["method=dae", "seed=1", "store=s"], ["method=dae", "seed=2", "store=s"]]
    assert launcher.differing(swept) == ["seed=1", "seed=2"]
    assert launcher.differing(swept[:1]) == ["method=dae seed=1 store=s"]


# ---------------------------------------------------------------------------------- how a cell ends


def ends(monkeypatch: pytest.MonkeyPatch, cell: Any) -> JobReturn:
    """What the launcher makes of a cell in its task."""
    monkeypatch.setattr(SlurmLauncher, "__call__", lambda _self, *_arguments: cell())
    return launcher.ProfileLauncher("x", 1)([], "hydra.sweep.dir", 0, "0", {})


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_signal_outside_pretraining_ends_the_task_with_its_number(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.signal(number, lambda *_: pytest.fail("submitit's own handler was called"))
    try:
        with pytest.raises(SystemExit) as ended:
            ends(monkeypatch, lambda: os.kill(os.getpid(), number) or time.sleep(5))
        assert ended.value.code == 128 + number
    finally:
        signal.signal(number, before)


def test_what_a_cell_raises_fails_its_task(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    broken = JobReturn(overrides=["seed=1"], status=JobStatus.FAILED, _return_value=ZeroDivisionError("the reason"))
    with pytest.raises(ZeroDivisionError, match="the reason"):
        ends(monkeypatch, lambda: broken)
    assert "seed=1" in capsys.readouterr().err
    fine = JobReturn(status=JobStatus.COMPLETED)
    assert ends(monkeypatch, lambda: fine) is fine


def test_task_that_left_no_result_has_ended_when_the_queue_lacks_it_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The queue may fail to answer, and a result may show late on a shared file system."""
    done, died, late = (job(tmp_path, index) for index in range(3))
    done.paths.result_pickle.touch()
    looks: Iterator[list[Queued] | None] = iter([[queued(1), queued(2)], [], None, [queued(2)], [], []])
    asked = []

    def look() -> list[Queued]:
        asked.append(answer := next(looks))
        if answer is None:
            raise SlurmError("squeue does not answer")
        return answer

    monkeypatch.setattr(queue, "queue", look)
    found = []
    for over in launcher.ended([done, died, late], look_seconds=0.001):
        found.append((over.job_id, len(asked)))
        if over is died:
            late.paths.result_pickle.touch()
    assert found == [("7_0", 1), ("7_1", 4), ("7_2", 5)]


def job(folder: Path, index: int) -> Any:
    return SimpleNamespace(job_id=f"7_{index}", paths=SimpleNamespace(result_pickle=folder / str(index)))


def queued(index: int) -> Queued:
    return Queued("7", index, "RUNNING", "None", "run_cell", "")


def test_reason_is_the_last_thing_that_the_task_said_itself(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert launcher.reason(log) == "it printed nothing"
    log.write_text("cell x\nKilled by a monkey\nsrun: error: node1: task 0: Killed\n")
    assert launcher.reason(log) == "Killed by a monkey"
    log.write_text("cell x\nerror: no images\nmore\nsrun: error: node1: task 0: Exited with exit code 2\n")
    assert launcher.reason(log) == "error: no images"


# ---------------------------------------------------------------------------------- on a cluster, and without


def sweep(store: Path, *overrides: str) -> list[str]:
    """The command of a sweep of tiny cells."""
    return [*DAE_SSL, "run", "--multirun", *TINY, f"--store={store}",
            f"hydra.sweep.dir={store.parent / 'sweep'}", *overrides]  # fmt: skip


def through(profile: str | Path) -> list[str]:
    return [f"--profile={profile}", "hydra.launcher.look_seconds=1"]


def copy_of(images: Path, folder: Path) -> Path:
    shutil.copytree(images, folder / "store")
    return folder / "store"


def described(*overrides: str) -> Cell:
    return cell_of([word for word in (*TINY, *overrides) if not word.startswith("--")])


def outcomes(store: Path) -> list[tuple[str, str]]:
    """(index of the task, outcome) of every attempt that was not the last of a finished cell.

    That one's batch script may still be writing when the sweep has all it waited for.
    """
    (path,) = store.glob(f"launches/multirun-*/{OUTCOMES}")
    noted = [json.loads(line) for line in path.read_text().splitlines()]
    return [(note["task"].partition("_")[2], note["outcome"]) for note in noted if note["outcome"] != "done"]


@pytest.mark.slow
def test_cells_of_a_multirun_without_a_launcher_are_computed_one_after_another(images: Path, tmp_path: Path) -> None:
    store = copy_of(images, tmp_path)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "MLFLOW"))}
    command = sweep(store, "method=random,pixels", "data.evaluate=tiny", "--no-mlflow")
    done = subprocess.run(command, env=kept | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for method in ("random", "pixels"):
        cell = described(f"method={method}", "data.evaluate=tiny")
        assert set(cells.committed_records(cell, Store(store))) == set(cell.stages())
    assert not (store / "mlflow.db").exists()


@pytest.mark.slow
def test_sweep_on_a_cluster_computes_what_it_can_and_tells_what_failed(
    cluster: Any, images: Path, tmp_path: Path
) -> None:
    store = copy_of(images, tmp_path)
    command = sweep(store, "method=random", "data.evaluate=tiny", "data.validation_images=6,7,8,60", *through("dev"))
    # A variable of the shell would win over the script's own line, and SLURM would refuse the sweep.
    env = os.environ | cluster.environment | {"SBATCH_PARTITION": "nowhere", "SLURM_JOB_ID": "4711"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1, done.stderr
    assert "failed: data.validation_images=60: error: data.validation_images=60: choose fewer than" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: 1 of 4 cells failed; their logs are in ")
    assert outcomes(store) == [("3", "failed")]
    for images_held_out in (6, 7, 8):
        assert f"done: data.validation_images={images_held_out}\n" in done.stdout
        cell = described("method=random", "data.evaluate=tiny", f"data.validation_images={images_held_out}")
        records = cells.committed_records(cell, Store(store))
        assert set(records) == set(cell.stages())
        assert all(record["snapshot"] for record in records.values())


def undisturbed(cell: Cell, store: Path) -> dict[str, Any]:
    """The products of a cell that is pretrained here in one go, on one thread as the profile's tasks are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with world("cpu") as alone:
            life.pretrain(cell, Context(Store(store), alone, tell=lambda _line: None))
    finally:
        torch.set_num_threads(threads)
    return cells.committed_records(cell, Store(store))["pretrain"]["products"]


@pytest.mark.slow
def test_cell_told_to_stop_in_a_container_without_scontrol_ends_with_the_same_bytes(
    cluster: Any, images: Path, tmp_path: Path
) -> None:
    store, other = copy_of(images, tmp_path), copy_of(images, tmp_path / "undisturbed")
    dev: Any = OmegaConf.to_container(OmegaConf.load(profiles.PROFILES / "dev.yaml"))
    contained = {"container": HIDES_SCONTROL, "python": sys.executable, "array_parallelism": 2}
    OmegaConf.save(OmegaConf.create(dev | contained), tmp_path / "contained.yaml")
    command = sweep(store, *DAE, "seed=1,2", *through(tmp_path / "contained.yaml"))
    env = os.environ | cluster.environment | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        disturbed = described(*DAE, "seed=1")
        log = Store(store).node("pretrain", config.key(disturbed, "pretrain")).log
        deadline = time.monotonic() + PATIENCE
        while not (log.exists() and '"step": 1,' in log.read_text()):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (pickle,) = store.glob("launches/multirun-*/logs/*_0_submitted.pkl")
        scancel = ["scancel", "--signal=USR2", pickle.name.removesuffix("_submitted.pkl")]
        subprocess.run(scancel, env=env, check=True, timeout=PATIENCE)
        expected = undisturbed(disturbed, other)
        printed, said = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert printed.count(": done: seed=") == 2
    assert outcomes(store) == [("0", "continues")]
    assert cells.committed_records(disturbed, Store(store))["pretrain"]["products"] == expected
