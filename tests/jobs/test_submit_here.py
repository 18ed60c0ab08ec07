"""An experiment computed on this machine: cell after cell or side by side, in time, and kept as it is finished."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute import nodes, running, shares
from dae_ssl.compute.archive import Archive
from dae_ssl.compute.interrupt import Budget
from dae_ssl.compute.lanes import Lane
from dae_ssl.compute.nodes import needed
from dae_ssl.compute.running import Outcome
from dae_ssl.config import ConfigError
from dae_ssl.files import StoreError
from jobs import status, submit
from tests.commanded import DAE_SSL, ask, run
from tests.patience import PATIENCE, until

TINY = ["tour", "data.pretrain=tiny", "data.evaluate=tiny", "data.validation_images=6", "probe.epochs=3",
        "optimisation.batch_size=8", "optimisation.epochs=2", "optimisation.checkpoints=[1]", "kmeans.clusters=3",
        "kmeans.restarts=2", "--no-floors"]  # fmt: skip
LONGER = [*TINY, "optimisation.epochs=6"]


@pytest.fixture
def store(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(images, tmp_path / "store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    return tmp_path / "store"


def done(store: Path, *arguments: str) -> set[nodes.NodeId]:
    asked = ask([*arguments, f"--store={store}"])
    return set(nodes.finished(needed(asked.cells), asked.store))


@pytest.mark.slow
def test_cells_are_finished_one_after_another(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("submit", [*TINY, f"--store={store}"]) == 0
    printed = capsys.readouterr().out
    order = [line.split()[1] for line in printed.splitlines() if line.startswith("[")]
    assert order == list(config.STAGES) * 3
    assert "everything is computed" in printed
    assert f"[1/12] pretrain {config.keys(ask(TINY).cells[0])['pretrain']}: DAE, no embedding loss, seed 0" in printed
    shutil.rmtree(store / "data")
    assert run("submit", [*TINY, f"--store={store}"]) == 0
    assert "nothing is missing" in capsys.readouterr().out


def products(store: Path) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of every product by node."""
    records = {path.parent: json.loads(path.read_text()) for stage in config.STAGES
               for path in store.glob(f"{stage}/*/record.json")}  # fmt: skip
    return {
        f"{node.parent.name}/{node.name}": {name: facts["sha256"] for name, facts in record["products"].items()}
        for node, record in records.items()
    }


