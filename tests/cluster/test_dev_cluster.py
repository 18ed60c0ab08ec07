"""The development cluster: real SLURM on one machine, found by its folder only, and gone without a trace."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.patience import PATIENCE, until

SCRIPT = Path(__file__).parents[2] / "slurm" / "dev_cluster"
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
MISSING = [name for name in ("slurmctld", "munged") if shutil.which(name, path=PATH) is None]
needs_slurm = pytest.mark.skipif(
    bool(MISSING) or os.geteuid() != 0, reason=f"a cluster needs root and slurm-wlm, munge (missing: {MISSING})"
)

CGROUPS = Path("/sys/fs/cgroup")
needs_cgroups = pytest.mark.skipif(
    not all(os.access(CGROUPS / name / "release_agent", os.W_OK) for name in ("memory", "freezer")),
    reason="memory limits need cgroup v1, writable",
)


def clean() -> dict[str, str]:
    """The environment without what an outer job or cluster would add."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "DAE_SSL"))}


class Cluster:
    """A cluster in its own folder, and what a person does with it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SCRIPT, command, *arguments, "--root", self.root],
            env=clean(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def slurm(self, *command: str, cwd: Path) -> str:
        """What a SLURM command prints in a shell that evaluated `dev_cluster env`."""
        shell = f'eval "$({SCRIPT} env --root {self.root})" && exec "$@"'
        return subprocess.run(
            ["bash", "-c", shell, "-", *command],
            env=clean(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
            cwd=cwd,
        ).stdout.strip()

    def job(self, number: str, cwd: Path) -> Mapping[str, str]:
        """What SLURM knows of a job, by name."""
        shown = self.slurm("scontrol", "--oneliner", "show", "job", number, cwd=cwd)
        return dict(field.split("=", 1) for field in shown.split() if "=" in field)


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster's folder, with whatever the test starts in it stopped afterwards."""
    found = Cluster(Path(tmp_path_factory.mktemp("c")) / "r")
    try:
        yield found
    finally:
        stopped = found("down", "--purge")
    assert stopped.returncode == 0, stopped.stderr


def started(cluster: Cluster, *options: str) -> Cluster:
    up = cluster("up", *options)
    assert up.returncode == 0, up.stderr
    return cluster


def written(path: Path, pattern: str, otherwise: Callable[[], object] = lambda: "") -> str:
    """The text of a file, once it holds the pattern."""

    def shown() -> str:
        return path.read_text() if path.exists() else "nothing is written"

    until(lambda: path.exists() and re.search(pattern, path.read_text()), lambda: f"{pattern}: {shown()} {otherwise()}")
    return path.read_text()


