"""Features are dropped when nobody needs them, never before, and come back the same; what a store holds is told."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.cluster import tasks
from dae_ssl.compute import cells, disk, life, stages
from dae_ssl.compute.archive import Archive
from dae_ssl.compute.disk import Descriptions, drop_features
from dae_ssl.compute.nodes import finished, needed
from dae_ssl.compute.processes import Conditions
from dae_ssl.compute.resources import Resources
from dae_ssl.compute.stages import Context
from dae_ssl.config import Cell
from dae_ssl.distributed import World
from dae_ssl.files import StoreError, sha256, write_json
from dae_ssl.lock import Locked, held
from dae_ssl.store import CELL as DESCRIPTION
from dae_ssl.store import FEATURES, KMEANS, LEFT_BEHIND, NETWORKS, PROBE, RECORD, Folder, Store, products_digest
from tests.dying import dying
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
RANDOM = config.cell(
    method="random",
    data={"pretrain": "tiny", "evaluate": "tiny", "validation_images": 6},
    probe={"epochs": 2, "learning_rates": [0.01]},
    kmeans={"clusters": 3, "restarts": 1},
)
SECOND = replace(RANDOM, probe=replace(RANDOM.probe, epochs=3))
THIRD = replace(RANDOM, kmeans=replace(RANDOM.kmeans, seed=1))
PRODUCTS = {"pretrain": NETWORKS, "features": FEATURES, "probe": PROBE, "kmeans": KMEANS}

# Drops features in a process of its own, and kills itself at the n-th operation on a file that this makes.
DIE_DROPPING = dying(
    "from dae_ssl.compute.disk import Descriptions, drop_features\nfrom dae_ssl.store import Store\n"
    "described = Descriptions(Store(Path(sys.argv[1])))",
    "drop_features(sys.argv[2], described)",
)
# Waits until a file is there, and drops features at once.
DROP_AT_ONCE = """
import sys, time
from pathlib import Path
from dae_ssl.compute.disk import Descriptions, drop_features
from dae_ssl.lock import Locked
from dae_ssl.store import Store
described = Descriptions(Store(Path(sys.argv[1])))
print("ready", flush=True)
while not Path(sys.argv[3]).exists():
    time.sleep(0.001)
try:
    print(drop_features(sys.argv[2], described))
except Locked:
    print("locked")
