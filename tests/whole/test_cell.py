"""Whole cells through the commands that people run, on a tiny image folder: computed once, killed, resumed, tracked."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute import cells
from dae_ssl.config import Cell, ConfigError
from dae_ssl.store import Store
from jobs import run as run_command
from tests.commanded import DAE_SSL, cell_of
from tests.patience import PATIENCE

TINY = [
    "data.pretrain=tiny", "data.evaluate=tiny", "data.validation_images=6", "optimisation.batch_size=8",
    "optimisation.epochs=2", "optimisation.checkpoints=[1]", "probe.epochs=3", "kmeans.clusters=3", "kmeans.restarts=2",
]  # fmt: skip
DAE = ["method=dae", "method.embedding=l2", "method.alpha=1"]


def started(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a person would, on one thread."""
    seen = {"capture_output": True, "text": True}
    return subprocess.run(command, env=variables(**environment), timeout=PATIENCE, check=False, **seen)


def variables(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "SLURM"))}
    return kept | {"OMP_NUM_THREADS": "1"} | more


def described(*overrides: str) -> Cell:
    return cell_of([*overrides, *TINY])


@pytest.fixture(scope="module")
def finished(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    """A store with a cell and its floors, computed by the command, and what the command printed."""
    store = tmp_path_factory.mktemp("finished") / "store"
    shutil.copytree(images, store)
    done = started([*DAE_SSL, "run", *DAE, *TINY, f"--store={store}"])
    assert done.returncode == 0, done.stderr
    return Store(store), done.stdout


def copy_of(images: Path, tmp_path: Path) -> Path:
    shutil.copytree(images, tmp_path / "store")
    return tmp_path / "store"


def runs_of(store: Store) -> list[tuple[str, str]]:
    with sqlite3.connect(store.root / "mlflow.db") as database:
        return database.execute("select name, status from runs where lifecycle_stage = 'active'").fetchall()


def test_one_command_computes_tracks_and_reports_a_cell_and_its_floors(finished: tuple[Store, str]) -> None:
    store, printed = finished
    cell = described(*DAE)
    for shown in (cell, *cells.floors(cell).values()):
        assert set(cells.committed_records(shown, store)) == set(shown.stages())
        figures = cells.scores(shown, store)
        assert 0 <= figures["test_accuracy"] <= 1
        assert f" {100 * figures['test_accuracy']:.2f} [" in printed
    page = store.cell(config.cell_key(cell)).product("report.html")
    assert str(page) in printed
    assert page.stat().st_size > 10_000
    assert len(runs_of(store)) == 3
    assert {status for _, status in runs_of(store)} == {"FINISHED"}


def test_every_record_says_where_its_result_comes_from(finished: tuple[Store, str]) -> None:
    store, _ = finished
    for stage, record in cells.committed_records(described(*DAE), store).items():
        assert record["settings"]["stage"] == stage
        assert record["versions"]["torch"]
        assert record["device"]
        assert record["seconds"] > 0
        assert all(len(product["sha256"]) == 64 for product in record["products"].values())
        if stage == "pretrain":
            assert (record["compiled"], record["captured"]) == (False, False), "on a CPU the step runs as it is"


def test_same_command_again_computes_nothing(finished: tuple[Store, str]) -> None:
    store, printed = finished
    before = {path: path.stat().st_mtime_ns for path in store.root.glob("*/*/log.jsonl")}
    again = started([*DAE_SSL, "run", *DAE, *TINY, f"--store={store.root}"])
    assert again.returncode == 0, again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in store.root.glob("*/*/log.jsonl")}
    assert ending(again.stdout) == ending(printed)
    staged = [line for line in again.stdout.splitlines() if line.startswith("[")]
    assert staged[0] == "[1/11] pretrain of this cell: done already"
    assert staged[-1] == "[11/11] kmeans of raw pixels: done already"
    assert len(staged) == 11
    assert all(line.endswith(": done already") for line in staged)


def test_run_counts_its_stages_and_ends_with_a_verdict_on_each_floor(finished: tuple[Store, str]) -> None:
    _, printed = finished
    numbers = [line.split("]")[0] for line in printed.splitlines() if line.startswith("[")]
    assert numbers == [f"[{number}/11" for number in range(1, 12)]
    verdict = r"^  (better|worse|not shown to differ) (than|from) the (random encoder|raw pixels): [+−]\d"
    assert len(re.findall(verdict, printed, re.MULTILINE)) == 4


def table(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith(("this cell", "random", "raw"))]


def ending(printed: str) -> str:
    return printed[printed.index("tiny: top-1 %") : printed.index("report: ")]


def test_syncing_a_tracked_store_sends_nothing_and_a_new_server_everything(finished: tuple[Store, str]) -> None:
    store, _ = finished
    same = started([*DAE_SSL, "sync", "--store", str(store.root)])
    assert same.returncode == 0, same.stderr
    assert same.stdout.count(": 0 points and 0 files sent") == 3
    other = f"sqlite:///{store.root / 'other.db'}"
    sent = started([*DAE_SSL, "sync", "--store", str(store.root)], MLFLOW_TRACKING_URI=other)
    assert sent.returncode == 0, sent.stderr
    assert ": 0 points" not in sent.stdout


def test_report_is_drawn_again_from_the_store(finished: tuple[Store, str]) -> None:
    store, _ = finished
    page = store.cell(config.cell_key(described(*DAE))).product("report.html")
    page.unlink()
    drawn = started([*DAE_SSL, "report", *DAE, *TINY, f"--store={store.root}"])
    assert drawn.returncode == 0, drawn.stderr
    assert drawn.stdout.strip() == str(page)
    assert page.exists()


