"""The store: what is in it is whole, says what it is, and stays that way when processes and disks fail."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dae_ssl import files
from dae_ssl.files import Digests, StoreError, Written, beside, write_bytes, write_json
from dae_ssl.store import LAUNCH, RECORD, Folder, Store
from tests.dying import dying
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[1]

# Kills itself at the n-th operation on a file that a commit makes, and says how many there were if it lives.
DIE_COMMITTING = dying("from dae_ssl.store import Folder", 'bool(Folder(Path(sys.argv[1])).commit({"stage": "probe"}))')


def run(code: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE, check=False)


def filled(path: Path) -> Folder:
    """Return a node with two products, a log, a lock, a rolling checkpoint and a killed process's leftover."""
    node = Folder(path)
    node.create()
    write_bytes(node.product("one.bin"), bytes(range(256)) * 10)
    write_json(node.product("two.json"), {"accuracy": 0.65})
    node.log.write_text("{}\n")
    node.lock.write_text("{}")
    node.states.mkdir()
    (node.states / "state-1.pt").write_bytes(b"state")
    node.product(".one.bin.123.abcdef").write_bytes(b"half")
    return node


# ---------------------------------------------------------------------------------- nodes


def test_nothing_is_created_by_asking(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.node("probe", "0123").record() is None
    assert store.cells() == []
    assert store.data_names() == []
    assert not store.root.exists()


def test_committed_node_names_its_products_and_nothing_else(tmp_path: Path) -> None:
    node = filled(tmp_path / "node")
    assert node.record() is None
    record = node.commit({"stage": "probe", "seconds": 1.5})
    assert record["stage"] == "probe"
    assert set(record["products"]) == {"one.bin", "two.json"}
    assert record["products"]["one.bin"] == {"bytes": 2560, "sha256": files.sha256(node.product("one.bin"))}
    assert node.record() == node.verify() == record
    assert not node.states.exists()
    assert node.log.exists()


@pytest.mark.parametrize("damage", ["missing", "short", "long"])
def test_node_whose_products_have_other_sizes_is_not_done(tmp_path: Path, damage: str) -> None:
    node = filled(tmp_path / "node")
    node.commit({})
    path = node.product("one.bin")
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:-1] if damage == "short" else content + b"\0")
    assert node.record() is None
    with pytest.raises(StoreError, match="is not finished: run its cell again"):
        node.verify()
    path.write_bytes(content)
    node.verify()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", b'{"products": 3}'])
def test_damaged_record_is_no_record(tmp_path: Path, content: bytes) -> None:
    node = filled(tmp_path / "node")
    node.commit({})
    node.product(RECORD).write_bytes(content)
    assert node.record() is None


def test_flipped_bit_is_found(tmp_path: Path) -> None:
    node = filled(tmp_path / "node")
    node.commit({})
    path = node.product("one.bin")
    content = bytearray(path.read_bytes())
    content[1234] ^= 0b100
    path.write_bytes(content)
    assert node.record() is not None  # sizes are right: a quick look does not tell
    with pytest.raises(StoreError) as caught:
        node.verify()
    assert str(caught.value) == f"{path} changed since it was committed: delete {node.path} and run again"


def test_commit_killed_anywhere_leaves_a_node_that_is_done_or_can_be_committed_again(tmp_path: Path) -> None:
    done = run(DIE_COMMITTING, filled(tmp_path / "whole").path, -1)
    assert done.returncode == 0, done.stderr
    operations = int(done.stdout.split()[0])
    assert operations > 8
    finished = []
    for fatal in range(1, operations + 1):
        node = filled(tmp_path / f"killed{fatal}")
        assert run(DIE_COMMITTING, node.path, fatal).returncode == -signal.SIGKILL
        finished.append(node.record() is not None)
        if finished[-1]:
            node.verify()
        assert finished[-1] or node.states.exists(), "the rolling checkpoints went before the record was there"
        node.remove_leftovers()
        assert set(node.commit({})["products"]) == {"one.bin", "two.json"}
        node.verify()
    assert finished == sorted(finished), "done, then not done"
    assert {False, True} == set(finished)


def test_leftovers_of_killed_processes_go_and_nothing_else(tmp_path: Path) -> None:
    node = filled(tmp_path / "node")
    waiting = node.product(".lock.0123456789abcdef")  # of a process that waits for the lock, and lives
    waiting.write_text("{}")
    kept = {path.name for path in node.path.iterdir()} - {".one.bin.123.abcdef"}
    node.remove_leftovers()
    assert {path.name for path in node.path.iterdir()} == kept
    assert waiting.name in kept