"""


def features_of(cell: Cell, store: Store) -> Folder:
    return store.node("features", config.key(cell, "features"))


def forged(root: Path, *described: Cell, stages: tuple[str, ...] = config.STAGES) -> Store:
    """Return a store with cells whose stages are done, a product each."""
    store = Store(root)
    for cell in described:
        cells.describe(cell, store)
        for stage in (stage for stage in cell.stages() if stage in stages):
            node, parent = store.node(stage, config.key(cell, stage)), life.parent_record(cell, stage, store)
            node.create()
            node.product(PRODUCTS[stage]).write_bytes(b"x" * 1000)
            read = {"parent": products_digest(parent)} if parent else {}
            node.commit({"stage": stage, "settings": config.stage_settings(cell, stage), "figures": {}} | read)
    return store


def dropped(cell: Cell, store: Store) -> int:
    return drop_features(config.key(cell, "features"), Descriptions(store))


def all_done(cell: Cell, store: Store) -> bool:
    return cells.current_records(cell, store).keys() == set(cell.stages())


# ---------------------------------------------------------------------------------- cells that are computed


@pytest.fixture
def context(images: Path, tmp_path: Path) -> Context:
    shutil.copytree(images, tmp_path / "store")
    return Context(Store(tmp_path / "store"), World(0, 1, torch.device("cpu")), lambda _line: None, keep_features=False)


def test_features_go_when_the_last_reader_of_all_cells_is_done_and_come_back_the_same(context: Context) -> None:
    store = context.store
    for cell in (RANDOM, SECOND):
        cells.describe(cell, store)
    node = features_of(RANDOM, store)
    life.evaluate(RANDOM, context)
    assert node.product(FEATURES).exists(), "another cell is described that has not read them"
    was, digest = node.record(), sha256(node.product(FEATURES))
    life.evaluate(SECOND, context)
    assert not node.product(FEATURES).exists()
    record = node.verify()
    assert was is not None
    assert record[LEFT_BEHIND] == was["products"]
    assert products_digest(record) == products_digest(was)
    assert all(all_done(cell, store) for cell in (RANDOM, SECOND))
    scores = [cells.scores(cell, store) for cell in (RANDOM, SECOND)]

    kept = replace(context, keep_features=True)
    life.evaluate(THIRD, kept)
    assert sha256(node.product(FEATURES)) == digest, "computed again, the same to the byte"
    assert all(all_done(cell, store) for cell in (RANDOM, SECOND, THIRD))
    assert scores == [cells.scores(cell, store) for cell in (RANDOM, SECOND)]
    life.evaluate(RANDOM, context)  # nothing is left to compute, and now they need not stay
    assert not node.product(FEATURES).exists()


def test_features_stay_without_being_told_to_drop_them_and_when_a_reader_fails(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> dict[str, Any]:
        raise StoreError("no")

    monkeypatch.setattr(stages, "STAGES", {**stages.STAGES, "kmeans": fail})
    with pytest.raises(StoreError, match="no"):
        life.evaluate(RANDOM, context)
    assert features_of(RANDOM, context.store).product(FEATURES).exists()
    monkeypatch.undo()
    life.evaluate(RANDOM, replace(context, keep_features=True))
    assert features_of(RANDOM, context.store).product(FEATURES).exists()


def test_a_reader_whose_features_were_dropped_after_it_was_planned_has_them_computed_again(context: Context) -> None:
    store, told = context.store, list[str]()
    life.evaluate(RANDOM, context)
    assert not features_of(RANDOM, store).product(FEATURES).exists()
    life.compute(THIRD, "kmeans", replace(context, tell=told.append))
    assert "kmeans" in cells.current_records(THIRD, store)
    assert any("lacks a product that is needed now" in line for line in told)
    assert [folder.key for folder in store.cells()] == sorted(map(config.cell_key, (RANDOM, THIRD)))


def test_features_that_cannot_be_dropped_fail_no_cell(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise StoreError("the disk is full")

    told: list[str] = []
    monkeypatch.setattr(disk, "drop_features", full)
    life.evaluate(RANDOM, replace(context, tell=told.append))
    assert all_done(RANDOM, context.store)
    assert "features are not dropped: the disk is full" in told


# ---------------------------------------------------------------------------------- when they may go


def test_results_are_saved_and_planned_as_before(tmp_path: Path) -> None:
    store, archives = forged(tmp_path, RANDOM, SECOND), [Archive({}, {}), Archive({}, {})]
    wanted = needed([RANDOM, SECOND])
    before = finished(wanted, store), archives[0].add([RANDOM, SECOND], store)
    assert dropped(RANDOM, store) == 1000
    assert (finished(wanted, store), archives[1].add([RANDOM, SECOND], store)) == before
    assert archives[0] == archives[1]
    again = needed([RANDOM, SECOND, THIRD])
    missing = again.keys() - finished(again, store)
    assert sorted(stage for stage, _ in missing) == ["features", "kmeans"], "what is to be read, and what reads it"


@pytest.mark.parametrize("stage", ["probe", "kmeans"])
def test_features_stay_while_a_reader_is_missing_or_out_of_date(tmp_path: Path, stage: str) -> None:
    store = forged(tmp_path, RANDOM)
    node = store.node(stage, config.key(RANDOM, stage))
    record = node.record()
    assert record is not None
    write_json(node.product(RECORD), record | {"parent": "0" * 64})
    assert dropped(RANDOM, store) == 0
    node.product(RECORD).unlink()
    assert dropped(RANDOM, store) == 0
    write_json(node.product(RECORD), record)
    assert dropped(RANDOM, store) == 1000
    assert dropped(RANDOM, store) == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"nodes": {"probe": "../../x"}}', '{"nodes": {"other": "0"}}'])
def test_features_stay_while_a_description_cannot_be_read(tmp_path: Path, content: str) -> None:
    store = forged(tmp_path, RANDOM)
    other = store.cell("other\n")
    other.create()
    assert Descriptions(store).damaged == set()
    other.product(DESCRIPTION).write_text(content)
    assert Descriptions(store).damaged == {"other\n"}
    assert dropped(RANDOM, store) == 0


def test_features_of_a_node_that_is_computed_stay(tmp_path: Path) -> None:
    store = forged(tmp_path, RANDOM)
    with held(features_of(RANDOM, store).lock), pytest.raises(Locked):
        dropped(RANDOM, store)
    assert features_of(RANDOM, store).product(FEATURES).exists()


@pytest.mark.parametrize("linked", ["features", "node", "product"])
def test_features_behind_a_link_stay(tmp_path: Path, linked: str) -> None:
    store = forged(tmp_path / "store", RANDOM)
    node = features_of(RANDOM, store)
    path = {"features": node.path.parent, "node": node.path, "product": node.product(FEATURES)}[linked]
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert all_done(RANDOM, store)
    assert dropped(RANDOM, store) == 0
    assert node.product(FEATURES).exists()


def test_a_cell_that_is_described_at_the_last_moment_has_its_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = forged(tmp_path, RANDOM)
    node, written = features_of(RANDOM, store), list[Any]()
    before = node.record()

    def described_meanwhile(path: Path, value: Any) -> None:
        write_json(path, value)
        written.append(value)
        cells.describe(THIRD, store)

    monkeypatch.setattr(disk, "write_json", described_meanwhile)
    assert dropped(RANDOM, store) == 0
    assert LEFT_BEHIND in written[0]
    assert node.record() == before
    assert node.product(FEATURES).exists()


def run(code: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE)


def test_dropping_that_is_killed_anywhere_leaves_a_node_that_is_done_and_the_next_finishes_it(
    tmp_path: Path,
) -> None:
    key, states = config.key(RANDOM, "features"), list[tuple[bool, bool]]()
    store = forged(tmp_path / "whole", RANDOM)
    done, _ = run(DIE_DROPPING, store.root, key, -1).communicate(timeout=PATIENCE)
    operations, freed = map(int, done.split())
    assert freed == 1000
    for fatal in range(1, operations + 1):
        store = forged(tmp_path / f"killed{fatal}", RANDOM)
        process = run(DIE_DROPPING, store.root, key, fatal)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == -signal.SIGKILL
        record = features_of(RANDOM, store).verify()
        assert all_done(RANDOM, store), "at every moment"
        states.append((LEFT_BEHIND in record, features_of(RANDOM, store).product(FEATURES).exists()))
        dropped(RANDOM, store)
        assert not features_of(RANDOM, store).product(FEATURES).exists()
        assert FEATURES in features_of(RANDOM, store).verify()[LEFT_BEHIND]
        assert all_done(RANDOM, store)
    assert set(states) == {(False, True), (True, True), (True, False)}, "first named, then gone"
    assert states == sorted(states, key=lambda state: (state[0], not state[1]))


def test_of_two_processes_that_end_at_the_same_time_one_drops_them(tmp_path: Path) -> None:
    key = config.key(RANDOM, "features")
    for attempt in range(3):
        store, start = forged(tmp_path / str(attempt), RANDOM), tmp_path / f"start{attempt}"
        processes = [run(DROP_AT_ONCE, store.root, key, start) for _ in range(2)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        start.touch()
        said = [process.communicate(timeout=PATIENCE)[0].strip() for process in processes]
        assert sorted(said) in (["0", "1000"], ["1000", "locked"])
        assert all_done(RANDOM, store)
        assert not features_of(RANDOM, store).product(FEATURES).exists()


# ---------------------------------------------------------------------------------- what runs are told


def test_features_are_kept_as_a_profile_says_else_by_budget_and_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, gigabytes = Store(tmp_path / "not" / "there"), 10**9
    monkeypatch.setattr(disk, "free", lambda _store: 100 * gigabytes)
    asked = [(True, 5.0, 10**15), (False, None, 0), (None, None, 0), (None, 25.0, 0)]
    kept = [disk.keeps_features(value, store, budget, needed) for value, budget, needed in asked]
    assert kept == [True, False, True, False]
    assert disk.keeps_features(None, store, None, 90 * gigabytes)
    assert not disk.keeps_features(None, store, None, 91 * gigabytes)
    monkeypatch.undo()
    assert disk.free(store) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)


def test_tasks_are_told_to_drop_features_and_older_files_of_tasks_mean_what_they_meant(tmp_path: Path) -> None:
    (node,) = (node for node in needed([RANDOM]).values() if node.stage == "features")
    path = tmp_path / "array.jsonl"
    for keep in (True, False):
        conditions = Conditions(store=tmp_path, resources=Resources(), keep_features=keep)
        path.write_text("\n".join(tasks.lines(conditions, [tasks.Task(0, (node,))])))
        assert ("keep_features" in path.read_text()) is not keep
        assert tasks.read(path, 0)[1] == conditions


# ---------------------------------------------------------------------------------- what a store holds


def test_what_a_store_holds_is_told_by_kind_and_links_are_not_followed(tmp_path: Path) -> None:
    store = forged(tmp_path / "store", RANDOM, SECOND)
    (tmp_path / "large").write_bytes(b"x" * 10**6)
    features_of(RANDOM, store).product("link").symlink_to(tmp_path / "large")
    states = store.node("pretrain", config.key(RANDOM, "pretrain")).states
    states.mkdir()
    (states / "state").write_bytes(b"x" * 5000)
    (store.root / "compiled").write_text("a file where a folder is expected")
    (store.root / "a\nname").write_text("odd")
    found = disk.holds(store)
    assert {kind: held.count for kind, held in found.items() if kind in config.STAGES} == {
        "pretrain": 1, "features": 1, "probe": 2, "kmeans": 1
    }  # fmt: skip
    by_hand = sum(path.lstat().st_size for path in store.root.rglob("*") if not path.is_dir() or path.is_symlink())
    assert sum(held.bytes for held in found.values()) == by_hand
    assert found[disk.STATES].bytes == 5000
    first, second = disk.lines(store)
    assert first.startswith(f"{store.root} holds {disk.said(by_hand)}: ")
    assert "rolling states 5 kB (1)" in first
    assert second.endswith("are free on its disk")
    assert disk.lines(Store(tmp_path / "none"))[0] == f"{tmp_path / 'none'} holds 0 bytes"


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 bytes"), (999, "999 bytes"), (983_040_000, "983 MB"), (300 * 10**9, "300 GB")]
)
def test_bytes_are_told_in_units(size: int, words: str) -> None:
    assert disk.said(size) == words


def test_descriptions_are_read_once_and_follow_what_is_described_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, read = forged(tmp_path, RANDOM, stages=()), list[Path]()
    plain: Callable[[Path], disk.Nodes] = disk._nodes
    monkeypatch.setattr(disk, "_nodes", lambda path: (read.append(path), plain(path))[1])
    described = Descriptions(store)
    cells.describe(SECOND, store)
    described.look()
    assert len(read) == 2
    assert described.named()["features", config.key(RANDOM, "features")] == [*described.cells]
    shutil.rmtree(store.cell(config.cell_key(RANDOM)).path)
    store.cell("begun").create()
    described.look()
    assert list(described.cells) == [config.cell_key(SECOND)]
    assert described.cells[config.cell_key(SECOND)] == config.keys(SECOND)
