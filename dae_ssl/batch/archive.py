"""Finished nodes <-> a file of numbers: what was measured, with where it comes from, without weights and features.

A line of JSON for each cell, then for each node: its commit record with figures, versions, device and seconds; and
its log and its small products, compressed. Loaded into another store such a node counts as done, since its numbers are
there; its record names what was left behind, and it is computed again only if something is to be read from that.
Encoders travel beside the file, in a folder that `encoders` knows.
"""

import base64
import contextlib
import json
import lzma
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dae_ssl import config, store
from dae_ssl.batch import cells, done
from dae_ssl.config import Cell, ConfigError
from dae_ssl.lock import Locked, held
from dae_ssl.store import (
    Node,
    Store,
    StoreError,
    explained,
    identity,
    products_digest,
    require_replaceable,
    write_bytes,
    write_json,
)

BROUGHT = (store.PROBE, store.CORRECT, store.KMEANS)
"""Products that are numbers."""


class ArchiveError(StoreError):
    """A file of results that cannot be read or trusted; the message is one line with the place and the reason."""


@dataclass
class Archive:
    """The lines of a file of results."""

    cells: dict[str, dict[str, Any]]
    """Settings by the cell's key."""
    nodes: dict[tuple[str, str], dict[str, Any]]
    """Record, log and products by stage and key."""

    @classmethod
    def read(cls, path: Path) -> "Archive":
        """Read a file, or nothing where there is none yet. Raises ArchiveError for what is not such a file."""
        found = cls({}, {})
        if not path.exists():
            return found
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ArchiveError(f"{path} is no file of results: {error}") from error
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                if "cell" in entry:
                    found.cells[str(entry["cell"])] = dict(entry["settings"])
                else:
                    _check(entry)
                    found.nodes[entry["stage"], entry["key"]] = entry
            except (ValueError, KeyError, TypeError, lzma.LZMAError) as error:
                raise ArchiveError(f"{path}, line {number}: no result, or a damaged one: {_reason(error)}") from error
        return found

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all; the same results give the same bytes."""
        entries = [{"cell": key, "settings": settings} for key, settings in sorted(self.cells.items())]
        entries += [entry for _, entry in sorted(self.nodes.items(), key=lambda item: (_order(item[0][0]), item[0][1]))]
        lines = (json.dumps(entry, sort_keys=True, ensure_ascii=False, allow_nan=False) for entry in entries)
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, "".join(f"{line}\n" for line in lines).encode())

    def add(self, wanted: Iterable[Cell], place: Store, *, pictured: Iterable[Cell] = ()) -> int:
        """Take what a store has done of some cells, and return how many nodes are new or others than before.

        Of `pictured` cells also the example pictures of the last epoch are taken. The store's node takes the place of
        one in the file that has other products or fewer of them, so that children never stand beside a parent that
        they were not made from.
        """
        with_pictures = {config.key(cell, "pretrain") for cell in pictured}
        changed = 0
        for cell in wanted:
            known = done.records(cell, place)
            if known:
                self.cells[config.cell_key(cell)] = config.settings(cell)
            for stage, record in known.items():
                node = place.node(stage, config.key(cell, stage))
                more = (store.pictures_name(cell.optimisation.epochs),) if node.key in with_pictures else ()
                entry = _packed(stage, node, record, (*BROUGHT, *more))
                if _tells_more(entry, self.nodes.get((stage, node.key))):
                    self.nodes[stage, node.key] = entry
                    changed += 1
        return changed

    def load(self, place: Store) -> int:
        """Put every node that a store lacks into it, and return how many; what it has stays as it is."""
        for cell in self.described():
            cells.describe(cell, place)
        return sum(_unpack(entry, place.node(stage, key)) for (stage, key), entry in self.nodes.items())

    def described(self) -> list[Cell]:
        """Return the cells. Raises ArchiveError for one that this version does not know."""
        known = []
        for key, settings in self.cells.items():
            try:
                known.append(config.cell(settings))
            except ConfigError as error:
                raise ArchiveError(f"cell {key} is none that this version knows: {error}") from error
            if config.cell_key(known[-1]) != key:
                raise ArchiveError(f"cell {key} is not the key of its settings")
        return known

    def records(self, cell: Cell) -> dict[str, dict[str, Any]]:
        """Return the commit records of a cell's stages that count as done."""
        entries = {stage: self.nodes.get((stage, key)) for stage, key in config.keys(cell).items()}
        return done.counted(cell, {stage: entry["record"] for stage, entry in entries.items() if entry is not None})


