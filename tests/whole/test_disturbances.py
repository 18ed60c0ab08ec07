"""Whatever happens to a task on a cluster, its node ends with the bytes of an undisturbed one.

The disturbances come to one cell in several stores at the same time, once with each way in which SLURM may know the
processes of a job: by descent, where a signal reaches all of them, and by cgroup, where it reaches the task only.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.cluster import launch, submissions
from dae_ssl.compute import log
from dae_ssl.planning import plan
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
from jobs import profiles
from tests.commanded import DAE_SSL
from tests.conftest import Cluster
from tests.patience import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

CELL = config.cell({
    "method": {"name": "dae", "embedding": "l2", "alpha": 1.0},
    "data": {"pretrain": "tiny", "pretrain_images": 8, "evaluate": "tiny", "validation_images": 6},
    "optimisation": {"epochs": 50, "batch_size": 4, "checkpoints": [1, 25]},
})  # fmt: skip
RANKS = {"ranks_per_machine": 2, "gpus_per_machine": 2, "cpus_per_machine": 2, "memory_gb": 6, "minutes": 10}


@dataclass
class Run:
    """One cell that is sent to a cluster, pretraining only."""

    cluster: Cluster
    store: Store
    job: str

    @property
    def node(self) -> Any:
        return self.store.node("pretrain", config.key(CELL, "pretrain"))

    @property
    def task(self) -> str:
        return f"{self.job}_0"

    def events(self, kind: str) -> int:
        return sum(entry.event == kind for entry in log.read(self.node.log))

    def shown(self, field: str) -> str:
        shown = self.cluster.ask("scontrol", "show", "job", self.task)
        return shown.partition(f" {field}=")[2].split()[0]

    def outcomes(self) -> list[str]:
        (one,) = submissions.launches(self.store)
        return [str(outcome["outcome"]) for outcome in one.outcomes.get(self.task, [])]

    def printed(self) -> str:
        return "\n".join(path.read_text() for path in self.store.root.glob("launches/*/logs/*_log.out"))

    def await_state(self, seconds: float = 300) -> None:
        """Wait until training has saved a state, in whichever attempt."""
        self.await_(lambda: any(self.node.states.glob("state-*")), seconds)

    def await_resumed(self, times: int) -> None:
        """Wait until training was resumed so many times, and has gone on for a moment."""
        self.await_(lambda: self.events("resumed") >= times, PATIENCE)
        time.sleep(0.3)

    def await_end(self, seconds: float = 300) -> None:
        self.await_(lambda: not self.cluster.ask("squeue", "--noheader", "--jobs", self.job), seconds)

    def await_(self, happened: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, self.printed()
            time.sleep(0.2)

    def processes(self) -> list[int]:
        """Return the ranks' process ids, the first rank's first."""
        found: dict[int, int] = {}
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                variables = dict(v.split("=", 1) for v in path.read_text().split("\0") if "=" in v)
            except OSError:
                continue
            mine = variables.get("SLURM_CONF") == self.cluster.environment["SLURM_CONF"]
            if mine and variables.get("SLURM_ARRAY_JOB_ID") == self.job and "LOCAL_RANK" in variables:
                found[int(variables["LOCAL_RANK"])] = int(path.parent.name)
        return [found[rank] for rank in sorted(found)]

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[list[int]]:
        """Stop the ranks while the block runs, so that a short cell takes as long as a long one."""
        ranks = self.processes()
        for process in ranks:
            os.kill(process, signal.SIGSTOP)
        try:
            yield ranks
        finally:
            for process in ranks:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)


def profile(**more: Any) -> Profile:
    """Return the development cluster's profile for two ranks, changed."""
    dev = profiles.profile("dev")
    pretrain = replace(dev.stages.pretrain, **(RANKS | more.pop("pretrain", {})))
    return replace(dev, save_seconds=0.2, stages=replace(dev.stages, pretrain=pretrain), **more)


@pytest.fixture(scope="module", params=["linuxproc", "cgroup"])
def tracked(request: pytest.FixtureRequest, clusters: Callable[..., Cluster]) -> Cluster:
    return clusters() if request.param == "linuxproc" else clusters("--proctrack", "cgroup")


@pytest.fixture
def send(images: Path, tmp_path: Path) -> Callable[[Cluster, Profile], Run]:
    """Send the cell's pretraining to the cluster, from a store of its own each time."""

    def sent(cluster: Cluster, settings: Profile) -> Run:
        root = tmp_path / f"store{len(list(tmp_path.iterdir()))}"
        shutil.copytree(images, root)
        store = Store(root)
        made = plan.make([CELL], store, settings, queued={}, array_size=1001)
        made = replace(made, arrays=made.arrays[:1])
        intent = launch.intend(made, store, settings, experiment="test", mlflow_experiment="test")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in cluster.environment.items():
                patch.setenv(name, value)
            launch.send(intent, made, store, settings, tell=lambda _line: None)
        return Run(cluster, store, str(intent.job("pretrain-0")))

    return sent


