"""Where things are: nodes under their keys, atomic commits and validation. The one module that knows file names.

    STORE/data/NAME/            a prepared data set
    STORE/STAGE/KEY/            a node: its products, its log, and `record.json` once it is done
    STORE/cells/KEY/            a cell: its settings and nodes, its report
    STORE/experiments/NAME/     the report of an experiment: page, figures, tables
    STORE/launches/NAME/        a submission: what was meant to be sent, what was sent, what came of it
    STORE/snapshots/DIGEST/     the code that a submission runs
    STORE/trials/               how long a step of training takes where
    STORE/compiled/             what torch.compile made of training steps, found again by later processes

A node is done when `record.json`, written last, names the SHA-256 of every product and they match.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

RECORD = "record.json"
LEFT_BEHIND = "left_behind"
"""In a record: products of a node that was brought here from another store without them."""
LOCK = "lock"
LOG = "log.jsonl"
STATE = "state"

NETWORKS = "networks.pt"
FEATURES = "features.h5"
PROBE = "probe.json"
CORRECT = "correct.npz"
"""Which test images each classifier got right, for paired statistics."""
KMEANS = "kmeans.json"
CELL = "cell.json"
REPORT = "report.html"
LAUNCH = "launch.json"
OUTCOMES = "outcomes.jsonl"
"""How each attempt at a task of a submission ended, a line each, appended by its batch script."""


def encoder_name(epoch: int) -> str:
    """Return the product that holds the encoder as it was after an epoch; 0 is before the first."""
    return f"encoder-epoch{epoch:04d}.safetensors"


def encoder_names(epoch: int) -> tuple[str, ...]:
    """Return every name that product may have: today's, and the one it had while encoders were PyTorch files."""
    return encoder_name(epoch), f"encoder-epoch{epoch:04d}.pt"


def encoder_epoch(name: str) -> int | None:
    """Return the epoch of an encoder's product, or None for another product."""
    match = re.fullmatch(r"encoder-epoch(\d{4,9})\.(?:safetensors|pt)", name, re.ASCII)
    return int(match[1]) if match else None


def pictures_name(epoch: int) -> str:
    """Return the product that holds example pictures, as arrays, of the networks after an epoch."""
    return f"pictures-epoch{epoch:04d}.npz"


class StoreError(RuntimeError):
    """The store cannot give or take something; the message is one line that says what and what to do."""


@dataclass(frozen=True)
class Store:
    """A folder of finished nodes, shared by every process and host that computes into it."""

    root: Path

    def __post_init__(self) -> None:
        """Raise StoreError for a name that no folder can have; whether there is one shows when it is used."""
        with explained(self.root), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self.root.stat()

    def node(self, stage: str, key: str) -> "Node":
        """Return the node of a stage; nothing is created until it is written to."""
        return Node(self.root / stage / key)

    def data(self, name: str) -> "Node":
        """Return the node of a prepared data set, which has a name for a key."""
        return Node(self.root / "data" / name)

    def cell(self, key: str) -> "Node":
        """Return the folder of a cell's description and report."""
        return Node(self.root / "cells" / key)

    def cells(self) -> list["Node"]:
        """Return every cell that was ever described in this store."""
        return [Node(path) for path in sorted((self.root / "cells").glob("*")) if path.is_dir()]

    def launch(self, name: str) -> "Node":
        """Return the folder of a submission."""
        return Node(self.root / "launches" / name)

    def launches(self) -> list["Node"]:
        """Return every submission from this store, oldest first."""
        return [Node(path.parent) for path in sorted((self.root / "launches").glob(f"*/{LAUNCH}"))]

    def page(self, experiment: str) -> Path:
        """Return the report page of an experiment; its figures and tables lie beside it."""
        return self.root / "experiments" / experiment / REPORT

    @property
    def launching(self) -> Path:
        """The lock that is held by the one process that submits."""
        return self.root / "launches" / LOCK

    @property
    def trials(self) -> Path:
        """The folder of short timed runs."""
        return self.root / "trials"

    @property
    def compiled(self) -> Path:
        """The folder of compiled training steps."""
        return self.root / "compiled"

    def snapshot(self, digest: str) -> "Node":
        """Return the folder of the code that submissions run."""
        return Node(self.root / "snapshots" / digest)

    def keys(self, stage: str) -> set[str]:
        """Return the keys of all nodes of a stage that were ever begun."""
        folder = self.root / stage
        return set(os.listdir(folder)) if folder.is_dir() else set()  # noqa: PTH208  (names of tens of thousands)

    def data_names(self) -> list[str]:
        """Return the names of the prepared data sets."""
        return [path.parent.name for path in sorted((self.root / "data").glob(f"*/{RECORD}"))]


