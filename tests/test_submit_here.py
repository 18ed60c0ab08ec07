"""An experiment computed in this process: cell after cell, in time, and going on where results ask for more."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.batch import plan
from dae_ssl.batch.interrupt import Stopped, stop_requests, stopping
from dae_ssl.config import ConfigError
from dae_ssl.store import Store
from jobs import experiment, status, submit

TINY = ["experiment=tour", "data.pretrain=tiny", "data.evaluate=tiny", "data.validation_images=6", "probe.epochs=3",
        "optimisation.batch_size=8", "optimisation.epochs=2", "optimisation.checkpoints=[1]", "kmeans.clusters=3",
        "kmeans.restarts=2", "floors=false"]  # fmt: skip


@pytest.fixture
def store(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(images, tmp_path / "store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    return tmp_path / "store"


def done(store: Path, *arguments: str) -> set[plan.NodeId]:
    asked = experiment.asked([*arguments, f"store={store}"])
    return set(plan.finished(plan.nodes(asked.cells), asked.store))


@pytest.mark.slow
def test_cells_are_finished_one_after_another(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit.main([*TINY, f"store={store}"]) == 0
    printed = capsys.readouterr().out
    order = [line.split()[1] for line in printed.splitlines() if line.startswith("[")]
    assert order == list(config.STAGES) * 3
    assert "everything is there" in printed
    assert (
        f"[1/12] pretrain {config.keys(experiment.asked(TINY).cells[0])['pretrain']}: DAE, no embedding loss, seed 0"
        in printed
    )
    shutil.rmtree(store / "data")
    assert submit.main([*TINY, f"store={store}"]) == 0
    assert "nothing is missing" in capsys.readouterr().out


@pytest.mark.slow
def test_it_stops_in_time_with_its_state_saved_and_goes_on(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = [*TINY, f"store={store}", "optimisation.epochs=3000"]
    began = time.monotonic()
    assert submit.main([*long, "minutes=0.1"]) == 0
    assert time.monotonic() - began < 60
    assert "stopped after 0.1 minutes, as asked; 12 nodes are left: the same command goes on" in capsys.readouterr().out
    assert status.main(long) == 0
    assert "pretrain: saved " in capsys.readouterr().out
    (cell, *_) = experiment.asked(long).cells
    states = Store(store).node("pretrain", config.key(cell, "pretrain")).states
    assert len(list(states.iterdir())) >= 1
    assert submit.main([*long, "minutes=0.05"]) == 0
    assert "resumed" in Store(store).node("pretrain", config.key(cell, "pretrain")).log.read_text()
    assert not signal.getitimer(signal.ITIMER_REAL)[0]


@pytest.mark.slow
def test_what_stops_it_from_outside_is_told_by_its_exit_code_also_with_minutes(store: Path) -> None:
    command = [sys.executable, "-m", "jobs.submit", *TINY, f"store={store}", "optimisation.epochs=100000", "minutes=10"]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "pretrain" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "as asked" not in printed


@pytest.mark.slow
def test_nodes_that_results_ask_for_are_computed_in_the_same_run(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, more = [*TINY, f"store={store}", "seeds=[0]"], [*TINY, f"store={store}", "seeds=[0,1]"]
    answers = [experiment.asked(few, minutes=None), *[experiment.asked(more, minutes=None)] * 2]
    monkeypatch.setattr(submit.experiment, "asked", lambda *_, **__: answers.pop(0))
    assert submit.main(few) == 0
    monkeypatch.undo()
    assert len(done(store, *TINY, "seeds=[0,1]")) == 3 * 4 * 2


@pytest.mark.parametrize("minutes", ["0", "-1", "true", "soon"])
def test_time_that_is_none_is_one_line(minutes: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"minutes=.*: choose a number above 0"):
        submit.main([*TINY, f"minutes={minutes}", f"store={tmp_path}"])


def test_time_is_for_local_profiles(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="profile='gpu4': choose a local one with minutes"):
        submit.main([*TINY, "minutes=5", "profile=gpu4", f"store={tmp_path}"])


def test_request_to_stop_that_came_between_two_tasks_counts_for_the_next() -> None:
    with stop_requests() as outer:
        os.kill(os.getpid(), signal.SIGTERM)
        with stop_requests() as inner:
            assert inner.number == outer.number == signal.SIGTERM
        with pytest.raises(Stopped), stopping():
            pytest.fail("nothing is begun")
    with stop_requests() as fresh:
        assert fresh.number is None
