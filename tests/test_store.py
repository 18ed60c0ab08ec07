"""The store: what is in it is whole, says what it is, and stays that way when processes and disks fail."""

import contextlib
import ctypes
import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dae_ssl import files, store
from dae_ssl.files import Digests, Overwriting, StoreError, Written, appearing, overwriting, write_bytes, write_json
from dae_ssl.store import Folder, Store

ROOT = Path(__file__).parents[1]

# Kills itself, as the kernel would, when so many bytes of the new content are written.
DIE_WRITING = """
import os, signal, sys
from pathlib import Path
from dae_ssl.files import appearing
path, size = Path(sys.argv[1]), int(sys.argv[2])
with appearing(path) as temporary:
    with temporary.open("wb", buffering=0) as file:
        file.write(b"new" * size)
        if sys.argv[3] == "writing":
            os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[3] == "written":
        os.kill(os.getpid(), signal.SIGKILL)
"""

# Kills itself at the n-th operation on a file that a commit makes, and says how many there were if it lives.
DIE_COMMITTING = """
import os, signal, sys
from pathlib import Path
from dae_ssl.store import Folder
fatal, seen, ready = int(sys.argv[2]), 0, False
def note(event, arguments):
    global seen
    if ready and (event in ("open", "shutil.rmtree") or event.startswith("os.")):
        seen += 1
        if seen == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(note)
ready = True
Folder(Path(sys.argv[1])).commit({"stage": "probe"})
ready = False
print(seen)
"""


def run(code: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)


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


