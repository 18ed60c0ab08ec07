"""`dae-ssl clean` tells what nobody needs, frees that and nothing else, and stops at nothing that a disk may have."""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.cluster import queue, spent
from dae_ssl.cluster.queue import Queued, SlurmError
from dae_ssl.compute import cells, spare
from dae_ssl.compute.disk import Descriptions
from dae_ssl.files import write_json
from dae_ssl.lock import held
from dae_ssl.store import CELL, FEATURES, LAUNCH, LEFT_BEHIND, RECORD, Store
from jobs import clean
from tests.commanded import run as command
from tests.compute.test_disk import RANDOM, SECOND, all_done, dropped, features_of, forged

UNNEEDED = "00000000deadbeef"
SNAPSHOTS = ("a" * 16, "b" * 16)


def run(store: Store, *flags: str) -> int:
    return command("clean", ["--store", str(store.root), *flags])


def everything(root: Path) -> dict[str, Any]:
    """Return all that is in a folder, links as what they are."""
    return {
        str(path.relative_to(root)): path.readlink() if path.is_symlink() else path.is_dir() or path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.name != "lock"
    }


def aged(path: Path) -> None:
    """Make a file or folder, and all in it, seem to be two days old; when it was renamed cannot be set."""
    for each in (path, *path.rglob("*")):
        os.utime(each, (time.time() - 2 * spare.DAY,) * 2, follow_symlinks=False)


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> list[Queued]:
        raise SlurmError("squeue is not on this machine")

    monkeypatch.setattr(queue, "queue", absent)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with two cells, of which one is done, and with something of every kind that can go."""
    made = forged(tmp_path / "store", RANDOM)
    cells.describe(replace(SECOND, data=replace(SECOND.data, split_seed=1)), made)
    made.data("tiny").create()
    made.data("tiny").product(".train-images.npy.1.0123abcd").write_bytes(b"not ours to clean")
    pretrain = made.node("pretrain", config.key(RANDOM, "pretrain"))
    pretrain.states.mkdir()
    (pretrain.states / "state").write_bytes(b"x" * 500)
    unneeded = made.node("probe", UNNEEDED)
    unneeded.create()
    unneeded.product("probe.json").write_bytes(b"x" * 700)
    (made.compiled / "triton").mkdir(parents=True)
    (made.compiled / "triton" / "kernel").write_bytes(b"x" * 300)
    features_of(RANDOM, made).product(".features.h5.12.0123abcd").write_bytes(b"x" * 200)
    return made


def test_nothing_is_changed_before_yes_and_then_what_was_told_goes_and_nothing_else(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(store.root)
    assert run(store) == 0
    told = capsys.readouterr().out
    assert everything(store.root) == before
    rows = {line[:52].strip(): line[52:].split(maxsplit=1) for line in told.splitlines()}
    assert rows[spare.LEFTOVERS] == ["1", "200 bytes"]
    assert rows[spare.STATES] == ["1", "500 bytes"]
    assert rows[spare.COMPILED] == ["1", "300 bytes"]
    assert rows[spare.UNNAMED] == ["1", "700 bytes"]
    assert rows[spare.DROPPED] == ["1", "1 kB"]
    assert rows["together"] == ["5", "2.7 kB"]
    assert "nothing was changed; --yes deletes it" in told

    assert run(store, "--yes") == 0
    assert "2.7 kB freed" in capsys.readouterr().out
    features = str(features_of(RANDOM, store).path.relative_to(store.root))
    gone = before.keys() - everything(store.root).keys()
    assert gone == {
        f"pretrain/{config.key(RANDOM, 'pretrain')}/state",
        f"pretrain/{config.key(RANDOM, 'pretrain')}/state/state",
        f"probe/{UNNEEDED}", f"probe/{UNNEEDED}/probe.json", "compiled", "compiled/triton", "compiled/triton/kernel",
        f"{features}/.features.h5.12.0123abcd", f"{features}/{FEATURES}",
    }  # fmt: skip
    assert everything(store.root).keys() <= before.keys()
    assert all_done(RANDOM, store)
    assert run(store, "--yes") == 0
    assert capsys.readouterr().out == f"nothing in {store.root} can be deleted\n"


def test_what_is_computed_is_not_touched(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    pretrain = store.node("pretrain", config.key(RANDOM, "pretrain"))
    with held(pretrain.lock), held(features_of(RANDOM, store).lock), held(store.node("probe", UNNEEDED).lock):
        before = everything(store.root)
        assert run(store, "--yes") == 0
        assert everything(store.root) == before
    assert capsys.readouterr().out == f"nothing in {store.root} can be deleted\n"


def test_what_somebody_came_to_need_meanwhile_stays(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    third = store.cell("c" * 16)

    def needed_meanwhile(_everything: Any) -> None:
        third.create()
        nodes = config.keys(RANDOM) | {"probe": UNNEEDED}
        write_json(third.product(CELL), {"settings": {}, "nodes": nodes})

    monkeypatch.setattr(clean, "print_kinds", needed_meanwhile)
    assert run(store, "--yes") == 0
    assert store.node("probe", UNNEEDED).product("probe.json").exists()
    assert features_of(RANDOM, store).product(FEATURES).exists(), "what reads them is not done any more"
    assert "1 kB freed" in capsys.readouterr().out, "leftovers, states and compiled steps"


def test_a_node_that_is_described_at_the_last_moment_is_put_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell is described when it has been looked at what the cells need, and before the node is out of sight."""
    described, node, plain = Descriptions(store), store.node("probe", UNNEEDED), spare.weight

    def described_meanwhile(path: Path) -> int:
        store.cell("c" * 16).create()
        write_json(store.cell("c" * 16).product(CELL), {"settings": {}, "nodes": {"probe": UNNEEDED}})
        return plain(path)

    monkeypatch.setattr(spare, "weight", described_meanwhile)
    assert spare.free_node("probe", node, described, ()) == 0
    assert node.product("probe.json").read_bytes() == b"x" * 700
    assert [path.name for path in node.path.parent.iterdir() if path.name.startswith(".")] == []


