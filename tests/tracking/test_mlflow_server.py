"""The tracking server of a group, for real: PostgreSQL, passwords, many writers, a browser."""

import base64
import http.client
import itertools
import multiprocessing
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.cluster import check
from dae_ssl.cluster.finding import OK, WRONG
from dae_ssl.compute import cells, life
from dae_ssl.compute.log import Log
from dae_ssl.compute.stages import Context
from dae_ssl.distributed import World
from dae_ssl.report.cell.page import write_cell_page
from dae_ssl.store import Store
from dae_ssl.tracking import copying, runs, server
from dae_ssl.tracking.copying import CellRun, LiveCopy
from jobs import server as server_command
from tests.commanded import DAE_SSL, given
from tests.conftest import Cluster

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "slurm" / "mlflow_server.sbatch"
PATIENCE = 300
"""Seconds that a machine which runs other tests beside these may take for anything that is waited for."""

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


@pytest.fixture(autouse=True)
def no_tracking_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PG"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(PATIENCE))


def has_postgres() -> bool:
    folders = [Path("/usr/lib/postgresql"), *map(Path, os.environ["PATH"].split(":"))]
    return any(list(folder.glob("*/bin/initdb")) or (folder / "initdb").exists() for folder in folders)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """The batch script, run by hand: PostgreSQL and MLflow in one folder."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder, self.uri = folder / "kept", f"http://127.0.0.1:{self.port}"
        self.log = folder / "log"

    def start(self) -> None:
        variables = {"DAE_SSL_PYTHON": sys.executable, "DAE_SSL_MLFLOW_HOST": "127.0.0.1",
                     "DAE_SSL_MLFLOW_PORT": str(self.port), "SLURM_SUBMIT_DIR": str(ROOT)}  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["bash", SCRIPT, self.folder],
                env=os.environ | variables,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + 2 * PATIENCE
        while not (self.folder / "address").exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)
        assert (self.folder / "address").read_text().strip() == self.uri

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)

    @property
    def secrets(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in (self.folder / "secrets").read_text().splitlines())

    @property
    def credentials(self) -> dict[str, str]:
        return {
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": self.secrets["MLFLOW_AUTH_ADMIN_PASSWORD"],
        }


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    """A server that is up; its database's user is another one, who must reach the folder."""
    if not has_postgres():
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(subprocess.check_output(["mktemp", "-d", "/var/tmp/dae_ssl-server-XXXXXX"], text=True).strip())
    folder.chmod(0o711)
    made = Server(folder)
    try:
        made.start()
        yield made
        made.stop()
    finally:
        if getattr(made, "process", None) is not None and made.process.poll() is None:
            os.killpg(made.process.pid, signal.SIGKILL)
        shutil.rmtree(folder)