def mounted(folder: Path, options: str, kind: str = "tmpfs") -> None:
    """Mount a file system, or skip the test and say why."""
    libc = ctypes.CDLL(None, use_errno=True)
    read_only = 1 if "ro" in options.split(",") else 0
    rest = ",".join(option for option in options.split(",") if option != "ro")
    if os.geteuid() != 0 or libc.mount(b"none", str(folder).encode(), kind.encode(), read_only, rest.encode()) != 0:
        pytest.skip("mounting a file system needs root: a full or read-only disk cannot be made here")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder to mount something on, unmounted at the end."""
    folder = tmp_path / "disk"
    folder.mkdir()
    yield folder
    ctypes.CDLL(None).umount2(str(folder).encode(), 2)


# ---------------------------------------------------------------------------------- files


@pytest.mark.parametrize("moment", ["writing", "written"])
def test_killed_while_writing_leaves_the_old_file_or_none(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "file"
    assert run(DIE_WRITING, path, 100_000, moment).returncode == -signal.SIGKILL
    assert not path.exists()
    write_bytes(path, b"old")
    assert run(DIE_WRITING, path, 100_000, moment).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    done = run(DIE_WRITING, path, 100_000, "never")
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == b"new" * 100_000


def test_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def fail_half_way() -> None:
        with appearing(path) as temporary:
            temporary.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_synced_before_its_name_and_its_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        done.append("folder" if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir() else "content")
        fsync(descriptor)

    def note_rename(source: Path, target: Path) -> Path:
        done.append("name")
        return replace(source, target)

    monkeypatch.setattr(files.os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    write_bytes(tmp_path / "file", b"content")
    assert done == ["content", "name", "folder"]


def test_json_that_others_could_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_one_line_and_what_was_there_stays(disk: Path) -> None:
    mounted(disk, "size=128k")
    path = disk / "file"
    write_bytes(path, b"old")
    with pytest.raises(StoreError) as caught:
        write_bytes(path, b"new" * 100_000)
    assert "the disk is full: free space, or name another store or file" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(disk.iterdir()) == [path]


def test_read_only_disk_is_one_line(disk: Path) -> None:
    mounted(disk, "ro,size=128k")
    for attempt in (lambda: write_bytes(disk / "file", b"new"), Folder(disk / "probe" / "key").create):
        with pytest.raises(StoreError) as caught:
            attempt()
        assert "the file system is read-only: name a store or file that can be written" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_file_size_limit_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit that needs no rights: the kernel refuses the write half-way, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StoreError) as caught:
            write_bytes(tmp_path / "file", b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert str(caught.value).startswith(f"cannot write {tmp_path}")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_errors_of_a_disk_say_which_file_and_what_to_do(number: int, advice: str) -> None:
    with pytest.raises(StoreError) as caught, files.explained(Path("/folder")):
        raise OSError(number, os.strerror(number), "/folder/file")
    assert str(caught.value).startswith(f"cannot write /folder/file: {advice}")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def linked_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


@pytest.mark.parametrize("make", [pipe, linked_pipe, bound_socket, Path.mkdir])
def test_what_is_no_regular_file_is_not_replaced(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "it")
    before = {path: path.lstat().st_ino for path in tmp_path.iterdir()}
    for write in (files.write_bytes, files.write_json):
        with pytest.raises(StoreError, match="it is there and no regular file: name another file") as caught:
            write(tmp_path / "it", b"" if write is files.write_bytes else "")
        assert "\n" not in str(caught.value)
    assert {path: path.lstat().st_ino for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["n" * 300, f"{'n' * 300}/store"])
def test_name_that_cannot_be_is_one_line(name: str, tmp_path: Path) -> None:
    for use in (lambda path: files.write_bytes(path, b""), Store):
        with pytest.raises(StoreError, match=r"cannot write .*: the name is too long: choose a shorter one"):
            use(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------- nodes


def test_nothing_is_created_by_asking(tmp_path: Path) -> None:
    place = Store(tmp_path / "store")
    assert place.node("probe", "0123").record() is None
    assert place.cells() == []
    assert place.data_names() == []
    assert not place.root.exists()


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


def test_sha256_is_that_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


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
    node.product(store.RECORD).write_bytes(content)
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
    operations = int(done.stdout)
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


def test_a_file_of_another_size_than_was_written_is_refused(tmp_path: Path) -> None:
    node, digests = filled(tmp_path / "node"), Digests()
    with pytest.raises(StoreError, match=r"one\.bin changed while it was written: it should have 2559 bytes"):
        digests.note(node.product("one.bin"), Written(2559, "0" * 64))


@pytest.mark.parametrize("parts", [[(10, 5), (15, 1), (40, 60)], [(0, 100)], [], [(99, 1)], [(50, 10), (20, 10)]])
@pytest.mark.parametrize("scale", [1, 50_000])
def test_a_file_is_hashed_while_it_is_filled_in(tmp_path: Path, parts: list[tuple[int, int]], scale: int) -> None:
    path, random = tmp_path / "file", Random(0)
    content = bytearray(random.randbytes(100 * scale))
    path.write_bytes(content)
    with overwriting(path) as file:
        for start, length in ((start * scale, length * scale) for start, length in parts):
            part = random.randbytes(length)
            content[start : start + length] = part
            file.write(start, memoryview(part))
        assert file.finish() == Written(len(content), files.sha256_of(bytes(content)))
    assert path.read_bytes() == content


def test_a_part_may_change_when_the_next_two_are_written(tmp_path: Path) -> None:
    path, size = tmp_path / "file", 1 << 20
    memory = [bytearray(size) for _ in range(Overwriting.WAITING + 1)]
    path.write_bytes(bytes(20 * size))
    with overwriting(path) as file:
        for number in range(20):
            part = memory[number % len(memory)]
            part[:] = bytes([number]) * size
            file.write(number * size, memoryview(part))
        made = file.finish()
    assert made.sha256 == files.sha256(path)
    assert path.read_bytes() == b"".join(bytes([number]) * size for number in range(20))


def test_store_lists_cells_and_data_that_are_there(tmp_path: Path) -> None:
    place = Store(tmp_path)
    for cell_key in ("b", "a"):
        place.cell(cell_key).create()
    (tmp_path / "cells" / "note.txt").write_text("not a cell")
    place.data("half").create()
    place.data("whole").create()
    place.data("whole").commit({})
    assert [node.key for node in place.cells()] == ["a", "b"]
    assert place.data_names() == ["whole"]
    assert place.node("probe", "k").path == tmp_path / "probe" / "k"


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
    text = node.product(store.RECORD).read_text()
    assert json.loads(text)["stage"] == "probe"
    assert text.endswith("}\n")
    assert len(text.splitlines()) > 5
