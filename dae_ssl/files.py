"""Files that appear whole or not at all, and vanish the same way; and the SHA-256 by which they are told apart."""

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
"""The name of what a process writes or removes: the name it is for, the process, and what no other has."""


class StoreError(RuntimeError):
    """The store cannot give or take something; the message is one line that says what and what to do."""


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a full, read-only or forbidden disk into one line that says what to do."""
    try:
        yield
    except OSError as error:
        advice = {
            28: "the disk is full: free space, or name another store or file; nothing finished was lost",
            122: "the disk quota is used up: free space, or name another store or file; nothing finished was lost",
            30: "the file system is read-only: name a store or file that can be written",
            13: "permission denied: name a store or file that you can write",
            36: "the name is too long: choose a shorter one",
        }.get(error.errno or 0, error.strerror or str(error))
        raise StoreError(f"cannot write {error.filename or path}: {advice}") from error


def require_replaceable(path: Path) -> None:
    """Raise StoreError for what a file cannot take the place of: a folder, a device, a pipe, a name that cannot be."""
    with explained(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            return
    if not stat.S_ISREG(mode):
        raise StoreError(f"cannot write {path}: it is there and no regular file: name another file")


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it is synced to disk and renamed, on failure removed.

    Raises StoreError, before anything is written, where something other than a file has the name.
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
        with contextlib.suppress(OSError):  # a read-only file system refuses even to look, and would hide the reason
            temporary.unlink(missing_ok=True)


def beside(path: Path) -> Path:
    """Return a path in the same folder that nothing has, by whose name it is known what a killed process left."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")


def discard(path: Path, still: Callable[[], bool] = lambda: True) -> bool:
    """Remove a file, a link, or a folder with all that is in it, at once for whoever looks for its name.

    `still` is asked when nobody can come to it any more: if it is not to be removed after all it is put back, and False
    returned. Links are never followed. Raises StoreError for what cannot be removed.
    """
    with explained(path):
        aside = path.rename(beside(path))
        if not still():
            with contextlib.suppress(OSError):  # somebody made it anew meanwhile, and this is no longer missed
                aside.rename(path)
                return False
        delete(aside)
    return True


def delete(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it, which nobody else uses; links are never followed."""
    with explained(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def weight(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder and below; links are not followed.

    What vanishes while it is looked at, or may not be looked at, counts nothing.
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


# ---------------------------------------------------------------------------------- digests that are known already


@dataclass(frozen=True)
class Written:
    """What a file that was hashed while it was written holds."""

    bytes: int
    sha256: str


class Digests:
    """The SHA-256 of files, each computed once for as long as the file is the same: its inode, size and times.

    Held by one process for one run: whoever comes later reads anew what a disk gives back.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], str] = {}

    def of(self, path: Path) -> str:
        """Return the digest of a file."""
        same = identity(path)  # as it was before it is read: if it changes meanwhile, it is read again next time
        if same not in self._known:
            self._known[same] = sha256(path)
        return self._known[same]

    def note(self, path: Path, written: Written) -> None:
        """Take over the digest of a file that was hashed while it was written. Raises StoreError for another size."""
        same = identity(path)
        if path.stat().st_size != written.bytes:
            raise StoreError(f"{path} changed while it was written: it should have {written.bytes} bytes; run again")
        self._known[same] = written.sha256


def identity(path: Path) -> tuple[int, ...]:
    """Return what changes with a file's content: where it is, its size and its times."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Overwriting:
    """Fills in a file that is laid out already, and hashes all of it on the way; `overwriting` makes one.

    Parts come from front to back, and what lies between them is read from the file. A part that comes too late is
    written all the same, and costs reading the whole file in the end. Hashing is done by a thread.
    """

    WAITING = 2
    """Parts at most that are written and not yet hashed: a part must not change before that many others came."""

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
        """Return what the file holds now."""
        self._file.flush()
        size = self._path.stat().st_size
        if not self._in_order:
            return Written(size, sha256(self._path))
        self._hash_file(size)
        while self._waiting:
            self._waiting.popleft().result()
        return Written(self._end, self._sha.hexdigest())

    def _hash_file(self, end: int) -> None:
        """Hash what the file has between the last part and an offset."""
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
    """Open a file that is there to be filled in and hashed at once."""
    with path.open("r+b") as file, ThreadPoolExecutor(1) as hasher:
        yield Overwriting(path, file, hasher)