def begins_training(store: Path) -> Callable[[], bool]:
    """Return whether some pretraining has logged its first epoch."""
    return lambda: any('"step"' in path.read_text() for path in store.glob("pretrain/*/log.jsonl"))


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The products of the tour computed in order on one lane; longer, so that it can be stopped."""
    store = tmp_path_factory.mktemp("whole") / "store"
    shutil.copytree(images, store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")
        assert run("submit", [*LONGER, f"--store={store}"]) == 0
    return products(store)


@pytest.mark.slow
def test_cells_side_by_side_stop_in_time_with_their_states_saved_and_go_on_to_the_same_bytes(
    whole: dict[str, dict[str, str]],
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [*LONGER, f"--store={store}", "--parallel=2"]
    with monkeypatch.context() as patch:
        at = list[Budget]()
        trains = begins_training(store)
        patch.setattr(Budget, "__call__", lambda budget: at.append(budget) is None and trains())
        began = time.monotonic()
        assert run("submit", [*arguments, "--minutes=7.5"]) == 0
    assert at[0].minutes == 7.5
    assert 0 <= at[0].began - began < 60
    assert "stopped after 7.5 minutes; 12 nodes are left; the same command continues" in capsys.readouterr().out
    assert run("status", [*LONGER, f"--store={store}"]) == 0
    assert "pretrain: saved after epoch " in capsys.readouterr().out
    assert run("submit", arguments) == 0
    assert sum('"resumed"' in path.read_text() for path in store.glob("pretrain/*/log.jsonl")) >= 1
    assert len(whole) == 12
    assert products(store) == whole
    assert not (store / "launches").exists(), "a local run is no submission"


@pytest.mark.slow
def test_time_that_is_over_before_anything_began_is_told_as_such(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    assert run("submit", [*LONGER, f"--store={store}", "--minutes=0.0001"]) == 0
    assert time.monotonic() - began < 20
    assert "stopped after 0.0001 minutes; 12 nodes are left" in capsys.readouterr().out


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(store: Path) -> Iterator[Start]:
    """Start the command with cells that do not end, and wait until some are trained; end what a test leaves."""
    started = list["subprocess.Popen[str]"]()

    def start(*further: str, trained: int = 1) -> "subprocess.Popen[str]":
        command = [*DAE_SSL, "submit", *TINY, f"--store={store}", "optimisation.epochs=100000", *further]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        started.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
        until(begins_training(store))
        until(lambda: starts(store) >= trained)
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def starts(store: Path) -> int:
    """Return how often training has begun, as the logs say."""
    return sum(path.read_text().count('"started"') for path in store.glob("pretrain/*/log.jsonl"))


def lanes_of(process: "subprocess.Popen[str]") -> list[int]:
    return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.slow
def test_what_stops_it_from_outside_is_told_by_its_exit_code_also_with_minutes(store: Path, start: Start) -> None:
    process = start("--minutes=10")
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    assert "as asked" not in printed
    assert list(store.glob("pretrain/*/state/*"))


@pytest.mark.slow
def test_lane_that_is_killed_goes_on_and_lanes_of_a_run_that_is_killed_do_not(store: Path, start: Start) -> None:
    process = start("--parallel=2", trained=2)
    (first, second) = lanes_of(process)
    os.kill(first, signal.SIGKILL)
    until(lambda: starts(store) == 3)
    again = lanes_of(process)
    assert second in again
    assert first not in again
    process.kill()
    process.communicate()
    until(
        lambda: not any(Path(f"/proc/{lane}").exists() for lane in again),
        lambda: "a lane that its run left behind computes on",
    )


@pytest.mark.slow
def test_cell_that_diverges_leaves_the_others_alone(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ask([*TINY, f"--store={store}", "--parallel=2"])
    rows = asked.sections[0].cells
    (bad, (cell,)), *_ = rows.items()
    rows[bad] = (replace(cell, optimisation=replace(cell.optimisation, learning_rate=1e30)),)
    for verb in (submit, status):
        monkeypatch.setattr(verb, "experiment", lambda _: asked)
    assert run("submit", [*TINY, f"--store={store}"]) == 1
    assert "pretrain failed; 3 nodes that need it are left out" in (printed := capsys.readouterr().err)
    assert "4 nodes failed; to see why: dae-ssl status tour" in printed
    assert len(nodes.finished(needed(asked.cells), asked.store)) == 2 * 4
    assert run("status", ["tour"]) == 1
    assert "Diverged" in capsys.readouterr().out


@pytest.mark.slow
def test_finished_cell_is_kept_before_the_next_is_done(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, seen = tmp_path / "kept.jsonl", list[tuple[int, int]]()
    write = Archive.write

    def written(archive: Archive, path: Path) -> None:
        write(archive, path)
        there = [all(stage in products_of for stage in config.STAGES) for products_of in by_cell(archive)]
        seen.append((sum(there), len(products(store))))

    def by_cell(archive: Archive) -> list[set[str]]:
        found = [config.keys(config.cell(settings)).items() for settings in archive.cells.values()]
        return [{stage for stage, key in nodes if (stage, key) in archive.nodes} for nodes in found]

    monkeypatch.setattr(Archive, "write", written)
    assert run("submit", [*TINY, f"--store={store}", f"--archive={file}", "--weights"]) == 0
    finished = [(cells, nodes) for cells, nodes in seen if cells]
    assert finished[0][0] == 1
    assert 4 <= finished[0][1] < 8
    assert finished[-1] == (3, 12)
    loaded = tmp_path / "loaded"
    run("results", ["load", str(file), f"--store={loaded}"])
    assert len(done(loaded, *TINY)) == 12
    last = {node: files["encoder-epoch0002.safetensors"] for node, files in products(store).items() if "pret" in node}
    assert len(last) == 3
    for node, digest in last.items():
        encoder = (tmp_path / "weights" / f"{node.rpartition('/')[2]}.safetensors").read_bytes()
        assert hashlib.sha256(encoder).hexdigest() == digest
    before = file.read_bytes()
    assert run("submit", [*TINY, f"--store={store}", f"--archive={file}"]) == 0
    assert file.read_bytes() == before


@pytest.mark.slow
def test_what_is_under_way_when_it_stops_is_kept_as_far_as_it_is_done(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Budget, "__call__", lambda _: any(store.glob("features/*/record.json")))
    monkeypatch.setattr(running, "GRACE_SECONDS", 0.1)
    assert run("submit", [*TINY, f"--store={store}", "--minutes=1", f"--archive={tmp_path / 'kept.jsonl'}"]) == 0
    assert {stage for stage, _ in Archive.read(tmp_path / "kept.jsonl").nodes} >= {"pretrain", "features"}


@pytest.mark.slow
def test_machine_that_trains_and_one_that_evaluates(
    whole: dict[str, dict[str, str]], store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*LONGER, f"--store={store}"]
    assert run("submit", [*arguments, "--only=probe"]) == 0
    told = "--only probe leaves out missing nodes: 9 of other stages and 3 whose parents are missing"
    assert told in capsys.readouterr().out
    assert run("submit", [*arguments, "--only=pretrain"]) == 0
    assert {node.partition("/")[0] for node in products(store)} == {"pretrain"}
    assert "--only pretrain leaves out missing nodes: 9 of other stages" in capsys.readouterr().out
    assert run("submit", arguments) == 0
    assert products(store) == whole


@pytest.mark.slow
def test_kmeans_has_a_lane_without_a_gpu_where_there_is_one(
    whole: dict[str, dict[str, str]], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU is none, but the lanes are those of a machine with one."""
    monkeypatch.setattr(shares, "gpus", lambda _device: ["0"])
    given = list[tuple[int, str]]()
    give = Lane.give
    monkeypatch.setattr(Lane, "give", lambda lane, node: given.append((lane.number, node.stage)) or give(lane, node))
    assert run("submit", [*LONGER, f"--store={store}"]) == 0
    assert {stage for lane, stage in given if lane == 2} == {"kmeans"}
    assert {lane for lane, stage in given if stage == "pretrain"} == {0, 1}
    assert products(store) == whole


