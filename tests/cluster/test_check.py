"""What `jobs.check` tells without a cluster: files, programs, servers, and how what SLURM printed is read."""

import base64
import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.cluster import check
from dae_ssl.cluster import machines as as_told
from dae_ssl.cluster.check import OK, UNKNOWN, WRONG, Finding
from dae_ssl.cluster.machines import Cluster
from dae_ssl.config import Cell, ConfigError
from dae_ssl.planning import plan
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
from jobs import check as command

# As `scontrol --all --oneliner` printed them on SLURM 22.05; DRAINED after `scontrol update … state=drain`.
NODE = (
    "NodeName=node1 Arch=x86_64 CoresPerSocket=1  CPUAlloc=0 CPUEfctv=16 CPUTot=16 CPULoad=1.19 "
    "AvailableFeatures=(null) ActiveFeatures=(null) Gres=gpu:4 NodeAddr=127.0.0.1 NodeHostName=vm Port=20003 "
    "Version=22.05.8 OS=Linux 6.18.44 #1 SMP PREEMPT_DYNAMIC @0  RealMemory=24105 AllocMem=0 FreeMem=20904 Sockets=16 "
    "Boards=1 State=IDLE ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A Partitions=main,low,urgent  "
    "BootTime=2026-11-22T23:45:51 CfgTRES=cpu=16,mem=24105M,billing=16,gres/gpu=4 AllocTRES= CapWatts=n/a"
)
DRAINED = NODE.replace("node1", "node2").replace("State=IDLE", "State=IDLE+DRAIN") + (
    " Reason=a b Gres=gpu:9 [root@2026-11-23T03:43:14]"
)
PARTITION = (
    "PartitionName=main AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A "
    "DefaultTime=NONE Hidden=NO MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED "
    "Nodes=node[1-2] PriorityTier=1 PreemptMode=OFF State=UP TotalCPUs=32 TotalNodes=2 TRES=cpu=32,mem=48210M,node=2"
)
URGENT = PARTITION.replace("=main", "=urgent").replace("Default=YES", "Default=NO").replace(
    "MaxTime=UNLIMITED", "MaxTime=00:10:00"
)  # fmt: skip
FITS = {"ranks_per_machine": 4, "gpus_per_machine": 4, "cpus_per_machine": 16, "memory_gb": 23, "minutes": 600}


def cluster(
    *, partitions: str = f"{PARTITION}\n{URGENT}\n", nodes: str = f"{NODE}\n{NODE}\n", **settings: str
) -> Cluster:
    found = as_told.read_partitions(partitions)
    return Cluster(settings, {partition.name: partition for partition in found}, as_told.read_machines(nodes))


def profile(**given: Any) -> Profile:
    return Profile.of("mine", given)


def cell(**data: Any) -> Cell:
    tiny = {"pretrain": "tiny", "evaluate": "tiny", "validation_images": 6} | data
    return config.cell({"method": {"name": "dae"}, "data": tiny, "optimisation": {"batch_size": 8}})


def one(found: Iterator[Finding]) -> Finding:
    (only,) = found
    return only


# ---------------------------------------------------------------------------------- reading


def test_nodes_are_read_as_slurm_prints_them() -> None:
    idle, drained = as_told.read_machines(f"{NODE}\n{DRAINED}\n")
    assert (idle.gpus, idle.cpus, idle.memory_mb, idle.up) == (4, 16, 24105, True)
    assert idle.partitions == {"main", "low", "urgent"}
    assert (drained.gpus, drained.up) == (4, False)


def test_partitions_are_read_as_slurm_prints_them() -> None:
    main, urgent = as_told.read_partitions(f"{PARTITION}\n{URGENT}\n")
    assert (main.name, main.state, main.default, main.minutes, main.nodes) == ("main", "UP", True, math.inf, math.inf)
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
    ("gres", "count"),
    [("gpu:4", 4), ("gpu:a100:4", 4), ("gpu:a100:4(S:0-1)", 4), ("gpu:a100:2(S:0,1),gpu:v100:1(S:1),shard:8", 3),
     ("nvme:1,gpu", 1), ("(null)", 0), ("", 0)],
)  # fmt: skip
def test_gpus_of_every_type_are_counted(gres: str, count: int) -> None:
    assert as_told.gpus(gres) == count


@pytest.mark.parametrize(
    ("limit", "minutes"), [("00:10:00", 10), ("2-01:30:00", 2 * 1440 + 90), ("UNLIMITED", math.inf), ("", math.inf)]
)
def test_time_limits_are_read(limit: str, minutes: float) -> None:
    assert as_told.minutes(limit) == minutes


# ---------------------------------------------------------------------------------- what a stage asks for