def processes_of(root: Path) -> list[str]:
    """The commands of all processes whose environment or working folder names the cluster's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            folder = str((process / "cwd").readlink())
            if f"SLURM_CONF={root}/".encode() in environment or folder.startswith(f"{root}/"):
                found.append((process / "comm").read_text().strip())
        except OSError:  # it ended meanwhile
            continue
    return sorted(found)


@needs_slurm
@pytest.mark.slow
def test_down_leaves_no_process_and_purge_no_folder(cluster: Cluster, tmp_path: Path) -> None:
    started(cluster)
    orphan = "trap '' TERM; (trap '' TERM; setsid sleep 300 &) ; echo started; sleep 300"
    cluster.slurm("sbatch", "--output=stubborn", "--wrap", orphan, cwd=tmp_path)
    written(tmp_path / "stubborn", "started")
    running = processes_of(cluster.root)
    assert {"munged", "slurmctld", "slurmd", "slurmstepd", "sleep"} <= set(running)
    down = cluster("down", "--purge")
    assert down.returncode == 0, down.stderr
    assert processes_of(cluster.root) == []
    assert not cluster.root.exists()


@needs_slurm
def test_jobs_see_four_gpus_and_two_nodes_know_each_other(cluster: Cluster, tmp_path: Path) -> None:
    started(cluster)
    asks = ["sbatch", "--wait", "--output=seen", "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=4"]
    show = 'echo "$SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"'
    cluster.slurm(*asks, "--wrap", f"srun sh -c '{show}'", cwd=tmp_path)
    seen = written(tmp_path / "seen", "(?s)node1.*node2|node2.*node1")
    assert sorted(seen.splitlines()) == ["node1 0,1,2,3", "node2 0,1,2,3"]


@needs_slurm
def test_two_clusters_run_beside_each_other_and_a_second_up_changes_nothing(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    started(cluster)
    before = processes_of(cluster.root)
    cluster.slurm("sbatch", "--hold", "--wrap", "true", cwd=tmp_path)
    other = Cluster(Path(tmp_path_factory.mktemp("c")) / "r")
    try:
        started(other, "--nodes", "1")
        assert other.slurm("squeue", "--noheader", cwd=tmp_path) == ""
    finally:
        other("down", "--purge")
    again = cluster("up", "--nodes", "1")
    assert again.returncode == 0
    assert "already up" in again.stdout
    assert processes_of(cluster.root) == before
    assert len(cluster.slurm("squeue", "--noheader", cwd=tmp_path).splitlines()) == 1


@needs_slurm
def test_a_start_that_fails_says_why_and_leaves_nothing_running(cluster: Cluster) -> None:
    up = cluster("up", "--conf", "NoSuchSetting=1")
    assert up.returncode == 1
    assert "NoSuchSetting" in up.stderr
    assert processes_of(cluster.root) == []


@needs_slurm
@pytest.mark.slow
def test_a_job_moves_to_the_other_node_when_its_node_loses_power(cluster: Cluster, tmp_path: Path) -> None:
    started(cluster)
    wrap = 'echo "runs on $SLURMD_NODENAME"; sleep 300'
    job = cluster.slurm("sbatch", "--parsable", "--output=moved", "--open-mode=append", "--wrap", wrap, cwd=tmp_path)
    written(tmp_path / "moved", "runs on")
    node, other = ("node1", "node2") if "node1" in (tmp_path / "moved").read_text() else ("node2", "node1")
    failed = cluster("fail", node)
    assert failed.returncode == 0, failed.stderr
    assert "slurmstepd" not in processes_of(cluster.root)
    # SLURM would notice in half a minute; telling it is what the command's own words advise.
    cluster.slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=failed", cwd=tmp_path)
    written(tmp_path / "moved", f"runs on {other}", lambda: cluster.job(job, tmp_path))
    assert cluster.job(job, tmp_path)["Restarts"] == "1"
    restored = cluster("restore", node)
    assert restored.returncode == 0, restored.stderr
    state = ["sinfo", "-h", "-p", "main", "-n", node, "-o", "%T"]
    until(lambda: cluster.slurm(*state, cwd=tmp_path) == "idle", lambda: cluster.slurm(*state, cwd=tmp_path))


@needs_slurm
@pytest.mark.slow
def test_an_urgent_job_preempts_a_low_one_which_hears_usr2_and_runs_again(cluster: Cluster, tmp_path: Path) -> None:
    started(cluster, "--nodes", "1")
    asks = ["sbatch", "--parsable", "--exclusive", "--open-mode=append"]
    body = "trap 'echo warned; scontrol requeue $SLURM_JOB_ID' USR2; echo starts; sleep 300 & wait; wait"
    warn = ["--signal=B:USR2@90", "--partition=low", "--output=low"]
    low = cluster.slurm(*asks, *warn, "--wrap", body, cwd=tmp_path)
    written(tmp_path / "low", "starts")
    cluster.slurm(*asks, "--partition=urgent", "--output=urgent", "--wrap", "echo starts", cwd=tmp_path)
    written(tmp_path / "urgent", "starts")
    written(tmp_path / "low", "(?s)starts.*warned.*starts")
    assert cluster.job(low, tmp_path)["Restarts"] == "1"


@needs_slurm
@needs_cgroups
def test_a_job_that_overruns_its_memory_is_killed_under_cgroup(cluster: Cluster, tmp_path: Path) -> None:
    started(cluster, "--nodes", "1", "--proctrack", "cgroup")
    takes = "exec python3 -c 'bytearray(200 << 20); print(1)'"
    submit = ["sbatch", "--parsable", "--output=memory-%j"]
    small, large = (cluster.slurm(*submit, f"--mem={m}", "--wrap", takes, cwd=tmp_path) for m in ("50", "400"))
    written(tmp_path / f"memory-{small}", "oom-kill")
    written(tmp_path / f"memory-{large}", "1")
    # Its last words come before its end: SLURM is still cleaning up, and says COMPLETING.
    until(lambda: cluster.job(small, tmp_path)["JobState"] != "COMPLETING")
    assert cluster.job(small, tmp_path)["JobState"] == "OUT_OF_MEMORY"


@needs_slurm
@pytest.mark.slow
@pytest.mark.skipif(
    not all(shutil.which(name, path=PATH) for name in ("slurmdbd", "mariadbd")),
    reason="accounting needs slurmdbd, mariadb",
)
def test_accounting_remembers_how_a_job_ended(cluster: Cluster, tmp_path: Path) -> None:
    started(cluster, "--nodes", "1", "--accounting")
    job = cluster.slurm("sbatch", "--parsable", "--wrap", "exit 7", cwd=tmp_path)
    asks = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=State,ExitCode", "--jobs", job]
    until(lambda: cluster.slurm(*asks, cwd=tmp_path) == "FAILED|7:0", lambda: cluster.slurm(*asks, cwd=tmp_path))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--node", "3"], "option '--node' is unknown to 'up'"),
        (["up", "--nodes", "three"], "--nodes 'three' is not a whole number from 1 to 16"),
        (["up", "--conf", "nothing"], "--conf 'nothing' is not a line of slurm.conf"),
        (["down", "--proctrack", "cgroup"], "option '--proctrack' is unknown to 'down'"),
        (["begin"], "command 'begin' is unknown"),
        (["up", "--root", "/tmp/with space"], "characters that slurm.conf does not take"),
    ],
)
def test_what_it_cannot_do_is_one_line_and_status_2(arguments: list[str], said: str) -> None:
    refused = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False, env=clean())
    assert refused.returncode == 2
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@needs_slurm
def test_a_folder_of_other_things_is_neither_used_nor_purged(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    cluster = Cluster(tmp_path)
    up = cluster("up")
    assert up.returncode == 2
    assert "not a cluster's folder" in up.stderr
    assert cluster("down", "--purge").returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_help_names_every_option() -> None:
    said = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=True, env=clean()).stdout
    taken = set(re.findall(r"--[a-z-]+(?=\))", SCRIPT.read_text()))
    assert {"--nodes", "--root", "--conf"} <= taken
    assert all(option in said for option in taken)