@pytest.mark.slow
def test_cell_that_several_ranks_pretrain_is_computed_on_one_lane(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "ranks.yaml"
    profile.write_text("launcher: local\ndevice: cpu\nstages: {pretrain: {ranks_per_machine: 2}}\n")
    asked = ask([*TINY, f"--store={store}", f"--profile={profile}"])
    rows = asked.sections[0].cells
    for row in list(rows)[1:]:
        del rows[row]  # since each rank of each cell is a process of its own
    monkeypatch.setattr(submit, "experiment", lambda _: asked)
    assert run("submit", [*TINY, f"--store={store}", f"--profile={profile}"]) == 0
    (record,) = [json.loads(path.read_text()) for path in store.glob("pretrain/*/record.json")]
    assert record["ranks"] == 2
    assert len(nodes.finished(needed(asked.cells), asked.store)) == 4


@pytest.mark.slow
def test_nodes_that_results_ask_for_are_computed_in_the_same_run(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, more = [*TINY, f"--store={store}", "--seeds=0"], [*TINY, f"--store={store}", "--seeds=0,1"]
    answers = [ask(few), *[ask(more)] * 2]
    monkeypatch.setattr(submit, "experiment", lambda _: answers.pop(0))
    assert run("submit", few) == 0
    monkeypatch.undo()
    assert len(done(store, *TINY, "--seeds=0,1")) == 3 * 4 * 2


@pytest.mark.parametrize("minutes", ["0", "-1", "true", "soon", "9" * 400])
def test_time_that_is_none_is_one_line(minutes: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--minutes='.*': choose a number above 0 and at most 1e\+07"):
        run("submit", [*TINY, f"--minutes={minutes}", f"--store={tmp_path}"])


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ("--minutes=5", "which has its own time limits"),
        ("--parallel=2", "which has its own arrays"),
        ("--archive=kept.jsonl", "`dae-ssl results save` writes the file"),
    ],
)
def test_what_only_a_local_run_has_is_refused_to_others(option: str, instead: str, tmp_path: Path) -> None:
    flag = option.partition("=")[0]
    with pytest.raises(ConfigError, match=f"^{flag} needs a local profile; gpu4 submits to SLURM[,;] {instead}"):
        run("submit", [*TINY, option, "--profile=gpu4", f"--store={tmp_path}"])


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--parallel=0", "--parallel='0': choose a whole number, at least 1"),
        ("--parallel=1.5", "--parallel='1.5': choose a whole number, at least 1"),
        ("--parallel=" + "9" * 18, "--parallel=9+: choose at most [0-9]+: 4 for each of"),
        ("--weights=0", "--weights needs --archive FILE: the encoders belong to"),
        ("--weights", "--weights needs --archive FILE"),
        ("--minutes", "--minutes needs a value: write --minutes N"),
        ("--archive=.", "--archive='.': choose a file"),
        ("--only=pretrian", "--only='pretrian': did you mean pretrain\\? choose pretrain, features, probe, kmeans"),
        ("--only=", "--only='': choose pretrain"),
    ],
)
def test_option_that_cannot_be_is_one_line_and_nothing_is_written(
    option: str, told: str, store: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=told):
        run("submit", [*TINY, option, f"--store={store}"])
    assert sorted(tmp_path.rglob("*")) == before