def test_stage_that_just_fits_is_ok() -> None:
    assert check.fits("pretrain", profile(stages={"pretrain": FITS}), cluster()).verdict == OK


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"ranks_per_machine": 5, "gpus_per_machine": 5}, "5 GPUs on a node; partition main has 4 at most"),
        ({"cpus_per_machine": 17}, "17 CPUs on a node; partition main has 16 at most"),
        ({"memory_gb": 24}, "24576 MB of memory on a node; partition main has 24105 at most"),
        ({"nodes": 3}, "3 nodes; partition main has 2 at most"),
        ({"minutes": 11, "partition": "urgent"}, "11 minutes; partition urgent has 10 at most"),
    ],
)
def test_wish_that_is_too_large_is_named_with_the_limit(change: dict[str, Any], told: str) -> None:
    found = check.fits("pretrain", profile(stages={"pretrain": FITS | change}), cluster())
    assert (found.subject, found.verdict, found.message) == ("stage pretrain", WRONG, f"asks for {told}")


def test_large_limits_are_told_in_full() -> None:
    large = cluster(nodes=NODE.replace("RealMemory=24105", "RealMemory=1031000"))
    found = check.fits("probe", profile(stages={"probe": {"memory_gb": 2000}}), large)
    assert found.message == "asks for 2048000 MB of memory on a node; partition main has 1031000 at most"


def test_wishes_that_no_single_node_grants_together_do_not_work() -> None:
    many_cpus = NODE.replace("Gres=gpu:4", "Gres=(null)").replace("CPUEfctv=16", "CPUEfctv=64")
    found = check.fits("pretrain", profile(stages={"pretrain": FITS | {"cpus_per_machine": 32}}),
                       cluster(nodes=f"{NODE}\n{many_cpus}"))  # fmt: skip
    assert found.verdict == WRONG
    assert found.message.startswith("0 nodes of partition main have all of 4 GPUs on a node, 32 CPUs on a node")


def test_nodes_that_are_down_now_make_tasks_wait() -> None:
    found = check.fits("pretrain", profile(stages={"pretrain": FITS}), cluster(nodes=f"{DRAINED}\n{DRAINED}"))
    assert (found.verdict, found.message) == (
        UNKNOWN,
        "fits 2 nodes of partition main, of which 0 are up now: its tasks wait",
    )


def test_one_of_several_partitions_is_enough() -> None:
    asked = profile(partition="urgent,main", stages={"pretrain": FITS})
    assert check.fits("pretrain", asked, cluster()).verdict == OK


def test_cuda_without_gpus_does_not_work() -> None:
    found = check.fits("probe", profile(device="cuda"), cluster())
    assert found.verdict == WRONG
    assert "stages.probe.gpus_per_machine=0" in found.message


# ---------------------------------------------------------------------------------- partitions, accounts, arrays


def test_unknown_partition_is_told_with_those_there_are() -> None:
    asked = profile(partition="main", stages={"probe": {"partition": "gpu"}})
    found = {f.message: f.verdict for f in check.listed(asked, cluster(), config.STAGES)}
    assert found == {"main is up": OK, "gpu is unknown: choose main, urgent": WRONG}


@pytest.mark.parametrize(("state", "verdict"), [("UP", OK), ("DOWN", UNKNOWN), ("DRAIN", WRONG), ("INACTIVE", WRONG)])
def test_partition_that_takes_no_jobs_does_not_work(state: str, verdict: str) -> None:
    shown = cluster(partitions=PARTITION.replace("State=UP", f"State={state}"))
    assert one(check.listed(profile(partition="main"), shown, ["probe"])).verdict == verdict


def test_cluster_without_a_default_partition_needs_one_named() -> None:
    shown = cluster(partitions=PARTITION.replace("Default=YES", "Default=NO"))
    assert one(check.listed(profile(), shown, ["probe"])).verdict == WRONG


def test_account_cannot_be_told_without_accounting() -> None:
    shown = cluster(AccountingStorageType="accounting_storage/none")
    found = {f.subject: (f.verdict, f.message) for f in check.charged(profile(account="a", qos="q"), shown)}
    told = "cannot be told without accounting"
    assert found == {"account": (UNKNOWN, f"a: {told}"), "qos": (UNKNOWN, f"q: {told}")}
    assert list(check.charged(profile(), shown)) == []


@pytest.mark.parametrize(
    ("enforced", "verdict"), [("associations,limits,qos,safe", WRONG), ("none", UNKNOWN), ("associations", WRONG)]
)
def test_unknown_account_does_not_work_where_slurm_insists(
    enforced: str, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check.queue, "ask", lambda _command: "lab|normal,high\nproject|normal\n")
    shown = cluster(AccountingStorageType="accounting_storage/slurmdbd", AccountingStorageEnforce=enforced)
    found = one(check.charged(profile(account="x"), shown))
    assert (found.verdict, "(has: lab, project)" in found.message) == (verdict, True)
    assert [f.verdict for f in check.charged(profile(account="lab", qos="high"), shown)] == [OK, OK]


