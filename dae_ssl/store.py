"""The layout of a store: nodes under their keys, atomic commits and validation. No other module knows file names.

    STORE/data/NAME/            a prepared data set
    STORE/STAGE/KEY/            a node: its products, its log, and `record.json` once it is done
    STORE/cells/KEY/            a cell: its settings and nodes, its report
    STORE/experiments/NAME/     the report of an experiment: page, figures, tables
    STORE/launches/NAME/        a submission: its plan, the jobs it sent, and how its tasks ended
    STORE/snapshots/DIGEST/     the code that a submission runs
    STORE/trials/               short timed runs: the seconds of a training step on each device
    STORE/compiled/             the cache of torch.compile, which later processes share

While a process writes or removes NAME, its temporary name is `.NAME.PID.HEX` in the same folder.
A node is done when `record.json`, written last, names the SHA-256 of every product and they match.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dae_ssl.files import Digests, StoreError, explained, write_json

RECORD = "record.json"
LEFT_BEHIND = "left_behind"
"""The field of a record that lists products the node no longer has, because it was loaded from a file of results
without them, or because they were dropped to free disk space."""
SCORES = "figures"
"""The field of a record that holds the measured scores, by name."""
LOCK = "lock"
LOG = "log.jsonl"
STATE = "state"

NETWORKS = "networks.safetensors"
"""All networks after the last epoch of a training; older stores have PyTorch files, `networks.pt`."""
FEATURES = "features.h5"
PROBE = "probe.json"
CORRECT = "correct.npz"
"""Which test images each classifier predicts correctly, for paired statistics."""
KMEANS = "kmeans.json"
CELL = "cell.json"
REPORT = "report.html"
LAUNCH = "launch.json"
OUTCOMES = "outcomes.jsonl"
"""How each attempt at a task of a submission ended: the batch script appends one line for each."""


def encoder_name(epoch: int) -> str:
    """Return the file name of the encoder after an epoch; epoch 0 is before training."""
    return f"encoder-epoch{epoch:04d}.safetensors"


def encoder_names(epoch: int) -> tuple[str, ...]:
    """Return both file names of an encoder: today's, and the one from when encoders were PyTorch files."""
    return encoder_name(epoch), f"encoder-epoch{epoch:04d}.pt"


def encoder_epoch(name: str) -> int | None:
    """Return the epoch in an encoder's file name, or None for any other product."""
    match = re.fullmatch(r"encoder-epoch(\d{4,9})\.(?:safetensors|pt)", name, re.ASCII)
    return int(match[1]) if match else None


def pictures_name(epoch: int) -> str:
    """Return the file name of the example pictures, as arrays, of the networks after an epoch."""
    return f"pictures-epoch{epoch:04d}.npz"