@pytest.mark.slow
def test_cell_killed_at_any_stage_ends_with_the_figures_of_an_undisturbed_one(
    finished: tuple[Store, str], images: Path, tmp_path: Path
) -> None:
    store = copy_of(images, tmp_path)
    command = [*DAE_SSL, "run", *DAE, *TINY, f"--store={store}", "--no-floors"]
    for sign in ("pretrain/*/log.jsonl", "features/*/lock", "probe/*/log.jsonl", "kmeans/*/lock"):
        process = subprocess.Popen(command, env=variables(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while not list(store.glob(sign)):
            assert process.poll() is None, f"it ended before {sign} was there"
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = subprocess.run(command, env=variables(), capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert last.returncode == 0, last.stderr
    cell = described(*DAE)
    assert products(cell, Store(store)) == products(cell, finished[0])
    assert cells.scores(cell, Store(store)) == cells.scores(cell, finished[0])


def products(cell: Cell, store: Store) -> dict[str, Any]:
    """Return the hashes of all products but the features file, which says when it was written."""
    found = cells.committed_records(cell, store)
    return {stage: record["products"] for stage, record in found.items() if stage != "features"}


@pytest.mark.slow
def test_two_ranks_under_torchrun_finish_a_cell_together(images: Path, tmp_path: Path) -> None:
    store = copy_of(images, tmp_path)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "jobs", "run"]
    done = started([*launch, "method=simclr", *TINY, "--no-floors", "--device=cpu", f"--store={store}"])
    assert done.returncode == 0, done.stderr
    assert len(table(done.stdout)) == 1, "both ranks spoke, or none"
    record = cells.committed_records(described("method=simclr"), Store(store))["pretrain"]
    assert record["ranks"] == 2


def test_stop_signal_while_another_process_computes_the_cell_is_obeyed(images: Path, tmp_path: Path) -> None:
    store = copy_of(images, tmp_path)
    node = Store(store).node("pretrain", config.key(described(*DAE), "pretrain"))
    node.create()
    elsewhere = {"token": "x", "host": "elsewhere", "space": "y", "pid": 1, "started": "1", "since": "now"}
    node.lock.write_text(json.dumps(elsewhere))
    command = [*DAE_SSL, "run", *DAE, *TINY, f"--store={store}"]
    process = subprocess.Popen(command, env=variables(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "waiting for" in line:
            break
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    process.stdout.close()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "the method is missing: write method=NAME, where NAME is one of ae, dae"),
        (["method=dea"], "method='dea': did you mean dae? choose ae, dae"),
        (["method=dae", "method.alhpa=1"], "did you mean method.alpha? choose from method.alpha, method.embedding"),
        (["method=simclr", "method.alpha=1"], "unknown setting method.alpha"),
        (["method=dae", "vews.crop=3"], "did you mean views.crop?"),
        (["method=dae", "views.crop=big"], "views.crop='big': choose a whole number"),
        (["method=dae", "precision=fp16"], "precision='fp16': choose fp32, tf32 or bf16"),
        (["method=dae", "method.embedding=cos", "method.alpha=1"], "choose none, l1, "),
        (
            ["method=dae", "seed"],
            "'seed' is combined with other words: name one cell by its key, or by its settings alone",
        ),
        (["method=dae", "seed="], "seed='': choose a whole number"),
        (["method=dae", "method.alpha=-1"], "method.alpha=-1.0: choose 0 or more"),
        (["method=dae", "=1"], "'=1' cannot be parsed: write NAME=VALUE"),
    ],
)
def test_bad_setting_is_one_line_that_names_the_choices(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        cell_of(overrides)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_mistakes_in_a_sweep_are_one_line_too_before_hydra_sees_it() -> None:
    run_command.check(
        ["method=dae,simclr", "seed=1,2", "method.alpha=0,1", "+scale=demo", "hydra/launcher=slurm"], several=True
    )
    for overrides, said in (
        (["method=dae,smclr"], "method='smclr': did you mean simclr? choose ae, dae"),
        (["method=ae", "+scale=dmo"], "--scale='dmo': did you mean demo? choose demo, miniature, short, small"),
        (["method=ae", "sed=1,2"], "unknown setting sed: did you mean seed?"),
        (["method=ae", "seed"], "'seed' cannot be parsed: write NAME=VALUE"),
    ):
        with pytest.raises(ConfigError) as refused:
            run_command.check(overrides, several=True)
        assert str(refused.value).startswith(said)


def test_mistake_ends_the_command_with_one_line_and_code_2_and_settings_can_be_shown(tmp_path: Path) -> None:
    wrong = started([*DAE_SSL, "run", *DAE, *TINY, f"--store={tmp_path}"])
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1), wrong.stderr
    assert wrong.stderr.startswith("error: data set 'tiny' is not prepared")
    shown = started([*DAE_SSL, "run", "method=dae", "--cfg", "job"])
    assert shown.returncode == 0, shown.stderr
    assert "crop: 28" in shown.stdout


def test_node_made_from_other_images_is_not_taken_for_done(finished: tuple[Store, str], tmp_path: Path) -> None:
    from dae_ssl.compute.life import compute
    from dae_ssl.compute.stages import Context
    from dae_ssl.distributed import world
    from dae_ssl.files import StoreError

    shutil.copytree(finished[0].root, tmp_path / "store")
    path = tmp_path / "store" / "data" / "tiny" / "record.json"
    path.write_text(path.read_text().replace('"digest": "', '"digest": "other'))
    with world("cpu") as alone, pytest.raises(StoreError, match="computed from other images"):
        compute(described(*DAE), "pretrain", Context(Store(tmp_path / "store"), alone, tell=print))
