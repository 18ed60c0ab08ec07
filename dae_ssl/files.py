"""Files are written and removed as a whole, so that no process sees half of one, and identified by their SHA-256."""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

LEFTOVER = re.compile(r"\..+\.\d+\.[0-9a-f]{8}", re.DOTALL)
"""A temporary name: the final name, the process id and eight random hexadecimal digits."""


class StoreError(RuntimeError):
    """Something cannot be read from or written to the store; the message is one line that says what to do."""


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError, such as that of a full or read-only disk, into a StoreError that says what to do."""
    try:
        yield
    except OSError as error:
        advice = {
            28: "the disk is full: free space, or name another store or file; finished results are safe",
            122: "the disk quota is used up: free space, or name another store or file; finished results are safe",
            30: "the file system is read-only: name a store or file that can be written",
            13: "permission denied: name a store or file that you can write",
            36: "the name is too long: choose a shorter one",
        }.get(error.errno or 0, error.strerror or str(error))
        raise StoreError(f"cannot write {error.filename or path}: {advice}") from error


def require_replaceable(path: Path) -> None:
    """Raise StoreError if a file cannot replace `path`: a folder, a device, a pipe, or a name that no file can have."""
    with explained(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            return
    if not stat.S_ISREG(mode):
        raise StoreError(f"cannot write {path}: it exists and is not a regular file: name another file")


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is synced and renamed to `path`, on failure removed.

    Raises StoreError, before anything is written, if `path` exists and is not a regular file.
    """
    require_replaceable(path)
    temporary = beside(path)
    try:
        with explained(path):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # a read-only file system raises here too, which would hide the first error
            temporary.unlink(missing_ok=True)


def beside(path: Path) -> Path:
    """Return an unused path in the same folder, whose name shows that it is temporary if a killed process leaves it."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")


def discard(path: Path, still: Callable[[], bool] = lambda: True) -> bool:
    """Remove a file, a link, or a folder with its contents; other processes see its name vanish at once.

    After the name has vanished, `still` decides whether to go on: if it returns False, the path is put back and False
    is returned. Links are never followed. Raises StoreError if the path cannot be removed.
    """
    with explained(path):
        aside = path.rename(beside(path))
        if not still():
            with contextlib.suppress(OSError):  # another process has created the path again: then the old one goes
                aside.rename(path)
                return False
        delete(aside)
    return True


def delete(path: Path) -> None:
    """Remove a file, a link, or a folder with its contents that no other process uses; links are never followed."""
    with explained(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def weight(path: Path) -> int:
    """Return the size in bytes of a file, or of all files below a folder; links are not followed.

    Files that vanish meanwhile, or that this user may not see, count as 0 bytes.
    """
    total, waiting = 0, [path]
    with contextlib.suppress(OSError):
        if not stat.S_ISDIR(path.lstat().st_mode):
            return path.lstat().st_size
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                else:
                    with contextlib.suppress(OSError):
                        total += entry.stat(follow_symlinks=False).st_size
    return total


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file, or nothing."""
    with appearing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: object) -> None:
    """Write a whole JSON file, or nothing."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(content: bytes) -> str:
    """Return the hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------------------------- digests computed once


@dataclass(frozen=True)
class Written:
    """The size and digest of a file that was hashed while it was written."""

    bytes: int
    sha256: str


class Digests:
    """The SHA-256 of files, each computed only once while the file's inode, size and times stay the same.

    One process keeps them for one run; later processes hash the files again, so that damage on the disk is noticed.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], str] = {}

    def of(self, path: Path) -> str:
        """Return the digest of a file."""
        same = identity(path)  # taken before reading: if the file changes meanwhile, it is read again next time
        if same not in self._known:
            self._known[same] = sha256(path)
        return self._known[same]

    def note(self, path: Path, written: Written) -> None:
        """Store the digest of a file that was hashed while it was written. Raises StoreError if its size differs."""
        same = identity(path)
        if path.stat().st_size != written.bytes:
            raise StoreError(f"{path} changed while it was written: it should have {written.bytes} bytes; run again")
        self._known[same] = written.sha256


def identity(path: Path) -> tuple[int, ...]:
    """Return a file's device, inode, size and times, some of which change whenever its content does."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Overwriting:
    """Overwrites parts of an existing file and hashes the whole file in the same pass; `overwriting` opens one.

    Parts are written from front to back, and the bytes between them are read from the file. A part out of order is
    written too, but then the whole file is read again at the end. A thread computes the hash.
    """

    WAITING = 2
    """At most so many written parts wait to be hashed: a part's memory must not change before as many have followed."""

    def __init__(self, path: Path, file: BinaryIO, hasher: ThreadPoolExecutor) -> None:
        self._path, self._file, self._hasher = path, file, hasher
        self._sha, self._waiting = hashlib.sha256(), deque[Future[None]]()
        self._end, self._in_order = 0, True

    def write(self, offset: int, part: memoryview) -> None:
        """Write bytes at an offset."""
        self._in_order = self._in_order and offset >= self._end
        if self._in_order:
            self._hash_file(offset)
            self._hash(part)
        self._file.seek(offset)
        self._file.write(part)
        self._end = offset + part.nbytes

    def finish(self) -> Written:
        """Return the size and digest of the whole file."""
        self._file.flush()
        size = self._path.stat().st_size
        if not self._in_order:
            return Written(size, sha256(self._path))
        self._hash_file(size)
        while self._waiting:
            self._waiting.popleft().result()
        return Written(self._end, self._sha.hexdigest())

    def _hash_file(self, end: int) -> None:
        """Hash the bytes of the file between the last part and an offset."""
        self._file.seek(self._end)
        while self._end < end and (content := self._file.read(min(1 << 20, end - self._end))):
            self._hash(memoryview(content))
            self._end += len(content)

    def _hash(self, part: memoryview) -> None:
        while len(self._waiting) >= self.WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._hasher.submit(self._sha.update, part))


@contextlib.contextmanager
def overwriting(path: Path) -> Iterator[Overwriting]:
    """Open an existing file to overwrite parts of it and hash it in the same pass."""
    with path.open("r+b") as file, ThreadPoolExecutor(1) as hasher:
        yield Overwriting(path, file, hasher)