@dataclass(frozen=True)
class Store:
    """A folder of finished nodes, shared by every process and host that computes into it."""

    root: Path

    def __post_init__(self) -> None:
        """Raise StoreError for a name that no folder can have; the folder itself need not exist."""
        with explained(self.root), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self.root.stat()

    @classmethod
    def of(cls, store: "Store | Path | str") -> "Store":
        """Return a store as it is, or the one in a folder that is named by its path."""
        return store if isinstance(store, Store) else cls(Path(store))

    def node(self, stage: str, key: str) -> "Folder":
        """Return the folder of a node; nothing is created until it is written to."""
        return Folder(self.root / stage / key)

    def data(self, name: str) -> "Folder":
        """Return the folder of a prepared data set, whose key is its name."""
        return Folder(self.root / "data" / name)

    def cell(self, key: str) -> "Folder":
        """Return the folder of a cell's description and report."""
        return Folder(self.root / "cells" / key)

    def cells(self) -> list["Folder"]:
        """Return every cell that was ever described in this store."""
        return [Folder(path) for path in _visible(self.root / "cells") if path.is_dir()]

    def launch(self, name: str) -> "Folder":
        """Return the folder of a submission."""
        return Folder(self.root / "launches" / name)

    def launches(self) -> list["Folder"]:
        """Return every submission from this store, oldest first."""
        return [Folder(path) for path in _visible(self.root / "launches") if (path / LAUNCH).exists()]

    def page(self, experiment: str) -> Path:
        """Return the report page of an experiment; its figures and tables are in the same folder."""
        return self.root / "experiments" / experiment / REPORT

    @property
    def launching(self) -> Path:
        """The lock that a process holds while it submits, so that only one submits at a time."""
        return self.root / "launches" / LOCK

    @property
    def trials(self) -> Path:
        """The folder of short timed runs."""
        return self.root / "trials"

    @property
    def compiled(self) -> Path:
        """The folder of compiled training steps."""
        return self.root / "compiled"

    def snapshot(self, digest: str) -> "Folder":
        """Return the folder of one snapshot of the code."""
        return Folder(self.root / "snapshots" / digest)

    def snapshots(self) -> list["Folder"]:
        """Return the folder of every snapshot of the code."""
        return [Folder(path) for path in _visible(self.root / "snapshots") if path.is_dir()]

    def keys(self, stage: str) -> set[str]:
        """Return the keys of all nodes of a stage that have a folder, finished or not."""
        folder = self.root / stage
        names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208  (tens of thousands)
        return {name for name in names if not name.startswith(".")}

    def data_names(self) -> list[str]:
        """Return the names of the prepared data sets."""
        return [path.parent.name for path in sorted((self.root / "data").glob(f"*/{RECORD}"))]


def _visible(folder: Path) -> list[Path]:
    """Return the paths in a folder, sorted, without those that have temporary names."""
    return sorted(path for path in folder.glob("*") if not path.name.startswith("."))


@dataclass(frozen=True)
class Folder:
    """One folder of the store."""

    path: Path

    @property
    def key(self) -> str:
        """The key: the name of the folder."""
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
        """Create the folder. Raises StoreError if the store cannot be written."""
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def remove_leftovers(self) -> None:
        """Remove temporary files of killed processes; the caller must hold the lock."""
        for path in self.path.glob(".*"):
            if path.is_file() and not path.name.startswith(f".{LOCK}."):
                path.unlink(missing_ok=True)

    def record(self) -> dict[str, Any] | None:
        """Return the commit record if it exists and every product has its recorded size; None otherwise."""
        try:
            record = json.loads((self.path / RECORD).read_text())
            folder = str(self.path)  # a plan asks for the sizes of tens of thousands of files
            for name, product in record["products"].items():
                if os.stat(f"{folder}/{name}").st_size != product["bytes"]:  # noqa: PTH116
                    return None
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        return dict(record)

    def clear(self) -> None:
        """Remove all but the lock, which the caller holds; the record goes first, so that the node never looks done."""
        (self.path / RECORD).unlink(missing_ok=True)
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name.lstrip(".").partition(".")[0] != LOCK:
                path.unlink(missing_ok=True)

    def verify(self, digests: Digests | None = None) -> dict[str, Any]:
        """Return the commit record after comparing every product's SHA-256; `digests` spares hashing unchanged files.

        Raises StoreError if the node is not done, or if a product differs from the committed one.
        """
        digests, record = digests or Digests(), self.record()
        if record is None:
            raise StoreError(f"{self.path} is not finished: run its cell again, which computes what is missing")
        for name, product in record["products"].items():
            if digests.of(self.path / name) != product["sha256"]:
                raise StoreError(f"{self.path / name} changed since it was committed: delete {self.path} and run again")
        return record

    def commit(self, facts: Mapping[str, Any], digests: Digests | None = None) -> dict[str, Any]:
        """Hash every product, write the record that makes the node done, then remove the rolling checkpoints.

        `facts` are the record's other fields: settings, versions, device, seconds. `digests` spares hashing the files
        that it knows.
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
    """Return a digest of the names and hashes of all products of a commit, present or left behind."""
    every = record["products"] | record.get(LEFT_BEHIND, {})
    named = sorted((name, product["sha256"]) for name, product in every.items())
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()