def test_file_that_is_none_of_results_is_not_overwritten(store: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("my notes\n")
    with pytest.raises(StoreError, match=r"mine\.txt, line 1 is not a result, or is damaged"):
        run("submit", [*TINY, f"--store={store}", f"--archive={tmp_path / 'mine.txt'}"])
    assert (tmp_path / "mine.txt").read_text() == "my notes\n"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--archive={folder}/pipe"], "--archive='.*pipe': choose a file"),
        (["--archive={folder}/link"], "--archive='.*link': choose a file"),
        ([f"--archive={'n' * 300}"], "the name is too long"),
        ([f"--store={'n' * 300}"], "the name is too long"),
        (["--archive="], "--archive='': choose a file"),
        (
            ["--archive={folder}/r.jsonl", "--weights="],
            "--weights='': choose a folder, or write --weights without a value",
        ),
        (["--archive={folder}/r.jsonl", f"--weights={'n' * 300}"], "the name is too long"),
        (["--archive={folder}/r.jsonl", "--weights={folder}/mine"], r"mine/README\.md is not an index of encoders"),
    ],
)
def test_file_or_folder_that_cannot_be_written_is_one_line_and_nothing_is_written(
    options: list[str], told: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("# My project\n")
    before = sorted(tmp_path.rglob("*"))
    given = [*TINY, f"--store={store}", *(option.format(folder=tmp_path) for option in options)]
    saving = [option.removeprefix("--archive=") for option in given]
    with pytest.raises((ConfigError, StoreError), match=told) as submitted:
        run("submit", given)
    with pytest.raises((ConfigError, StoreError), match=told.replace("--archive", "FILE")) as saved:
        run("results", ["save", *saving, *([] if "FILE" in told else ["r.jsonl"][: saving == given])])
    assert "\n" not in f"{submitted.value}{saved.value}"
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "mine" / "README.md").read_text() == "# My project\n"


@pytest.mark.parametrize(
    ("outcome", "code", "printed", "complained"),
    [
        (Outcome(left=5, over=True), 0, "stopped after 3 minutes; 5 nodes are left; the same command", ""),
        (Outcome(failed=2, left=5, over=True), 1, "stopped after 3 minutes; 5 nodes are left\n", "2 nodes f"),
        (Outcome(failed=2, left=2), 1, "", "2 nodes failed; to see why: dae-ssl status tour"),
        (Outcome(left=5, over=True, stopped=signal.SIGTERM), 143, "", ""),
        (Outcome(), 0, "everything is computed; to draw the page: dae-ssl report tour", ""),
        (Outcome(computed=False), 0, "nothing is missing; to draw the page: dae-ssl report tour", ""),
    ],
)
def test_what_came_of_it_is_said_and_told_by_the_exit_code(
    outcome: Outcome,
    code: int,
    printed: str,
    complained: str,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(running, "run", lambda *_, **__: outcome)
    assert run("submit", [*TINY, f"--store={store}", "--minutes=3"]) == code
    said = capsys.readouterr()
    for expected, line in ((printed, said.out), (complained, said.err)):
        assert expected in line if expected else not line


def test_hint_names_the_cells_and_none_of_its_own_options() -> None:
    arguments = ["tour", "--minutes=3", "--seeds=0", "--parallel=2", "--only=pretrain", "--archive=a", "--weights"]
    assert ask(arguments).same == ["tour", "--seeds", "0"]
    others = ["tour", "--no-floors", "views.crop=20", "--profile=dev", "--scale=demo", "--seeds=0,2", "--store=there"]
    again = ask(ask(others).same)
    assert [config.cell_key(cell) for cell in again.cells] == [config.cell_key(cell) for cell in ask(others).cells]
    assert (again.store, again.profile) == (ask(others).store, ask(others).profile)