class File:
    """A file of results that several commands may add to at the same time, none of which loses another's numbers.

    What it holds is kept in memory, and read again where another process has written the file since.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive = Archive({}, {})
        self._as_of: tuple[int, ...] | None = _ABSENT

    @contextlib.contextmanager
    def adding(
        self, wanted: Iterable[Cell], place: Store, *, pictured: Iterable[Cell] = ()
    ) -> Iterator[tuple[Archive, int]]:
        """Add what a store has done of some cells, and give all that the file holds and how many nodes are new.

        No other command adds to the file before the block has ended, which may write what lies beside it. Raises
        ArchiveError for a file of something else, StoreError for one that cannot be written.
        """
        require_replaceable(self.path)  # before it is read, for which a pipe would have it wait
        lock = self.path.with_name(f".{self.path.name}.lock")
        with held(lock, wait=True, tell=lambda _: print(f"waiting for {self.path}: another command adds to it")):
            if self._as_of is None or _as_of(self.path) != self._as_of:
                self._archive = Archive.read(self.path)
            self._as_of = None  # if it cannot be written, memory has more than the file, and is not to be trusted
            new = self._archive.add(wanted, place, pictured=pictured)
            self._archive.write(self.path)
            self._as_of = _as_of(self.path)
            yield self._archive, new


_ABSENT: tuple[int, ...] = ()


def _as_of(path: Path) -> tuple[int, ...]:
    """Return what tells whether another process has written a file since: nobody has while it is the same."""
    return identity(path) if path.exists() else _ABSENT


def _tells_more(entry: Mapping[str, Any], known: Mapping[str, Any] | None) -> bool:
    """Tell whether a node has other products than the known one, or other parents, or brings more of the same."""
    if known is None or products_digest(entry["record"]) != products_digest(known["record"]):
        return True
    if entry["record"].get("parent") != known["record"].get("parent"):
        return True
    return not entry["files"].keys() <= known["files"].keys()


def _reason(error: Exception) -> str:
    return str(error) if type(error) is ValueError else f"{type(error).__name__}, {error}"


def _order(stage: str) -> int:
    return config.STAGES.index(stage)


def _check(entry: Mapping[str, Any]) -> None:
    """Raise ValueError for a node that is not what it says: another key than its settings have, other bytes."""
    record, files = entry["record"], entry["files"]
    if entry["stage"] not in config.STAGES or entry["key"] != config.key_of(record["settings"]):
        raise ValueError(f"{entry['stage']} {entry['key']} is not the key of its settings")
    for name, packed in files.items():
        if Path(name).name != name or name.startswith(".") or name in (store.RECORD, store.LOCK):
            raise ValueError(f"{name} is no product's name")
        if name != store.LOG and store.sha256_of(_plain(packed)) != record["products"][name]["sha256"]:
            raise ValueError(f"{name} of {entry['stage']} {entry['key']} is not what its record names")
    for facts in (record["products"] | record.get(store.LEFT_BEHIND, {})).values():
        if not (isinstance(facts["bytes"], int) and isinstance(facts["sha256"], str)):
            raise ValueError(f"{entry['stage']} {entry['key']} names a product without its size and SHA-256")
    if missing := record["products"].keys() - files.keys():
        raise ValueError(f"{sorted(missing)[0]} of {entry['stage']} {entry['key']} is missing")


def _packed(stage: str, node: Node, record: Mapping[str, Any], brought: Iterable[str]) -> dict[str, Any]:
    """Return a node as an entry: its record names as left behind what is not brought."""
    known = record["products"] | record.get(store.LEFT_BEHIND, {})
    products = {name: product for name, product in record["products"].items() if name in brought}
    left = {name: product for name, product in known.items() if name not in products}
    files = {name: node.product(name).read_bytes() for name in products}
    if node.log.exists():
        files[store.LOG] = node.log.read_bytes()
    return {
        "stage": stage,
        "key": node.key,
        "record": dict(record) | {"products": products, store.LEFT_BEHIND: left},
        "files": {name: base64.b64encode(lzma.compress(content, preset=9)).decode() for name, content in files.items()},
    }


def _plain(packed: str) -> bytes:
    return lzma.decompress(base64.b64decode(packed, validate=True))


def _unpack(entry: Mapping[str, Any], node: Node) -> bool:
    """Write a node into a store, its record last; return False if it is there, begun or being computed."""
    node.create()
    try:
        with held(node.lock, wait=False):
            if node.record() is not None or node.states.exists():  # done, or begun here with a state to go on from
                return False
            node.clear()
            for name, packed in entry["files"].items():
                write_bytes(node.product(name), _plain(packed))
            write_json(node.product(store.RECORD), entry["record"])
    except Locked:
        return False
    return True