def test_arrays_larger_than_the_clusters_are_told_and_the_split_is_counted(tmp_path: Path) -> None:
    cells = [cell(pretrain_images=n) for n in range(8, 13)]
    asked = profile(array_size=3000)
    planned = plan.make(cells, Store(tmp_path), asked, queued={}, array_size=2)
    large, arrays = check.split(planned, asked, 2)
    assert (large.subject, large.verdict) == ("array_size", WRONG)
    assert (arrays.subject, arrays.verdict) == ("arrays", OK)
    assert arrays.message.startswith("pretrain 5 tasks in 3 arrays, features 5 tasks in 3 arrays")
    assert list(check.split(planned, profile(), 2)) == [arrays]


def test_only_stages_that_the_cells_need_are_judged(tmp_path: Path) -> None:
    raw = config.cell({"method": {"name": "pixels"}})
    planned = plan.make([raw], Store(tmp_path), profile(), queued={}, array_size=1001)
    assert list(check.would_send(planned, profile())) == ["features", "probe", "kmeans"]
    nothing = plan.make([], Store(tmp_path), profile(), queued={}, array_size=1001)
    assert list(check.would_send(nothing, profile())) == list(config.STAGES)


# ---------------------------------------------------------------------------------- files and programs


def test_looking_at_a_store_leaves_nothing_behind(tmp_path: Path) -> None:
    found = check.written(Store(tmp_path / "not" / "yet"), local=True)
    assert (found.verdict, list(tmp_path.iterdir())) == (OK, [])


def test_store_that_cannot_be_written_does_not_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert check.written(Store(tmp_path / "file" / "store"), local=True).verdict == WRONG
    assert check.written(Store(Path("/proc/store")), local=False).verdict == WRONG


def test_store_on_a_disk_of_this_machine_alone_cannot_be_told() -> None:
    found = check.written(Store(Path("/tmp/some/store")), local=False)
    assert found.verdict == UNKNOWN
    assert "/tmp is mostly a disk of this machine alone" in found.message
    assert check.written(Store(Path("/tmp/some/store")), local=True).verdict == OK


def test_data_that_is_missing_is_told_once_with_how_many_cells_want_it(images: Path) -> None:
    cells = [cell(), cell(evaluate="other"), cell(evaluate="other", validation_images=5)]
    found = one(check.prepared(Store(images), cells))
    assert found.verdict == WRONG
    assert "'other' is not prepared" in found.message
    assert found.message.endswith("(2 of 3 cells)")
    assert one(check.prepared(Store(images), cells[:1])).verdict == OK


def test_setting_that_the_data_cannot_serve_does_not_work(images: Path) -> None:
    found = one(check.prepared(Store(images), [cell(pretrain_images=1000)]))
    assert (found.verdict, "data.pretrain_images=1000" in found.message) == (WRONG, True)


def test_package_without_what_its_tasks_run_does_not_work(tmp_path: Path) -> None:
    found = check.code(tmp_path)
    assert found.verdict == WRONG
    assert "slurm/after_task.sh, jobs/run_nodes.py is not in" in found.message
    assert check.code(Path(check.__file__).parents[2]).verdict == OK


def test_image_container_and_python_are_looked_for(tmp_path: Path) -> None:
    missing = {"image": str(tmp_path / "no.sif"), "container": ["no-such-command", "exec"]}
    assert [(f.subject, f.verdict) for f in check.started(profile(**missing))] == [
        ("image", WRONG),
        ("container", UNKNOWN),
    ]
    (tmp_path / "dae_ssl.sif").write_bytes(b"image")
    there = {"image": str(tmp_path / "dae_ssl.sif"), "container": ["sh"]}
    assert [f.verdict for f in check.started(profile(**there))] == [OK, OK]
    digest = f"registry.example/dae_ssl@sha256:{'a' * 64}"
    assert [f.verdict for f in check.started(profile(image=digest, container=["sh"]))] == [OK, OK]
    for tag in ("registry.example/dae_ssl:latest", str(tmp_path)):
        assert next(check.started(profile(image=tag, container=["sh"]))).verdict == WRONG, "no content is named"
    assert one(check.started(profile(python=str(tmp_path / "python")))).verdict == WRONG
    assert one(check.started(profile(python="no-such-python"))).verdict == UNKNOWN
    assert one(check.started(profile())) == Finding("python", OK, sys.executable)


def test_container_that_keeps_the_environment_from_tasks_is_told() -> None:
    for option in ("--cleanenv", "-e", "--containall", "-C"):
        found = {f.verdict: f for f in check.started(profile(container=["sh", "exec", option]))}
        assert found[WRONG].subject == "container"
        assert f"with {option} tasks lack the variables" in found[WRONG].message


