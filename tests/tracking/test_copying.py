"""The log is the truth and MLflow its copy: nothing is lost, nothing doubles, nothing waits."""

import contextlib
import errno
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dae_ssl.compute.log import Log, curves, read
from dae_ssl.config import ConfigError
from dae_ssl.files import StoreError
from dae_ssl.tracking import copying
from dae_ssl.tracking.copying import CellRun, LiveCopy, copy
from dae_ssl.tracking.server import AwayError, TrackError, client, copied_here, settings, tracking_uri
from tests.patience import PATIENCE, until

# MLflow's own use of SQLAlchemy, which a log and its copy can do nothing about
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}


@pytest.fixture(autouse=True)
def no_tracking_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)


# ---------------------------------------------------------------------------------- the log


def test_every_line_is_strict_json_with_a_time(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    before = time.time()
    with Log(tmp_path / "log.jsonl") as log:
        log(3, {"loss": 0.5, "odd": float("nan"), "up": float("inf"), "down": float("-inf")})
        log.event("stopped", reason="killed", path=tmp_path, nested={"values": [float("nan"), 1, None, True]})
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    point, event = (json.loads(line, parse_constant=refuse) for line in lines)
    assert point | {"time": 0} == {
        "time": 0,
        "step": 3,
        "terms": {"loss": 0.5, "odd": "NaN", "up": "Infinity", "down": "-Infinity"},
    }
    assert event["nested"] == {"values": ["NaN", 1, None, True]}
    assert event["path"] == str(tmp_path)
    assert before <= point["time"] <= event["time"] <= time.time()


def test_what_is_read_is_what_was_logged(tmp_path: Path) -> None:
    with Log(tmp_path / "log.jsonl") as log:
        log.event("started", step=7)
        log(0, {"loss": 0.1 + 0.2, "up": float("inf"), "odd": float("nan")})
    event, point = read(tmp_path / "log.jsonl")
    assert (event.event, event.fields, event.step) == ("started", {"step": 7}, None)
    assert (point.step, point.event, point.terms["loss"], point.terms["up"]) == (0, None, 0.1 + 0.2, float("inf"))
    assert point.terms["odd"] != point.terms["odd"]


def test_every_line_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    write = os.write

    def watched(file: int, content: bytes) -> int:
        written.append(content)
        return write(file, content)

    with Log(tmp_path / "log.jsonl") as log:
        monkeypatch.setattr(os, "write", watched)
        log(0, {"loss": 1.0})
        log.event("finished")
        monkeypatch.undo()
    assert [content.count(b"\n") for content in written] == [1, 1]
    assert b"".join(written) == (tmp_path / "log.jsonl").read_bytes()


@pytest.mark.parametrize("kept", [1, 20, -2, -1])
def test_line_torn_by_a_kill_costs_only_itself(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "log.jsonl"
    with Log(path) as log:
        log(0, {"loss": 1.0})
        first = path.stat().st_size
        log(1, {"loss": 2.0})
    whole = path.read_bytes()
    path.write_bytes(whole[:first] + whole[first:][:kept])
    complete = [0, 1] if kept == -1 else [0]  # only the newline is missing
    assert [entry.step for entry in read(path)] == complete
    with Log(path) as log:
        log(1, {"loss": 2.0})
        log(2, {"loss": 3.0})
    assert [step for step, _, _ in curves(path)["loss"]] == [0, 1, 2]


@pytest.mark.parametrize("torn", [b"\0\0\0\n", b'{"time": 1, "ste\n', b"\xff\xfe\n", b"[1]\n", b"7\n", b"\n", b"{}\n"])
def test_torn_lines_in_the_middle_are_passed_over(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "log.jsonl"
    with Log(path) as log:
        log(0, {"loss": 1.0})
    path.write_bytes(path.read_bytes() + torn)
    with Log(path) as log:
        log(1, {"loss": 2.0})
    assert [entry.step for entry in read(path)] == [0, 1]


def test_steps_logged_again_by_a_resumed_run_keep_their_first_time(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for steps in (range(4), range(2, 6)):
        with Log(path) as log:
            for step in steps:
                log(step, {"loss": step / 2})
    firsts = {}
    for line in path.read_text().splitlines():
        firsts.setdefault(json.loads(line)["step"], json.loads(line)["time"])
    assert curves(path) == {"loss": [(step, step / 2, firsts[step]) for step in range(6)]}


def test_log_that_was_not_begun_is_empty(tmp_path: Path) -> None:
    assert list(read(tmp_path / "log.jsonl")) == []


def test_full_disk_is_one_line_and_a_later_line_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    write = os.write
    with Log(path) as log:
        log(0, {"loss": 1.0})
        monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:9]))
        with pytest.raises(StoreError, match=r"log\.jsonl: the disk is full.*free space") as partly:
            log(1, {"loss": 1.0})

        def full(_file: int, _content: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StoreError, match=r"log\.jsonl: the disk is full"):
            log(1, {"loss": 1.0})
        monkeypatch.setattr(os, "write", write)
        log(1, {"loss": 2.0})
    assert "\n" not in str(partly.value)
    assert [(entry.step, entry.terms["loss"]) for entry in read(path)] == [(0, 1.0), (1, 2.0)]


def test_event_cannot_overwrite_what_the_log_writes(tmp_path: Path) -> None:
    with Log(tmp_path / "log.jsonl") as log, pytest.raises(ValueError, match="'time'"):
        log.event("started", time=3)


# ---------------------------------------------------------------------------------- one copy


def write_points(path: Path, steps: range, terms: tuple[str, ...] = ("loss",)) -> None:
    with Log(path) as log:
        for step in steps:
            log(step, {term: step / 7 + index for index, term in enumerate(terms)})


def cell_run(folder: Path, **changes: Any) -> CellRun:
    """A cell whose probe and pretraining log into `folder`."""
    given: dict[str, Any] = {
        "experiment": "table 2/α",
        "key": "0123456789abcdef",
        "name": "dae-ncs",
        "params": {"method.name": "dae", "seed": 0, "long": "x" * 7000, "none": None},
        "tags": {"commit": "abc", "image": None},
        "logs": {"pretrain": folder / "pretrain.jsonl", "probe": folder / "probe.jsonl"},
    }
    return CellRun(**(given | changes))


def runs_of(uri: str, key: str = "0123456789abcdef") -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.`{copying.CELL_TAG}` = '{key}'"))


def assert_run_equals_logs(uri: str, run: CellRun) -> Any:
    """Compare every point of the cell's one run with its logs, both ways; return the run."""
    from mlflow import MlflowClient

    (stored,) = runs_of(uri, run.key)
    client = MlflowClient(tracking_uri=uri)
    expected = {}
    for stage, path in run.logs.items():
        for term, points in curves(path).items():
            expected[f"{stage}/{term}"] = [(step, value, round(1000 * at)) for step, value, at in points]
    for name, points in expected.items():
        history = client.get_metric_history(stored.info.run_id, name)
        assert sorted((point.step, point.value, point.timestamp) for point in history) == sorted(points), name
    assert stored.data.metrics.keys() == expected.keys() | run.metrics.keys()
    return stored


def artifacts_of(uri: str, folder: str) -> dict[str, int]:
    from mlflow import MlflowClient

    (stored,) = runs_of(uri)
    listed = MlflowClient(tracking_uri=uri).list_artifacts(stored.info.run_id, folder)
    return {file.path: file.file_size for file in listed}


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MLflow database with its tables and nothing in it, made by the code under test."""
    folder = tmp_path_factory.mktemp("schema")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUIET.items():
            patch.setenv(name, value)
        with settings(30):
            client(f"sqlite:///{folder / 'mlflow.db'}")
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def sqlite(tmp_path: Path, schema: bytes) -> str:
    (tmp_path / "mlflow.db").write_bytes(schema)
    return tracking_uri(tmp_path)


def test_default_tracking_uri_is_a_database_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(Path("store")) == f"sqlite:///{tmp_path}/store/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert tracking_uri(Path("store")) == "http://tracking:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_uri(Path("store")).startswith("sqlite:///")


@pytest.mark.parametrize(
    ("there", "before", "after", "lines"),
    [
        (True, None, "sqlite:///{store}/mlflow.db", 0),
        (True, "http://tracking:5000", "http://tracking:5000", 0),
        (True, "", "", 0),
        (False, None, "", 1),
        (False, "http://me:secret@tracking:5000", "", 1),
        (False, "", "", 0),
    ],
)
def test_nodes_computed_here_are_copied_where_mlflow_is_installed_and_asked_for(
    there: bool, before: str | None, after: str, lines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: there or None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", before or "")  # so that it is as it was afterwards
    if before is None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
    said: list[str] = []
    copied_here(tmp_path, said.append)
    assert os.environ["MLFLOW_TRACKING_URI"] == after.format(store=tmp_path)
    assert len(said) == lines
    assert "secret" not in "".join(said)


def test_status_that_mlflow_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"status='done': choose RUNNING, FINISHED"):
        cell_run(tmp_path, status="done")


def test_copying_twice_doubles_nothing(tmp_path: Path, sqlite: str) -> None:
    write_points(tmp_path / "pretrain.jsonl", range(1500), ("loss", "reconstruction"))
    write_points(tmp_path / "probe.jsonl", range(3))
    (tmp_path / "curve.png").write_bytes(b"picture")
    figures = {"test_accuracy": 0.673, "diverged": float("nan"), "worst": float("inf")}
    artifacts = {"figures": [tmp_path / "curve.png"], "": [tmp_path / "probe.jsonl"]}
    run = cell_run(tmp_path, metrics=figures, artifacts=artifacts, status="FINISHED")
    first = copy(run, sqlite)
    assert (first.points_sent, first.params_sent, first.artifacts_sent) == (2 * 1500 + 3 + 3, 4, 2)
    stored = assert_run_equals_logs(sqlite, run)
    again = copy(run, sqlite)
    assert (again.run_id, again.points_sent, again.params_sent, again.artifacts_sent) == (first.run_id, 0, 0, 0)
    assert str(assert_run_equals_logs(sqlite, run).to_dictionary()) == str(stored.to_dictionary())
    assert stored.data.metrics["test_accuracy"] == 0.673
    assert artifacts_of(sqlite, "figures") == {"figures/curve.png": 7}
    assert (tmp_path / "mlartifacts").is_dir()


def test_run_shows_settings_tags_times_and_status(tmp_path: Path, sqlite: str) -> None:
    write_points(tmp_path / "pretrain.jsonl", range(2))
    with Log(tmp_path / "probe.jsonl") as log:
        log.event("finished")
    copy(cell_run(tmp_path), sqlite)
    (stored,) = runs_of(sqlite)
    assert (stored.info.status, stored.info.end_time, stored.info.run_name) == ("RUNNING", None, "dae-ncs")
    copy(cell_run(tmp_path, status="FAILED", tags={"commit": "def"}), sqlite)
    (stored,) = runs_of(sqlite)
    times = [entry.time for name in ("pretrain", "probe") for entry in read(tmp_path / f"{name}.jsonl")]
    assert stored.info.start_time == round(1000 * min(times))
    assert (stored.info.status, stored.info.end_time) == ("FAILED", round(1000 * max(times)))
    assert stored.data.params["method.name"] == "dae"
    assert stored.data.params["long"] == "x" * 5999 + "…"
    assert stored.data.params["none"] == "None"
    assert stored.data.tags["commit"] == "def"
    assert "image" not in stored.data.tags
    copy(cell_run(tmp_path), sqlite)
    assert runs_of(sqlite)[0].info.status == "RUNNING"


def test_growing_log_sends_only_what_is_new(tmp_path: Path, sqlite: str) -> None:
    run = cell_run(tmp_path)
    assert copy(run, sqlite).points_sent == 0
    for steps, new in ((range(5), 5), (range(3, 9), 4), (range(9), 0)):
        write_points(tmp_path / "pretrain.jsonl", steps)
        assert copy(run, sqlite).points_sent == new
    assert_run_equals_logs(sqlite, run)


def test_copier_that_is_kept_asks_the_server_nothing_when_nothing_is_new(
    tmp_path: Path, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    path = tmp_path / "pretrain.jsonl"
    write_points(path, range(5))
    (tmp_path / "curve.png").write_bytes(b"picture")
    run = cell_run(tmp_path, metrics={"a": 1.0}, artifacts={"": [tmp_path / "curve.png"]}, status="FINISHED")
    copier = copying._Copier(sqlite)
    copier.copy(run)
    with monkeypatch.context() as patch:
        for method in [name for name in vars(MlflowClient) if not name.startswith("__")]:
            patch.delattr(MlflowClient, method)
        assert copier.copy(run).points_sent == 0
    path.write_bytes(path.read_bytes() + b'{"time": 1e9, "step": 5, "ter')
    assert copier.copy(run).points_sent == 0
    path.write_bytes(path.read_bytes() + b'ms": {"loss": 1}}\n')
    assert copier.copy(run).points_sent == 1


def test_final_figure_that_changed_is_sent_once(tmp_path: Path, sqlite: str) -> None:
    copy(cell_run(tmp_path, metrics={"test_accuracy": 0.5}), sqlite)
    assert [copy(cell_run(tmp_path, metrics={"test_accuracy": 0.6}), sqlite).points_sent for _ in range(2)] == [1, 0]
    assert runs_of(sqlite)[0].data.metrics["test_accuracy"] == 0.6


def test_points_that_are_not_numbers_survive_the_copy(tmp_path: Path, sqlite: str) -> None:
    with Log(tmp_path / "probe.jsonl") as log:
        log(0, {"loss": float("nan"), "peak": float("inf")})
    assert [copy(cell_run(tmp_path), sqlite).points_sent for _ in range(2)] == [2, 0]
    metrics = runs_of(sqlite)[0].data.metrics
    assert metrics["probe/loss"] != metrics["probe/loss"]
    assert metrics["probe/peak"] == sys.float_info.max


def test_names_mlflow_refuses_are_changed_and_stay_different(tmp_path: Path, sqlite: str) -> None:
    names = ["top-1 (%)", "top-1 [%]", "α", "a//b", "../a", "/a", "a/./b", "x" * 300, "x" * 301, "é", "%", ".", "ok"]
    with Log(tmp_path / "probe.jsonl") as log:
        log(0, {name: float(index) for index, name in enumerate(names)})
    run = cell_run(tmp_path, metrics=dict.fromkeys(names, 1.0), params=dict.fromkeys(names, 1))
    assert [copy(run, sqlite).points_sent for _ in range(2)] == [2 * len(names), 0]
    (stored,) = runs_of(sqlite)
    assert len(stored.data.metrics) == 2 * len(names)
    assert len(stored.data.params) == len(names)
    assert {"ok", "probe/ok"} <= stored.data.metrics.keys()


def test_artifact_that_grew_is_sent_again(tmp_path: Path, sqlite: str) -> None:
    picture = tmp_path / "curve.png"
    run = cell_run(tmp_path, artifacts={"figures": [picture]})
    for content, sent in ((b"one", 1), (b"one", 0), (b"three", 1)):
        picture.write_bytes(content)
        assert copy(run, sqlite).artifacts_sent == sent
    assert artifacts_of(sqlite, "figures") == {"figures/curve.png": 5}


def test_missing_artifact_is_named_and_points_are_copied(tmp_path: Path, sqlite: str) -> None:
    write_points(tmp_path / "probe.jsonl", range(3))
    with pytest.raises(TrackError, match=r"No such file.*gone\.png"):
        copy(cell_run(tmp_path, artifacts={"": [tmp_path / "gone.png"]}), sqlite)
    assert_run_equals_logs(sqlite, cell_run(tmp_path))


def test_duplicate_runs_become_one_complete_run(tmp_path: Path, sqlite: str) -> None:
    from mlflow import MlflowClient

    write_points(tmp_path / "probe.jsonl", range(4))
    run = cell_run(tmp_path)
    copier = copying._Copier(sqlite)
    copier.copy(run)
    (stored,) = runs_of(sqlite)
    client = MlflowClient(tracking_uri=sqlite)
    start = stored.info.start_time - 1  # the older one is kept
    older = client.create_run(stored.info.experiment_id, start_time=start, tags={copying.CELL_TAG: run.key})
    assert copy(run, sqlite).run_id == older.info.run_id
    write_points(tmp_path / "probe.jsonl", range(4, 6))
    assert copier.copy(run).run_id == older.info.run_id, "a copier whose run was deleted goes on with the other"
    assert_run_equals_logs(sqlite, run)


def test_deleted_experiment_is_an_error_that_says_what_to_do(tmp_path: Path, sqlite: str) -> None:
    from mlflow import MlflowClient

    copy(cell_run(tmp_path), sqlite)
    MlflowClient(tracking_uri=sqlite).delete_experiment(runs_of(sqlite)[0].info.experiment_id)
    with pytest.raises(TrackError, match=r"'table 2/α' was deleted in MLflow: restore it"):
        copy(cell_run(tmp_path), sqlite)


def test_copy_leaves_the_environment_as_it_was(tmp_path: Path, sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    before = dict(os.environ)
    copy(cell_run(tmp_path), sqlite)
    with LiveCopy(lambda: cell_run(tmp_path), sqlite):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77", "the user's own setting wins"
    assert dict(os.environ) == before


@pytest.mark.slow
def test_processes_copying_one_cell_at_once_leave_one_run(tmp_path: Path) -> None:
    """Three processes meet at a database that does not exist yet."""
    write_points(tmp_path / "pretrain.jsonl", range(300))
    script = """
        import sys, time
        from pathlib import Path
        import mlflow.store.tracking.sqlalchemy_store
        from dae_ssl.tracking.server import tracking_uri
        from dae_ssl.tracking.copying import CellRun, copy
        folder = Path(sys.argv[1])
        (folder / f"ready{sys.argv[2]}").touch()
        while not (folder / "go").exists():
            time.sleep(0.001)
        run = CellRun(experiment="e", key="0123456789abcdef", name="n", params={"seed": 0},
                      tags={"a": "b"}, metrics={"accuracy": 0.5}, status="FINISHED",
                      logs={"pretrain": folder / "pretrain.jsonl"})
        copy(run, tracking_uri(folder))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    processes = [
        subprocess.Popen([*command, str(index)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for index in range(3)
    ]
    until(lambda: len(list(tmp_path.glob("ready*"))) == 3 or any(process.poll() for process in processes))
    (tmp_path / "go").touch()
    for process in processes:
        said, _ = process.communicate(timeout=PATIENCE)
        assert (process.returncode, said) == (0, ""), "tables are created in silence"
    run = cell_run(tmp_path, metrics={"accuracy": 0.5})
    assert assert_run_equals_logs(tracking_uri(tmp_path), run).info.status == "FINISHED"


# ---------------------------------------------------------------------------------- servers that fail


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def hanging_server() -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the URI of a server that accepts connections and never answers, and a wait for the first request."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        server.settimeout(120)

        def accept() -> None:
            connection, _ = server.accept()
            stack.enter_context(connection)
            connection.settimeout(120)
            assert connection.recv(10)

        yield f"http://127.0.0.1:{server.getsockname()[1]}", accept


@contextlib.contextmanager
def failing_server(asked: list[str]) -> Iterator[int]:
    class Fails(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fails) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_failing_server_is_told_once_and_asked_less_and_less(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    asked: list[str] = []
    write_points(tmp_path / "probe.jsonl", range(3))
    with failing_server(asked) as port:
        uri = f"http://anna:s3cret@127.0.0.1:{port}"
        with LiveCopy(lambda: cell_run(tmp_path), uri, every_seconds=0.05, tell=told.append):
            until(lambda: len(asked) >= 3)
            time.sleep(1)
        assert len(told) == 1
        assert 3 <= len(asked) <= 12, "at intervals of 0.1, 0.2, 0.4, ... s"
        with pytest.raises(TrackError) as error:
            copy(cell_run(tmp_path), uri)
    assert "\n" not in told[0]
    assert "nothing is lost" in told[0]
    assert "dae-ssl sync" in told[0]
    assert f"***@127.0.0.1:{port}" in told[0]
    assert "s3cret" not in told[0] + str(error.value) + "".join(capfd.readouterr())


def test_machine_without_mlflow_is_told_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(AwayError, match=r"cannot be used: .*mlflow.*copies them later\)$") as refused:
        client("http://127.0.0.1:9")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("secret", ["s3cret", "s3/cret", "s3@cret", "s3 cret", "s3#cret"])
def test_credentials_in_a_uri_are_never_told(tmp_path: Path, secret: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrackError) as error:
        copy(cell_run(tmp_path), f"http://anna:{secret}@127.0.0.1:{free_port()}")
    said = str(error.value) + "".join(capfd.readouterr())
    assert "cret" not in said
    assert error.value.__suppress_context__, "a traceback would show MLflow's own message"


def test_absent_server_costs_one_line(tmp_path: Path) -> None:
    told: list[str] = []
    with LiveCopy(lambda: cell_run(tmp_path), f"http://127.0.0.1:{free_port()}", every_seconds=0.05, tell=told.append):
        until(lambda: told)
        time.sleep(0.3)
    assert len(told) == 1
    assert "cannot be reached: Connection refused (nothing is lost" in told[0]


def test_description_that_fails_costs_one_line(sqlite: str) -> None:
    told: list[str] = []

    def describe() -> CellRun:
        raise KeyError("no such node")

    with LiveCopy(describe, sqlite, every_seconds=0.02, tell=told.append):
        until(lambda: told)
    assert len(told) == 1
    assert "no such node" in told[0]


def test_server_that_never_answers_delays_neither_the_loop_nor_the_exit(tmp_path: Path) -> None:
    """A loop that touched the server would wait for its time limit of 5 s at every step."""
    told: list[str] = []
    with hanging_server() as (uri, accept):
        live = LiveCopy(lambda: cell_run(tmp_path), uri, exit_seconds=1, tell=told.append)
        with live, Log(tmp_path / "pretrain.jsonl") as log:
            accept()
            began = time.monotonic()
            for step in range(10_000):
                log(step, {"loss": 1.0, "reconstruction": 2.0})
            looped = time.monotonic()
        left = time.monotonic()
    assert looped - began < 30
    assert left - looped < 1 + 5
    assert len(told) == 1
    assert len(curves(tmp_path / "pretrain.jsonl")["loss"]) == 10_000
    live._thread.join(PATIENCE)


def test_process_ends_while_its_copy_still_hangs() -> None:
    """A given-up thread that kept the interpreter alive would hold a SLURM job until its time limit."""
    script = """
        import sys
        from dae_ssl.tracking.copying import CellRun, LiveCopy
        run = CellRun(experiment="e", key="k", name="n", params={}, logs={})
        with LiveCopy(lambda: run, sys.argv[1], exit_seconds=0.1):
            sys.stdin.read()
        print("left")
    """
    environment = os.environ | {"MLFLOW_HTTP_REQUEST_TIMEOUT": "600"}
    with hanging_server() as (uri, accept):
        command = [sys.executable, "-c", textwrap.dedent(script), uri]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            accept()
            said, errors = process.communicate("", timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    told, left = said.splitlines()
    assert "did not finish within 0.1 s" in told
    assert left == "left"


def test_live_copy_ends_with_all_that_was_logged(tmp_path: Path, sqlite: str) -> None:
    told: list[str] = []
    run = cell_run(tmp_path, status="FINISHED")
    with (
        LiveCopy(lambda: run, sqlite, every_seconds=0.01, exit_seconds=60, tell=told.append),
        Log(tmp_path / "pretrain.jsonl") as log,
    ):
        for step in range(2500):
            log(step, {"loss": step / 3})
    assert told == []
    assert assert_run_equals_logs(sqlite, run).info.status == "FINISHED"


# ---------------------------------------------------------------------------------- a real server


class Server:
    """An `mlflow server` on loopback with its own port and folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = os.environ | QUIET | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        until(self.answers)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "server.log").read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                return b" 200 " in connection.recv(64)
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.mark.slow
def test_copying_twice_to_a_server_doubles_nothing(
    tmp_path: Path, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    write_points(tmp_path / "pretrain.jsonl", range(1200), ("loss", "reconstruction"))
    with Log(tmp_path / "probe.jsonl") as log:
        log(0, {"accuracy": 0.1, "odd": float("nan")})
    (tmp_path / "curve.png").write_bytes(b"picture")
    changes: dict[str, Any] = {"metrics": {"test_accuracy": 0.673}, "artifacts": {"figures": [tmp_path / "curve.png"]}}
    run = cell_run(tmp_path, key="twice", params={"empty": "", "seed": 0}, status="FINISHED", **changes)
    first = copy(run, server.uri)
    assert (first.points_sent, first.artifacts_sent) == (2400 + 2 + 1, 1)
    again = copy(run, server.uri)
    assert (again.run_id, again.points_sent, again.params_sent, again.artifacts_sent) == (first.run_id, 0, 0, 0)
    write_points(tmp_path / "pretrain.jsonl", range(1150, 1210), ("loss", "reconstruction"))
    assert copy(run, server.uri).points_sent == 20
    (stored,) = runs_of(server.uri, "twice")
    metrics = stored.data.metrics
    assert (metrics["test_accuracy"], metrics["pretrain/loss"]) == (0.673, 1209 / 7)
    assert stored.info.status == "FINISHED"
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.slow
def test_server_killed_and_restarted_loses_and_doubles_nothing(tmp_path: Path, server: Server) -> None:
    told: list[str] = []
    path = tmp_path / "pretrain.jsonl"
    run = cell_run(tmp_path, key="restarted")
    with LiveCopy(lambda: run, server.uri, every_seconds=0.1, exit_seconds=120, tell=told.append):
        write_points(path, range(50))
        until(lambda: any(one.data.metrics for one in runs_of(server.uri, "restarted")))
        stop = threading.Event()

        def go_on() -> None:
            for step in range(50, 5000):
                write_points(path, range(step, step + 1))
                if stop.wait(0.002):
                    return

        writer = threading.Thread(target=go_on)
        writer.start()
        time.sleep(0.5)
        server.kill()  # most likely in the middle of a batch
        until(lambda: told)
        server.start()
        stop.set()
        writer.join()
        write_points(path, range(5000, 5010))
    assert len(told) == 1
    assert_run_equals_logs(server.uri, run)
    assert copy(run, server.uri).points_sent == 0