@dataclass(frozen=True)
class Node:
    """One folder of the store."""

    path: Path

    @property
    def key(self) -> str:
        """The name it is stored under."""
        return self.path.name

    @property
    def log(self) -> Path:
        """The append-only log."""
        return self.path / LOG

    @property
    def lock(self) -> Path:
        """The lock file, present while a process computes the node."""
        return self.path / LOCK

    @property
    def states(self) -> Path:
        """The folder of rolling checkpoints, removed when the node is committed."""
        return self.path / STATE

    def product(self, name: str) -> Path:
        """Return the path of a product, written or not."""
        return self.path / name

    def create(self) -> None:
        """Make the folder. Raises StoreError when the store cannot be written."""
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def remove_leftovers(self) -> None:
        """Remove temporary files of processes that were killed; only the holder of the lock may."""
        for path in self.path.glob(".*"):
            if path.is_file() and not path.name.startswith(f".{LOCK}."):
                path.unlink(missing_ok=True)

    def record(self) -> dict[str, Any] | None:
        """Return the commit record if there is one and every product has its recorded size, else None."""
        try:
            record = json.loads((self.path / RECORD).read_text())
            for name, product in record["products"].items():
                if (self.path / name).stat().st_size != product["bytes"]:
                    return None
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        return dict(record)

    def clear(self) -> None:
        """Remove everything but the lock, which the caller holds; the record first, so that nothing looks done."""
        (self.path / RECORD).unlink(missing_ok=True)
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name.lstrip(".").partition(".")[0] != LOCK:
                path.unlink(missing_ok=True)

    def verify(self, digests: "Digests | None" = None) -> dict[str, Any]:
        """Return the commit record after hashing every product that `digests` do not know to be as it was.

        Raises StoreError if the node is not done, or a product is another than was committed.
        """
        digests, record = digests or Digests(), self.record()
        if record is None:
            raise StoreError(f"{self.path} is not finished: run its cell again, which computes what is missing")
        for name, product in record["products"].items():
            if digests.of(self.path / name) != product["sha256"]:
                raise StoreError(f"{self.path / name} changed since it was committed: delete {self.path} and run again")
        return record

    def commit(self, facts: Mapping[str, Any], digests: "Digests | None" = None) -> dict[str, Any]:
        """Hash every product, then write the record that makes the node done; rolling checkpoints are removed after.

        `facts` is what else the record says: settings, versions, device, seconds. What `digests` know is not hashed.
        """
        keep_out, digests = {RECORD, LOCK, LOG}, digests or Digests()
        products = {}
        with explained(self.path):
            for path in sorted(self.path.iterdir()):
                if path.is_file() and path.name not in keep_out and not path.name.startswith("."):
                    products[path.name] = {"bytes": path.stat().st_size, "sha256": digests.of(path)}
            record = dict(facts) | {"products": products}
            write_json(self.path / RECORD, record)
            shutil.rmtree(self.states, ignore_errors=True)
        return record


def products_digest(record: Mapping[str, Any]) -> str:
    """Return what tells the products of one commit from those of another, wherever they are."""
    every = record["products"] | record.get(LEFT_BEHIND, {})
    named = sorted((name, product["sha256"]) for name, product in every.items())
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


# ---------------------------------------------------------------------------------- files appear whole or not at all


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
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
