"""Where things are: nodes under their keys, atomic commits and validation. The one module that knows file names.

    STORE/data/NAME/            a prepared data set
    STORE/STAGE/KEY/            a node: its products, its log, and `record.json` once it is done
    STORE/cells/KEY/            a cell: its settings and nodes, its report
    STORE/experiments/NAME/     the report of an experiment: page, figures, tables
    STORE/launches/NAME/        a submission: what was meant to be sent, what was sent, what came of it
    STORE/snapshots/DIGEST/     the code that a submission runs
    STORE/trials/               how long a step of training takes where
    STORE/compiled/             what torch.compile made of training steps, found again by later processes

What a process is about to write or to remove is called `.NAME.PID.HEX` beside the name that it is for.
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
"""In a record: products that the node had and has no more, since it was brought here from another store without them,
or since they were dropped to free their room."""
SCORES = "figures"
"""In a record: the numbers that were measured, by name."""
LOCK = "lock"
LOG = "log.jsonl"
STATE = "state"

NETWORKS = "networks.safetensors"
"""All networks of a training as they were in the end; `networks.pt` while these were PyTorch files."""
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


@dataclass(frozen=True)
class Store:
    """A folder of finished nodes, shared by every process and host that computes into it."""

    root: Path

    def __post_init__(self) -> None:
        """Raise StoreError for a name that no folder can have; whether there is one shows when it is used."""
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
        """Return the folder of a prepared data set, which has a name for a key."""
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

    def snapshot(self, digest: str) -> "Folder":
        """Return the folder of the code that submissions run."""
        return Folder(self.root / "snapshots" / digest)

    def snapshots(self) -> list["Folder"]:
        """Return every copy of the code."""
        return [Folder(path) for path in _visible(self.root / "snapshots") if path.is_dir()]

    def keys(self, stage: str) -> set[str]:
        """Return the keys of all nodes of a stage that were ever begun."""
        folder = self.root / stage
        names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208  (tens of thousands)
        return {name for name in names if not name.startswith(".")}

    def data_names(self) -> list[str]:
        """Return the names of the prepared data sets."""
        return [path.parent.name for path in sorted((self.root / "data").glob(f"*/{RECORD}"))]


def _visible(folder: Path) -> list[Path]:
    """Return what is in a folder, in order, without what a process is about to write or to remove."""
    return sorted(path for path in folder.glob("*") if not path.name.startswith("."))


@dataclass(frozen=True)
class Folder:
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
        """Remove everything but the lock, which the caller holds; the record first, so that nothing looks done."""
        (self.path / RECORD).unlink(missing_ok=True)
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name.lstrip(".").partition(".")[0] != LOCK:
                path.unlink(missing_ok=True)

    def verify(self, digests: Digests | None = None) -> dict[str, Any]:
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

    def commit(self, facts: Mapping[str, Any], digests: Digests | None = None) -> dict[str, Any]:
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