def test_features_whose_dropping_was_interrupted_go(store: Store) -> None:
    node = features_of(RANDOM, store)
    record = node.record()
    assert record is not None
    write_json(node.product(RECORD), record | {"products": {}, LEFT_BEHIND: record["products"]})
    assert run(store, "--yes") == 0
    assert not node.product(FEATURES).exists()
    assert all_done(RANDOM, store)


def test_nothing_goes_that_a_link_leads_to(store: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for number, path in enumerate([
        features_of(RANDOM, store).path, store.node("probe", UNNEEDED).path, store.compiled,
        store.node("pretrain", config.key(RANDOM, "pretrain")).states,
    ]):  # fmt: skip
        path.rename(elsewhere / str(number))
        path.symlink_to(elsewhere / str(number))
    before, there = everything(store.root), everything(elsewhere)
    assert run(store, "--yes") == 0
    assert everything(store.root) == before
    assert everything(elsewhere) == there


def test_links_in_what_goes_are_not_followed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("kept")
    for folder in (store.node("probe", UNNEEDED).path, store.compiled):
        (folder / "link").symlink_to(tmp_path / "mine")
    assert run(store, "--yes") == 0
    assert not store.compiled.exists()
    assert (tmp_path / "mine" / "precious").read_text() == "kept"


def test_what_is_not_known_stays(store: Store) -> None:
    for name in ("probe/notes", "probe/0123", "features/\n\x1b[2J", "launches/sbatch", "snapshots/mine", "other/x"):
        (store.root / name).mkdir(parents=True)
        (store.root / name / "file").write_text("mine")
        aged(store.root / name)
    (store.root / "kmeans" / "0123456789abcdef").write_text("a file where a folder is expected")
    (store.root / "trials").write_text("and another")
    (store.node("probe", "f" * 16).path / "lock").mkdir(parents=True)  # a folder where a file is expected
    run(store, "--yes")
    for name in ("probe/notes", "probe/0123", "features/\n\x1b[2J", "launches/sbatch", "snapshots/mine", "other/x"):
        assert (store.root / name / "file").read_text() == "mine"
    assert (store.root / "kmeans" / "0123456789abcdef").exists()
    assert (store.root / "trials").exists()
    assert store.node("probe", "f" * 16).path.exists()
    assert not store.node("probe", UNNEEDED).path.exists()


@pytest.mark.parametrize("name", ["cells", "probe", "launches", "snapshots", "compiled", "features"])
def test_a_file_where_a_folder_is_expected_stops_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = forged(tmp_path / "store", RANDOM)
    shutil.rmtree(store.root / name, ignore_errors=True)
    (store.root / name).write_text("x")
    before = (store.root / name).read_text()
    assert run(store, "--yes") == 0
    assert (store.root / name).read_text() == before
    if name == "cells":
        assert "nodes are kept, since the store describes no cells" in capsys.readouterr().out
        assert features_of(RANDOM, store).product(FEATURES).exists()


def test_nodes_stay_where_a_description_cannot_be_read(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.cell("odd\n").create()
    store.cell("odd\n").product(CELL).write_text("{")
    assert run(store, "--yes") == 0
    assert "descriptions of cells cannot be read ('odd\\n'): `dae-ssl remove CELL` removes them" in (
        capsys.readouterr().out
    )
    assert store.node("probe", UNNEEDED).path.exists()
    assert features_of(RANDOM, store).product(FEATURES).exists()
    assert not store.compiled.exists()


def test_a_disk_that_cannot_be_written_is_told_of_and_fails(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system", str(store.root))

    monkeypatch.setattr(Path, "rename", read_only)
    assert run(store) == 0
    assert run(store, "--yes") == 1
    told = capsys.readouterr().out
    assert "the file system is read-only" in told
    assert store.compiled.exists()
    assert not features_of(RANDOM, store).product(FEATURES).exists(), "one that cannot go keeps no other"


def test_leftovers_of_other_folders_go_when_they_are_old(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [store.root / name for name in (".mine", "cells/.hidden", "launches/.lock.0123456789abcdef")]
    left = [store.root / name for name in (
        "cells/.cell.json.17.0123abcd", f"cells/{config.cell_key(RANDOM)}/.cell.json.17.0123abcd",
        "probe/.0123456789abcdef.17.0123abcd/probe.json", "experiments/study/.page.html.3.0123abcd",
    )]  # fmt: skip
    for path in (*kept, *left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    run(store, "--yes")
    assert all(path.exists() for path in (*kept, *left)), "they may be those of living processes"
    monkeypatch.setattr(spare, "DAY", -1.0)
    run(store, "--yes")
    assert [path for path in left if path.exists()] == []
    assert all(path.exists() for path in kept)


# ---------------------------------------------------------------------------------- submissions and snapshots


def submission(store: Store, name: str, snapshot: str, job: str | None = "7", *, old: bool = True) -> Path:
    """Write down a submission of one array with one node that is done, its code, and the job it became."""
    folder = store.launch(name)
    folder.create()
    code = store.snapshot(snapshot).path
    code.mkdir(parents=True, exist_ok=True)
    (code / "code.py").write_text("pass")
    nodes = [{"stage": "probe", "key": config.key(RANDOM, "probe"), "settings": {}}]
    folder.product("probe-0.jsonl").write_text("{}\n" + json.dumps({"index": 0, "nodes": nodes}) + "\n")
    arrays = {"probe-0": {"stage": "probe", "indices": "0", "after": None}}
    write_json(folder.product("probe-0.job"), {"job": job, "time": 0})
    intent = {"experiment": "study", "profile": {}, "arrays": arrays, "snapshot": snapshot, "commit": None}
    write_json(folder.product(LAUNCH), intent | {"image": None})
    if old:
        aged(folder.path)
        aged(code)
    return folder.path


def entry(name: str, array: str = "7") -> Queued:
    return Queued(array, 0, "RUNNING", "", "", f"dae_ssl {name} probe-0")


def answering(monkeypatch: pytest.MonkeyPatch, *entries: Queued) -> None:
    monkeypatch.setattr(queue, "queue", lambda: list(entries))


def test_submissions_that_ended_go_with_their_code(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, queued = submission(store, "1", SNAPSHOTS[0]), submission(store, "2", SNAPSHOTS[1], "8")
    answering(monkeypatch, entry("2", "8"))
    run(store)
    told = capsys.readouterr().out
    assert f"{spent.ENDED:52}      1" in told
    assert f"{spent.SNAPSHOTS:52}      1" in told
    assert run(store, "--yes") == 0
    assert (ended.exists(), queued.exists()) == (False, True)
    assert [folder.key for folder in store.snapshots()] == [SNAPSHOTS[1]]


def test_submissions_stay_where_slurm_cannot_be_asked_but_code_that_none_runs_goes(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    sent, never_sent = submission(store, "1", SNAPSHOTS[0]), submission(store, "2", SNAPSHOTS[1], None)
    assert run(store, "--yes") == 0
    assert (
        "submissions are kept, since SLURM cannot be asked which have ended: squeue is not" in capsys.readouterr().out
    )
    assert (sent.exists(), never_sent.exists()) == (True, False)
    assert [folder.key for folder in store.snapshots()] == [SNAPSHOTS[0]]


def unsettled(_store: Store, path: Path) -> None:
    (path / "probe-0.job").unlink()


def of_another_user(_store: Store, path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(path, 12345, -1)


def telling_of_a_failure(store: Store, _path: Path) -> None:
    store.node("probe", config.key(RANDOM, "probe")).product(RECORD).unlink()


@pytest.mark.parametrize("change", [unsettled, of_another_user, telling_of_a_failure])
def test_submissions_stay_that_may_be_under_way_or_tell_what_went_wrong(
    change: Callable[[Store, Path], None], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = submission(store, "1", SNAPSHOTS[0])
    change(store, path)
    answering(monkeypatch)
    assert run(store, "--yes") == 0
    assert path.exists()


def test_a_damaged_submission_keeps_all_code(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = submission(store, "1", SNAPSHOTS[0])
    (path / LAUNCH).write_text("{")
    answering(monkeypatch)
    assert run(store, "--yes") == 0
    assert path.exists()
    assert len(store.snapshots()) == 1


def test_code_stays_for_a_day_and_with_a_young_submission(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    submission(store, "1", SNAPSHOTS[0], old=False)
    aged(store.snapshot(SNAPSHOTS[0]).path)
    store.snapshot(SNAPSHOTS[1]).create()
    answering(monkeypatch, entry("1"))
    assert run(store, "--yes") == 0
    assert [folder.key for folder in store.snapshots()] == list(SNAPSHOTS)
    answering(monkeypatch)
    assert run(store, "--yes") == 0
    assert [folder.key for folder in store.snapshots()] == list(SNAPSHOTS)
    assert store.launches() == []


def test_a_sweep_ends_when_the_queue_has_nothing_of_it_for_a_day(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = store.launch("multirun-1").path
    (sweep / "logs").mkdir(parents=True)
    (sweep / "logs" / "submission_file_1.sh").write_text(f"export DAE_SSL_SNAPSHOT={SNAPSHOTS[0]}\n")
    for snapshot in SNAPSHOTS:
        store.snapshot(snapshot).create()
        aged(store.snapshot(snapshot).path)
    aged(sweep)
    answering(monkeypatch, replace(entry("x"), comment="dae_ssl multirun-1"))
    assert run(store, "--yes") == 0
    assert [folder.key for folder in store.snapshots()] == [SNAPSHOTS[0]]
    answering(monkeypatch)
    assert run(store, "--yes") == 0
    assert not sweep.exists()
    assert store.snapshots() == []


def test_submissions_and_code_stay_while_another_process_submits(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = submission(store, "1", SNAPSHOTS[0])
    answering(monkeypatch)
    with held(store.launching):
        assert run(store, "--yes") == 0
    assert "submissions and snapshots are kept: " in capsys.readouterr().out
    assert path.exists()
    assert len(store.snapshots()) == 1
    assert dropped(RANDOM, store) == 0, "what has nothing to do with it went"