def test_container_without_an_image_to_name_is_told() -> None:
    assert [(f.subject, f.verdict) for f in check.started(profile(container=["sh"]))] == [
        ("image", UNKNOWN),
        ("container", OK),
    ]


def test_machine_without_gpus_cannot_run_a_local_profile_that_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = {"pretrain": {"ranks_per_machine": 2}}
    verdicts: dict[tuple[str, int], str] = {}
    for gpus in (0, 1, 2):
        monkeypatch.setattr("torch.cuda.device_count", lambda gpus=gpus: gpus)
        for device in ("auto", "cpu", "cuda"):
            asked = profile(launcher="local", device=device, stages=ranks)
            verdicts[device, gpus] = check.device_here(asked).verdict
    assert {key for key, verdict in verdicts.items() if verdict == WRONG} == {("cuda", 0), ("cuda", 1), ("auto", 1)}
    assert set(verdicts.values()) == {OK, WRONG}


def test_local_profile_has_one_machine() -> None:
    asked = profile(launcher="local", stages={"pretrain": {"nodes": 2}})
    assert check.device_here(asked).verdict == WRONG


# ---------------------------------------------------------------------------------- tracking server


@contextmanager
def server(code: int) -> Iterator[tuple[str, list[str]]]:
    """Answer every request with a code; give the address, and the credentials that were sent."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(str(self.headers.get("Authorization")))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(code)
            self.end_headers()
            self.wfile.write(b"{}" if code == 200 else b"")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", seen
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("code", "verdict", "said"),
    [
        (200, OK, "answers here and lets you in"),
        (401, WRONG, "does not accept the name and password: set MLFLOW_TRACKING_USERNAME"),
        (404, WRONG, "cannot be used"),
        (500, WRONG, "cannot be used"),
    ],
)
def test_tracking_server_is_asked_as_tasks_will_ask_it(
    code: int, verdict: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with server(code) as (address, seen):
        found = one(check.tracked(f"{address}/"))
    assert (found.verdict, seen) == (verdict, [f"Basic {base64.b64encode(b'me:secret').decode()}"])
    assert address in found.message
    assert said in found.message
    assert "secret" not in found.message


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://127.0.0.1:port", "http://[", "http://"])
def test_tracking_server_that_is_not_reached_is_one_line(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    found = one(check.tracked(address))
    assert (found.verdict, "\n" in found.message) == (WRONG, False)


def test_silent_tracking_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(check, "SECONDS", 1)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as silent:  # accepts, and never reads
        found = one(check.tracked(f"http://127.0.0.1:{silent.server_port}"))
    assert (found.verdict, "timed out" in found.message) == (WRONG, True)


@pytest.mark.parametrize("address", ["sqlite:///mlflow.db", "postgresql://db/mlflow", "file:///mlruns", "mlruns"])
def test_tracking_that_is_no_server_is_passed_over(address: str) -> None:
    assert one(check.tracked(address)).verdict == UNKNOWN
    assert list(check.tracked(None)) == []


# ---------------------------------------------------------------------------------- the command


@pytest.fixture
def yaml(tmp_path: Path) -> Callable[[str], str]:
    """Write a profile and return its argument."""

    def write(text: str) -> str:
        (tmp_path / "mine.yaml").write_text(text)
        return f"profile={tmp_path / 'mine.yaml'}"

    return write


def test_local_profile_is_asked_nothing_about_slurm(
    yaml: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([yaml("{launcher: local, device: cpu}"), f"store={tmp_path / 'store'}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["ok", "store"], ["ok", "device"]]
    assert lines[2:] == ["", "2 findings: 2 ok, 0 will not work, 0 cannot be told"]


def test_data_is_asked_for_when_an_experiment_is_named(
    yaml: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [yaml("{launcher: local, device: cpu}"), f"store={tmp_path / 'store'}", "experiment=tour", "seeds=[0]"]
    assert command.main(arguments) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(WRONG)]
    assert "'digits' is not prepared" in line


def test_machine_without_slurm_is_one_finding(
    yaml: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.main([yaml("{}"), f"store={tmp_path}"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.split()[-1:] and "SLURM" in line]
    assert line.startswith(WRONG)
    assert "sbatch, srun, squeue, scancel, scontrol is not on this machine" in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["profile=nowhere"], "profile='nowhere'"), (["foo=1"], "foo='1'"), (["store="], "store=''"),
     (["experiment=nothing"], "nothing"), (["profile=local", "seeds=[1]"], "give experiment=NAME")],
)  # fmt: skip
def test_what_is_not_understood_is_refused(arguments: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        command.main(arguments)
    assert told in str(caught.value)