# ---------------------------------------------------------------------------------- digests that are known already


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that come to be hashed, in order."""
    names: list[str] = []
    plain = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: (names.append(path.name), plain(path))[1])
    return names


def test_files_that_this_run_has_hashed_are_not_hashed_again(tmp_path: Path, hashed: list[str]) -> None:
    node, digests = filled(tmp_path / "node"), Digests()
    record = node.commit({}, digests)
    assert node.verify(digests) == node.verify(digests) == record
    assert hashed == ["one.bin", "two.json"]
    assert node.verify(Digests()) == record  # another process
    assert hashed == ["one.bin", "two.json"] * 2


@pytest.mark.parametrize("change", ["in place", "replaced", "replaced with the old times"])
def test_a_change_is_noticed_by_who_has_hashed_the_file_before(tmp_path: Path, change: str) -> None:
    node, digests = filled(tmp_path / "node"), Digests()
    node.commit({}, digests)
    path = node.product("one.bin")
    content, times = bytearray(path.read_bytes()), path.stat()
    content[1234] ^= 0b100
    time.sleep(0.01)  # times of files are as coarse as the kernel's tick
    if change == "in place":
        with path.open("r+b") as file:
            file.write(content)
    else:
        path.with_name("other").write_bytes(content)
        path.with_name("other").replace(path)
        if change == "replaced with the old times":
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(StoreError, match=f"{path} changed since it was committed"):
        node.verify(digests)


def test_a_file_hashed_while_it_was_written_is_not_hashed_for_its_commit(tmp_path: Path, hashed: list[str]) -> None:
    node, digests = filled(tmp_path / "node"), Digests()
    digests.note(node.product("one.bin"), Written(2560, files.sha256_of(bytes(range(256)) * 10)))
    record = node.commit({}, digests)
    node.verify(digests)
    assert hashed == ["two.json"]
    node.verify()
    assert record["products"]["one.bin"]["bytes"] == 2560


def test_store_lists_cells_and_data_that_are_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for cell_key in ("b", "a"):
        store.cell(cell_key).create()
    (tmp_path / "cells" / "note.txt").write_text("not a cell")
    store.data("half").create()
    store.data("whole").create()
    store.data("whole").commit({})
    assert [node.key for node in store.cells()] == ["a", "b"]
    assert store.data_names() == ["whole"]
    assert store.node("probe", "k").path == tmp_path / "probe" / "k"


def test_what_is_about_to_be_written_or_removed_is_not_there(tmp_path: Path) -> None:
    store, hidden = Store(tmp_path), beside(tmp_path / "k").name
    for key in ("k", hidden):
        store.cell(key).create()
        store.node("probe", key).create()
        store.snapshot(key).create()
        store.launch(key).create()
        store.launch(key).product(LAUNCH).write_text("{}")
    assert [folder.key for folder in (*store.cells(), *store.snapshots(), *store.launches())] == ["k", "k", "k"]
    assert store.keys("probe") == {"k"}


def test_a_folder_where_a_record_is_expected_is_no_record(tmp_path: Path) -> None:
    node = Folder(tmp_path)
    node.product(RECORD).mkdir()
    assert node.record() is None


def test_record_can_be_read_while_it_is_written_again(tmp_path: Path) -> None:
    """A reader sees one whole record or the other, never none."""
    node = filled(tmp_path / "node")
    node.commit({"turn": 0})
    turns: list[Any] = []
    code = (
        "import sys; from pathlib import Path; from dae_ssl.store import Folder\n"
        "for turn in range(200): Folder(Path(sys.argv[1])).commit({'turn': turn})"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(node.path)], cwd=ROOT) as writer:
        while writer.poll() is None:
            record = node.record()
            turns.append(None if record is None else record["turn"])
    assert writer.returncode == 0
    assert None not in turns
    assert len(set(turns)) > 2


def test_permission_denied_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("root may write everywhere: permission cannot be denied here")
    with pytest.raises(StoreError, match="permission denied: name a store or file that you can write"):
        Folder(folder / "node").create()
    with contextlib.suppress(OSError):
        folder.chmod(0o755)


def test_record_is_json_for_people_too(tmp_path: Path) -> None:
    node = filled(tmp_path / "node")
    node.commit({"stage": "probe"})
    text = node.product(RECORD).read_text()
    assert json.loads(text)["stage"] == "probe"
    assert text.endswith("}\n")
    assert len(text.splitlines()) > 5
