"""Files: they appear whole or not at all when processes and disks fail, and are told apart by what they hold."""

import ctypes
import errno
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from dae_ssl import files
from dae_ssl.files import Digests, Overwriting, StoreError, Written, appearing, overwriting, write_bytes, write_json
from dae_ssl.store import Folder, Store
from tests.patience import PATIENCE

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


def written(path: Path, size: int, moment: str) -> "subprocess.CompletedProcess[str]":
    """Write a file in a process that dies at a moment, or never."""
    command = [sys.executable, "-c", DIE_WRITING, str(path), str(size), moment]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE, check=False)


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


@pytest.mark.parametrize("moment", ["writing", "written"])
def test_killed_while_writing_leaves_the_old_file_or_none(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "file"
    assert written(path, 100_000, moment).returncode == -signal.SIGKILL
    assert not path.exists()
    write_bytes(path, b"old")
    assert written(path, 100_000, moment).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    done = written(path, 100_000, "never")
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
        with pytest.raises(StoreError, match="it exists and is not a regular file: name another file") as caught:
            write(tmp_path / "it", b"" if write is files.write_bytes else "")
        assert "\n" not in str(caught.value)
    assert {path: path.lstat().st_ino for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["n" * 300, f"{'n' * 300}/store"])
def test_name_that_cannot_be_is_one_line(name: str, tmp_path: Path) -> None:
    for use in (lambda path: files.write_bytes(path, b""), Store):
        with pytest.raises(StoreError, match=r"cannot write .*: the name is too long: choose a shorter one"):
            use(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_sha256_is_that_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_of_another_size_than_was_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.bin"
    write_bytes(path, bytes(2560))
    with pytest.raises(StoreError, match=r"one\.bin changed while it was written: it should have 2559 bytes"):
        Digests().note(path, Written(2559, "0" * 64))


# ---------------------------------------------------------------------------------- what goes


def a_file(path: Path) -> None:
    path.write_bytes(b"x" * 10)


def a_folder(path: Path) -> None:
    (path / "a" / "b").mkdir(parents=True)
    (path / "a" / "b" / "file").write_bytes(b"x" * 20)
    (path / "a" / "link").symlink_to(path.parent / "kept")


def a_link(path: Path) -> None:
    path.symlink_to(path.parent / "kept")


def a_dead_link(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [a_file, a_folder, a_link, a_dead_link])
@pytest.mark.parametrize("name", ["it", "odd\n\x1b[2J name", "-rf"])
def test_what_is_discarded_goes_whole_and_no_link_is_followed(
    make: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("kept")
    seen: list[list[str]] = []
    make(tmp_path / name)

    def still() -> bool:
        seen.append([path.name for path in tmp_path.iterdir() if not files.LEFTOVER.fullmatch(path.name)])
        return True

    assert files.discard(tmp_path / name, still)
    assert seen == [["kept"]], "out of sight before anything in it goes"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "file").read_text() == "kept"


@pytest.mark.parametrize("make", [a_file, a_folder, a_link])
def test_what_is_not_to_go_after_all_is_put_back_unless_it_was_made_anew(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    (tmp_path / "kept").mkdir()
    path = tmp_path / "it"
    make(path)
    number = path.lstat().st_ino
    assert not files.discard(path, lambda: False)
    assert path.lstat().st_ino == number

    def made_anew() -> bool:
        path.mkdir()
        (path / "new").write_text("new")
        return False

    assert files.discard(path, made_anew)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["it", "kept"]
    assert (path / "new").read_text() == "new"


def test_what_cannot_be_removed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/store/probe")

    with pytest.raises(StoreError, match="No such file"):
        files.discard(tmp_path / "none")
    monkeypatch.setattr(Path, "rename", read_only)
    a_folder(tmp_path / "it")
    with pytest.raises(StoreError, match="the file system is read-only") as caught:
        files.discard(tmp_path / "it")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "it" / "a" / "b" / "file").exists()


@pytest.mark.parametrize(("make", "size"), [(a_file, 10), (a_folder, 20 + 4), (a_dead_link, 7)])
def test_weight_is_that_of_all_files_and_of_links_themselves(
    make: Callable[[Path], None], size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"x" * 10**6)
    make(Path("it"))
    assert files.weight(Path("it")) == size
    assert files.weight(Path("none")) == 0


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
