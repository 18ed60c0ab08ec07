"""What a check tells without a cluster: of files, programs, devices and the tracking server."""

import base64
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
from dae_ssl.cluster.finding import OK, UNKNOWN, WRONG, Finding
from dae_ssl.config import Cell, ConfigError
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
from tests.commanded import run


def profile(**given: Any) -> Profile:
    return Profile.of("mine", given)


def cell(**data: Any) -> Cell:
    tiny = {"pretrain": "tiny", "evaluate": "tiny", "validation_images": 6} | data
    return config.cell({"method": {"name": "dae"}, "data": tiny, "optimisation": {"batch_size": 8}})


def one(found: Iterator[Finding]) -> Finding:
    (only,) = found
    return only


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
    assert "/tmp is usually a local disk" in found.message
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
    assert "slurm/after_task.sh, jobs/compute.py is not in" in found.message
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
        assert f"{option} hides the environment that tasks need" in found[WRONG].message


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
    asked = profile(launcher="local", stages={"pretrain": {"machines": 2}})
    told = "stages.pretrain.machines=2: choose 1, since launcher local uses only this machine"
    assert check.device_here(asked) == Finding("device", WRONG, told)


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
        (200, OK, "answers here and accepts your credentials"),
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
        return f"--profile={tmp_path / 'mine.yaml'}"

    return write


def test_local_profile_is_asked_nothing_about_slurm(
    yaml: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check", [yaml("{launcher: local, device: cpu}"), f"--store={tmp_path / 'store'}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["ok", "store"], ["ok", "device"]]
    assert lines[2:] == ["", "2 findings: 2 ok, 0 will not work, 0 not certain"]


def test_data_is_asked_for_when_an_experiment_is_named(
    yaml: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [yaml("{launcher: local, device: cpu}"), f"--store={tmp_path / 'store'}", "tour", "--seeds=0"]
    assert run("check", arguments) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(WRONG)]
    assert "'digits' is not prepared" in line


def test_machine_without_slurm_is_one_finding(
    yaml: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run("check", [yaml("{}"), f"--store={tmp_path}"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.split()[-1:] and "SLURM" in line]
    assert line.startswith(WRONG)
    assert "sbatch, srun, squeue, scancel, scontrol is not on this machine" in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--profile=nowhere"], "--profile='nowhere'"), (["--store="], "--store=''"),
     (["foo=1"], "foo=1 is a setting of an experiment's cells: name the experiment too"),
     (["nothing"], "unknown experiment 'nothing': did you mean"), (["tour", "seed=1"], "write --seeds 0,1")],
)  # fmt: skip
def test_what_is_not_understood_is_refused(arguments: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run("check", arguments)
    assert told in str(caught.value)