@pytest.fixture
def admitted(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, and a user whom it knows."""
    for name, value in running.credentials.items():
        monkeypatch.setenv(name, value)
    return running


def run_of(folder: Path, key: str, experiment: str) -> CellRun:
    return CellRun(experiment=experiment, key=key, name=f"cell {key}", params={"seed": key, "method": "dae"},
                   logs={"pretrain": folder / f"{key}.jsonl"}, metrics={"test_accuracy": 0.5},
                   artifacts={"report": [folder / f"{key}.txt"]}, status="FINISHED")  # fmt: skip


def points(client: Any, run_id: str, term: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in client.get_metric_history(run_id, f"pretrain/{term}"))


def written(folder: Path, key: str, steps: range) -> list[tuple[int, float]]:
    """Log some steps of a cell and return them as MLflow should have them."""
    value = {step: (int(key, 16) * 1000 + step) / 8 for step in steps}
    with Log(folder / f"{key}.jsonl") as log:
        for step in steps:
            log(step, {"loss": value[step]})
    return sorted(value.items())


# ---------------------------------------------------------------------------------- many writers


def copy_when_told(folder: Path, key: str, uri: str, go: Any) -> None:
    go.wait()
    copying.copy(run_of(folder, key, "many"), uri)


@pytest.mark.slow
def test_32_processes_log_at_once_and_nothing_is_lost_or_doubled(admitted: Server, tmp_path: Path) -> None:
    server.prepare(admitted.uri, "many")
    from mlflow import MlflowClient

    keys = [f"{number:016x}" for number in range(32)]
    wanted = {key: written(tmp_path, key, range(0, 1500, 10)) for key in keys}
    for key in keys:
        (tmp_path / f"{key}.txt").write_text(f"report of {key}")
    forked = multiprocessing.get_context("fork")  # 32 imports of MLflow would take minutes here
    go = forked.Barrier(32)
    processes = [forked.Process(target=copy_when_told, args=(tmp_path, key, admitted.uri, go)) for key in keys]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    assert [process.exitcode for process in processes] == [0] * 32
    with server.settings(PATIENCE):
        client = MlflowClient(admitted.uri)
        found = client.search_runs([client.get_experiment_by_name("many").experiment_id], max_results=100)
        assert sorted(run.data.tags[copying.CELL_TAG] for run in found) == keys
        for run in found:
            key = run.data.tags[copying.CELL_TAG]
            assert points(client, run.info.run_id, "loss") == wanted[key]
            assert run.data.params == {"seed": key, "method": "dae"}
            assert run.data.metrics["test_accuracy"] == 0.5
            assert [file.path for file in client.list_artifacts(run.info.run_id, "report")] == [f"report/{key}.txt"]


@pytest.mark.slow
def test_server_that_was_away_for_a_while_gets_everything_once(admitted: Server, tmp_path: Path) -> None:
    told: list[str] = []
    key = "00000000000000aa"
    (tmp_path / f"{key}.txt").write_text("report")
    first = written(tmp_path, key, range(100))
    live = LiveCopy(lambda: run_of(tmp_path, key, "away"), admitted.uri, every_seconds=0.2, exit_seconds=PATIENCE,
                    tell=told.append)  # fmt: skip
    from mlflow import MlflowClient

    with server.settings(PATIENCE), live:
        client = MlflowClient(admitted.uri)
        end = time.monotonic() + PATIENCE
        found = client.get_experiment(server.prepare(admitted.uri, "away").split("/")[5])
        while not client.search_runs([found.experiment_id]):
            assert time.monotonic() < end
            time.sleep(0.2)
        admitted.stop()
        second = written(tmp_path, key, range(100, 200))
        while not told:
            assert time.monotonic() < end
            time.sleep(0.1)
        admitted.start()
    assert len(told) == 1
    assert "(nothing is lost, since the logs hold every point" in told[0]
    with server.settings(PATIENCE):
        (run,) = client.search_runs([found.experiment_id])
        assert points(client, run.info.run_id, "loss") == first + second


def test_wrong_password_is_one_warning_and_a_later_sync_has_it_all(
    running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "00000000000000bb"
    (tmp_path / f"{key}.txt").write_text("report")
    told: list[str] = []
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not-the-password")
    with LiveCopy(lambda: run_of(tmp_path, key, "wrong"), running.uri, every_seconds=0.05, tell=told.append):
        wanted = written(tmp_path, key, range(50))  # what trains goes on meanwhile
        time.sleep(1)
    assert len(told) == 1
    assert told[0].startswith(f"MLflow at {running.uri} does not accept the name and password: set MLFLOW_TRACKING_US")
    assert "not-the-password" not in told[0]
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", running.credentials["MLFLOW_TRACKING_PASSWORD"])
    sent = copying.copy(run_of(tmp_path, key, "wrong"), running.uri)
    assert sent.points_sent == len(wanted) + 1  # and the accuracy
    from mlflow import MlflowClient

    assert points(MlflowClient(running.uri), sent.run_id, "loss") == wanted


def test_without_a_password_the_warning_says_what_to_set(running: Server) -> None:
    with pytest.raises(server.AwayError, match=r"requires a name and password: set MLFLOW_TRACKING_USERNAME and"):
        server.prepare(running.uri, "e")


@pytest.mark.parametrize(
    ("password", "verdict", "said"),
    [(None, WRONG, "requires a name and password"), ("not-it", WRONG, "does not accept"),
     ("right", OK, "accepts your credentials")],
)  # fmt: skip
def test_check_tries_the_name_and_password(
    password: str | None, verdict: str, said: str, running: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = running.credentials["MLFLOW_TRACKING_PASSWORD"]
    if password is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", right if password == "right" else password)
    (found,) = check.tracked(running.uri)
    assert found.verdict == verdict
    assert said in found.message
    assert right not in found.message


def test_sync_to_the_profiles_server_that_is_away_is_one_line_however_many_cells(tmp_path: Path) -> None:
    store, profile = Store(tmp_path / "store"), tmp_path / "mine.yaml"
    profile.write_text("tracking_uri: http://127.0.0.1:9")
    for seed in range(3):
        begun = config.cell(method="dae", seed=seed)
        cells.describe(begun, store)
        store.node("pretrain", config.key(begun, "pretrain")).create()
    command = [*DAE_SSL, "sync", f"--store={store.root}", f"--profile={profile}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (1, "copying to http://127.0.0.1:9\n")
    again = r"`MLFLOW_TRACKING_URI=http://127.0.0.1:9 dae-ssl sync` copies them later\)\n"
    assert re.fullmatch(rf"error: MLflow at http://127.0.0.1:9 cannot be reached: .*{again}", done.stderr)


def test_sync_makes_no_run_of_a_cell_of_which_nothing_was_computed(tmp_path: Path) -> None:
    cells.describe(config.cell(method="dae"), Store(tmp_path))
    command = [*DAE_SSL, "sync", f"--store={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert not re.search(r"points and \d+ files sent", done.stdout)


# ---------------------------------------------------------------------------------- who may, and what nobody sees


def test_secrets_are_in_their_file_and_the_environment_and_nowhere_else(running: Server) -> None:
    assert stat.S_IMODE((running.folder / "secrets").stat().st_mode) == 0o600
    values = running.secrets.values()
    assert len(values) == 3
    lines = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert any("mlflow" in line and str(running.port) in line for line in lines)
    places = [*lines, running.log.read_text(), (running.folder / "auth.ini").read_text(),
              (running.folder / "postgres" / "log").read_text()]  # fmt: skip
    assert not [value for value in values for place in places if value in place]


def test_nobody_enters_without_a_password_or_under_another_name_of_the_server(running: Server) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{running.uri}/api/2.0/mlflow/experiments/get?experiment_id=0", timeout=PATIENCE)
    assert refused.value.code == 401
    refused.value.close()
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE)
    connection.request("GET", "/", headers={"Host": "evil.example"})
    assert connection.getresponse().status == 403
    connection.close()


def test_it_listens_where_it_was_told_to_and_its_database_nowhere(running: Server) -> None:
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    own = [line.split()[3] for line in listening.splitlines() if f":{running.port} " in line]
    assert own == [f"127.0.0.1:{running.port}"]
    database = (running.folder / "postgres" / "postmaster.pid").read_text().splitlines()[0]
    assert f"pid={database}," not in listening


def test_second_server_on_the_same_folder_is_refused(running: Server) -> None:
    again = subprocess.run(
        ["bash", SCRIPT, running.folder],
        env=os.environ | {"SLURM_SUBMIT_DIR": str(ROOT), "DAE_SSL_PYTHON": sys.executable, "DAE_SSL_MLFLOW_WAIT": "1"},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert again.returncode == 1
    assert f"another server uses {running.folder}" in again.stderr
    assert (running.folder / "address").exists(), "the refused one cleared what is not its own"


def test_server_without_the_script_is_refused_on_a_folder_in_use_before_it_changes_anything(running: Server) -> None:
    before = (running.folder / "auth.ini").read_text()
    command = [*DAE_SSL, "server", running.folder, "--port", str(free_port())]
    again = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert f"another server uses {running.folder}" in again.stderr
    assert (running.folder / "auth.ini").read_text() == before
    assert not (running.folder / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("arguments", "python", "said"),
    [
        ([], sys.executable, "the folder of the server is missing"),
        (["kept"], "nowhere/python", "nowhere/python does not exist: run make in"),
    ],
)
def test_server_that_cannot_be_started_says_why_and_leaves_nothing(
    arguments: list[str], python: str, said: str, tmp_path: Path
) -> None:
    refused = subprocess.run(
        ["bash", SCRIPT, *arguments], cwd=tmp_path, env=os.environ | {"DAE_SSL_PYTHON": python},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert said in refused.stderr
    assert not list(tmp_path.iterdir())


def test_secrets_that_others_may_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("PGPASSWORD=x\n")
    (tmp_path / "secrets").chmod(0o640)
    command = [*DAE_SSL, "server", str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert refused.returncode == 2
    assert (
        refused.stderr
        == f"error: {tmp_path}/secrets can be read by other users (mode 0640): run chmod 600 {tmp_path}/secrets\n"
    )


def test_secrets_of_the_environment_stay_there_and_known_ones_are_kept(tmp_path: Path) -> None:
    given = {"PGPASSWORD": "from the environment"}
    known = server_command.known_secrets(tmp_path, given)
    assert known["PGPASSWORD"] == "from the environment"
    assert "from the environment" not in (tmp_path / "secrets").read_text()
    assert server_command.known_secrets(tmp_path, given) == known
    assert len(known["MLFLOW_AUTH_ADMIN_PASSWORD"]) >= 24
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o600


def test_secret_that_is_set_but_empty_is_made_up_once_and_what_the_file_has_stays(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("# of the group\n\nPGPASSWORD=kept\n")
    (tmp_path / "secrets").chmod(0o600)
    first = server_command.known_secrets(tmp_path, {"PGPASSWORD": "another", "MLFLOW_AUTH_ADMIN_PASSWORD": ""})
    assert first["PGPASSWORD"] == "another"
    assert server_command.known_secrets(tmp_path, {}) == first | {"PGPASSWORD": "kept"}


def test_page_may_be_used_under_every_name_of_the_server_and_from_no_other_page(running: Server) -> None:
    known = base64.b64encode(f"admin:{running.credentials['MLFLOW_TRACKING_PASSWORD']}".encode()).decode()
    name = socket.gethostname().partition(".")[0]
    for origin, allowed in ((f"http://{name}:{running.port}", True), ("http://evil.example", False)):
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE)
        headers = {"Host": f"{name}:{running.port}", "Origin": origin, "Authorization": f"Basic {known}",
                   "Content-Type": "application/json"}  # fmt: skip
        connection.request("POST", "/api/2.0/mlflow/experiments/search", '{"max_results": 1}', headers)
        assert (connection.getresponse().status == 200) is allowed, origin
        connection.close()


def test_server_that_refuses_to_create_the_experiment_is_one_line(
    admitted: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("no permission\nto create")

    monkeypatch.setattr(MlflowClient, "create_experiment", refuse)
    with pytest.raises(server.TrackError, match="cannot open the experiment 'forbidden': no permission to create"):
        server.prepare(admitted.uri, "forbidden")


@pytest.mark.parametrize("backend", ["postgresql://me:secret@host/mlflow", "postgresql://host/mlflow?password=secret"])
def test_password_on_the_command_line_is_refused_without_repeating_it(backend: str, tmp_path: Path) -> None:
    command = [*DAE_SSL, "server", str(tmp_path), "--backend", backend]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert refused.returncode == 2
    assert "secret@" not in refused.stderr
    assert refused.stderr.startswith("error: --backend contains a password: put it into PGPASSWORD")


def test_compose_publishes_mlflow_on_this_machine_alone_and_the_database_nowhere() -> None:
    composed: Any = yaml.safe_load((ROOT / "compose.yaml").read_text())
    database, mlflow = composed["services"]["database"], composed["services"]["mlflow"]
    assert mlflow["ports"] == ["${MLFLOW_ADDRESS:-127.0.0.1}:5000:5000"]
    assert "ports" not in database
    assert composed["networks"]["inside"] == {"internal": True}
    assert database["networks"] == ["inside"]
    assert mlflow["read_only"] is True
    assert mlflow["cap_drop"] == ["ALL"]
    job, *arguments = mlflow["command"]
    assert job == "server"
    known = given("server", [argument.replace("${MLFLOW_NAME:-localhost}", "x") for argument in arguments])
    assert known.words == ["/mlflow"]
    assert server_command.without_password(known.backend) == "postgresql://mlflow@database/mlflow"
    assert "--allowed-hosts" in server_command.command(known, Path("/mlflow"))
    secret = [(name, value) for service in (database, mlflow) for name, value in service["environment"].items()
              if re.search("PASSWORD|SECRET", name)]  # fmt: skip
    assert len(secret) == 4
    assert all(value.startswith("${") for _, value in secret)


# ---------------------------------------------------------------------------------- on a cluster


@pytest.mark.slow
@pytest.mark.cluster
def test_experiment_is_there_before_its_arrays_and_the_server_runs_as_a_job(
    cluster: Cluster, images: Path, tmp_path: Path
) -> None:
    if not has_postgres():
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(subprocess.check_output(["mktemp", "-d", "/var/tmp/dae_ssl-server-XXXXXX"], text=True).strip())
    folder.chmod(0o711)
    for store in ("refused", "store"):
        shutil.copytree(images, tmp_path / store)
    send_server = (
        "env", f"DAE_SSL_PYTHON={sys.executable}", f"DAE_SSL_MLFLOW_PORT={free_port()}",
        "DAE_SSL_MLFLOW_HOST=127.0.0.1", "sbatch", "--parsable", f"--chdir={ROOT}", f"--output={folder}/log-%j",
        str(SCRIPT), str(folder / "kept"),
    )  # fmt: skip
    job = cluster.ask(*send_server).strip()
    try:
        await_server(folder / f"log-{job}")
        uri = (folder / "kept" / "address").read_text().strip()
        secrets = dict(line.split("=", 1) for line in (folder / "kept" / "secrets").read_text().splitlines())
        known = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": secrets["MLFLOW_AUTH_ADMIN_PASSWORD"]}
        profile = tmp_path / "tracked.yaml"
        profile.write_text((ROOT / "slurm" / "profiles" / "dev.yaml").read_text() + f"tracking_uri: {uri}\n")
        asked = ["tour", f"--profile={profile}", "--seeds=0", "--no-floors",
                 "data.pretrain=tiny", "data.evaluate=tiny", "data.validation_images=6",
                 "optimisation.batch_size=8"]  # fmt: skip
        wrong = cluster.dae_ssl(
            "submit", *asked, f"--store={tmp_path / 'refused'}", **known | {"MLFLOW_TRACKING_PASSWORD": "wrong"}
        )
        assert wrong.returncode == 0, "a server that refuses stops no submission"
        assert wrong.stderr.count("\n") == 1
        assert "does not accept the name and password" in wrong.stderr
        cancel_others(cluster, job)
        sent = cluster.dae_ssl("submit", *asked, f"--store={tmp_path / 'store'}", **known)
        cancel_others(cluster, job)
        assert sent.returncode == 0, sent.stderr
        assert sent.stdout.index("MLflow: http") < sent.stdout.index(": job ")
        assert re.search(rf"^MLflow: {uri}/#/experiments/1/runs\?viewStateShareKey=", sent.stdout, re.MULTILINE)
        successor = cluster.ask(*send_server).strip()
        cluster.ask("scancel", job)
        await_server(folder / f"log-{successor}")
    finally:
        cluster.run("scancel", "--name=mlflow_server")
        end = time.monotonic() + PATIENCE
        while cluster.ask("squeue", "--noheader", "--name=mlflow_server"):
            assert time.monotonic() < end
            time.sleep(0.2)
    assert (folder / "kept" / "postgres" / "log").read_text().count("database system is shut down") >= 2
    shutil.rmtree(folder)


def await_server(log: Path) -> None:
    """Wait until the job that prints there says that it serves."""
    end = time.monotonic() + PATIENCE
    while not log.exists() or "MLflow: http" not in log.read_text():
        assert time.monotonic() < end, log.read_text() if log.exists() else "it never started"
        time.sleep(0.2)


def cancel_others(cluster: Cluster, kept: str) -> None:
    """Cancel every job but one, and wait until they are gone."""
    end = time.monotonic() + PATIENCE
    while others := set(cluster.ask("squeue", "--noheader", "--format=%A").split()) - {kept}:
        cluster.ask("scancel", *others)
        assert time.monotonic() < end
        time.sleep(0.2)


# ---------------------------------------------------------------------------------- what a person sees

CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync"]  # fmt: skip
LOSSES, ALPHAS = ("l2", "ncs"), (0.1, 10.0)
TINY: dict[str, Any] = {
    "data": {"pretrain": "tiny", "evaluate": "tiny", "validation_images": 6},
    "optimisation": {"batch_size": 8, "epochs": 3, "checkpoints": [1]},
    "probe": {"epochs": 3},
    "kmeans": {"clusters": 3, "restarts": 2},
}


@pytest.fixture(scope="module")
def compared(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with the question of the study in small: each embedding loss with each α."""
    store = Store(tmp_path_factory.mktemp("compared") / "store")
    shutil.copytree(images, store.root)
    context = Context(store, World(0, 1, torch.device("cpu")), lambda _line: None, lambda _what, _done, _total: None)
    for loss, alpha in itertools.product(LOSSES, ALPHAS):
        cell = config.cell(TINY | {"method": {"name": "dae", "embedding": loss, "alpha": alpha}})
        cells.describe(cell, store)
        life.pretrain(cell, context)
        life.evaluate(cell, context)
        write_cell_page(cell, store, {})
    return store


@pytest.mark.slow
def test_a_browser_shows_which_alpha_is_best_and_curves_and_pictures_of_two_cells(
    admitted: Server, compared: Store, tmp_path: Path
) -> None:
    """The screenshots stay in $DAE_SSL_SCREENSHOTS, or else among the test's files."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=1000 * PATIENCE)
    for folder in compared.cells():
        copying.copy(runs.cell_run(cells.described(folder), compared, "alpha"), admitted.uri)
    kept = Path(os.environ.get("DAE_SSL_SCREENSHOTS", tmp_path))
    known = {"username": "admin", "password": admitted.secrets["MLFLOW_AUTH_ADMIN_PASSWORD"]}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        page = browser.new_context(viewport={"width": 1500, "height": 1000}, http_credentials=known).new_page()
        page.set_default_timeout(60_000)
        opened = server.prepare(admitted.uri, "alpha")
        page.goto(opened)

        # The link opens the table of runs, best first, with what tells them apart beside their accuracy.
        expect(page.locator(".ag-center-cols-container .ag-row")).to_have_count(4)
        page.locator("[data-component-id='mlflow.assistant.chat_panel.close']").click()
        shown = {name: column(page, name) for name in ("test_accuracy", "method.embedding", "method.alpha", "seed")}
        accuracies = [float(value.rstrip("…")) for value in shown["test_accuracy"]]
        assert accuracies == sorted(accuracies, reverse=True)
        settings = zip(shown["method.embedding"], map(float, shown["method.alpha"]), strict=True)
        cases = list(settings)
        assert sorted(cases) == sorted(itertools.product(LOSSES, ALPHAS))
        assert page.locator(".ag-row[row-index='0']", has_text=f"dae {cases[0][0]} α={cases[0][1]:g}").count() > 0
        page.screenshot(path=kept / "mlflow-runs.png")

        # The same page as charts draws the curves of all of them.
        page.goto(f"{opened}&compareRunsMode=CHART")
        page.get_by_placeholder("Search metric charts").fill("pretrain/loss")
        expect(page.get_by_role("heading", name="pretrain/loss", exact=True)).to_be_visible()
        expect(page.locator(".js-plotly-plot path.js-line").nth(len(cases) - 1)).to_be_attached()
        page.screenshot(path=kept / "mlflow-curves.png")
        page.goto(opened)

        # Two selected cells side by side: the settings that differ, the figures, and their pictures.
        for row in (0, 1):
            page.locator(f".ag-row[row-index='{row}'] .ag-selection-checkbox:visible").first.click()
        page.get_by_text("Compare", exact=True).first.click()
        expect(page.get_by_text("Comparing 2 Runs from 1 Experiment")).to_be_visible()
        for told in ("method.alpha", "Metrics", "Parallel Coordinates Plot"):
            expect(page.get_by_text(told, exact=True).first).to_be_attached()
        page.get_by_text("Artifacts", exact=True).last.scroll_into_view_if_needed()
        page.get_by_text("reconstructions.png", exact=True).first.click()
        page.wait_for_function("[...document.images].filter(image => image.naturalWidth > 300).length >= 2")
        page.screenshot(path=kept / "mlflow-compare.png")
        browser.close()


def column(page: Any, name: str) -> list[str]:
    """Return a column of the table of runs, from the first row on."""
    rows = range(page.locator(".ag-center-cols-container .ag-row").count())
    return [page.locator(f".ag-row[row-index='{row}'] [col-id$='`{name}`']").first.inner_text() for row in rows]