@pytest.fixture(scope="session")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The products of the cell, computed on two ranks without any scheduler."""
    root = tmp_path_factory.mktemp("undisturbed") / "store"
    shutil.copytree(images, root)
    store, settings = Store(root), profile()
    made = plan.make([CELL], store, settings, queued={}, array_size=1001)
    intent = launch.intend(made, store, settings, experiment="test", mlflow_experiment="test")
    file = intent.folder.product("pretrain-0.jsonl")
    command = [*DAE_SSL, "compute", "--array", str(file), "--index=0"]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return products(store)


def products(store: Store) -> dict[str, Any]:
    record = store.node("pretrain", config.key(CELL, "pretrain")).record()
    assert record is not None, "the node is not done"
    assert record["ranks"] == 2
    return {name: product["sha256"] for name, product in record["products"].items()}


def ended_alike(run: Run, undisturbed: dict[str, Any]) -> None:
    """Fail unless a disturbed run was resumed from a state, and ended as the undisturbed one."""
    assert run.events("resumed") >= 1, run.printed()
    assert products(run.store) == undisturbed


def test_task_that_is_told_to_stop_requeued_preempted_and_loses_a_rank_ends_as_if_nothing_had_happened(
    tracked: Cluster, cluster: Cluster, send: Any, undisturbed: dict[str, Any]
) -> None:
    run = send(tracked, profile(partition="low"))

    run.await_state()
    run.cluster.ask("scancel", "--signal=USR2", run.task)
    run.await_resumed(1)
    assert run.outcomes() == ["continues"]

    run.cluster.ask("scontrol", "requeue", run.task)
    run.await_resumed(2)
    assert run.outcomes().count("continues") == 1, "SLURM queued it again, not its batch script"

    restarts = int(run.shown("Restarts"))
    urgent = ["sbatch", "--partition=urgent", "--exclusive", "--nodes=2", "--wrap=sleep 1", "--output=/dev/null"]
    run.cluster.ask(*urgent)
    run.await_resumed(3)
    assert int(run.shown("Restarts")) == restarts + 1

    first, second = run.processes()
    os.kill(first if tracked is cluster else second, signal.SIGKILL)
    run.await_end()
    assert run.outcomes()[-2:] == ["was killed", "done"]
    assert run.events("resumed") >= 4
    ended_alike(run, undisturbed)


def test_task_whose_node_loses_power_goes_on_on_another(
    cluster: Cluster, send: Any, undisturbed: dict[str, Any]
) -> None:
    run = send(cluster, profile())
    run.await_state()
    node = run.shown("NodeList")
    run.cluster.power_cut(node)
    try:
        run.await_end()
    finally:
        run.cluster.restore(node)
    assert run.shown("NodeList") != node
    ended_alike(run, undisturbed)


def test_task_that_is_killed_again_and_again_is_given_up(cluster: Cluster, send: Any) -> None:
    run = send(cluster, profile(max_failures=2, setup=("srun() { kill -9 $BASHPID; }; srun() ( kill -9 $BASHPID )",)))
    run.await_end()
    assert run.outcomes() == ["was killed", "was killed", "given up"]
    assert run.shown("JobState") == "FAILED"
    assert "given up, since the outcome 'was killed' has occurred 2 times before, which is the limit" in run.printed()


def test_task_at_its_time_limit_goes_on_in_a_new_attempt_also_from_a_container_without_scontrol(
    cluster: Cluster, send: Any, undisturbed: dict[str, Any]
) -> None:
    hides = 'mount --bind /bin/false "$(command -v scontrol)" && ! scontrol show config && exec "$@"'
    container = {"container": ("unshare", "--mount", "sh", "-c", hides, "-"), "python": sys.executable}
    run = send(cluster, profile(signal_seconds=120, **container))
    run.await_state()
    with run.standing_still():
        minutes = int(run.shown("RunTime").split(":")[1])
        run.cluster.ask("scontrol", "update", f"jobid={run.task}", f"timelimit={minutes + 2}")  # less than its notice
        run.await_(lambda: "death signal" in run.printed(), 75)
    run.cluster.ask("scontrol", "update", f"jobid={run.task}", "timelimit=10")  # or each attempt would be short
    run.await_end()
    assert run.outcomes() == ["continues", "done"]
    ended_alike(run, undisturbed)


def test_task_that_runs_out_of_memory_goes_on(
    clusters: Callable[..., Cluster], send: Any, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    # Another process of the job takes nearly all of its memory, once, and a rank is the first to be killed for it.
    hog = f"""[ -e {tmp_path}/hogged ] || {{
        until [ -e {tmp_path}/go ]; do sleep 0.1; done
        touch {tmp_path}/hogged;
        exec {sys.executable} -c 'import time; x = bytearray(range(256)) * (11 << 20); time.sleep(5)'
    }} &"""
    run = send(clusters("--proctrack", "cgroup"), profile(setup=(hog,), pretrain={"memory_gb": 3}))
    run.await_state()
    with run.standing_still() as ranks:
        Path(f"/proc/{ranks[1]}/oom_score_adj").write_text("1000")
        (tmp_path / "go").touch()
        run.await_(lambda: run.processes() != ranks, 30)
    run.await_end()
    assert run.outcomes() == ["was killed", "done"]
    ended_alike(run, undisturbed)


def test_ranks_on_two_nodes_compute_what_two_on_one_do(
    cluster: Cluster, send: Any, undisturbed: dict[str, Any]
) -> None:
    run = send(cluster, profile(pretrain={"machines": 2, "ranks_per_machine": 1, "gpus_per_machine": 1}))
    run.await_end()
    assert run.shown("NumNodes") == "2"
    assert products(run.store) == undisturbed
