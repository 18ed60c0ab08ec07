"""The disk space of a store: how much each kind takes, what the described cells need, and dropping features.

Features are the largest product of a cell, 983 MB for 60,000 images, and only a cache: what is computed from them is
small, and they are computed again, the same to the byte, if another stage needs them later.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dae_ssl import config
from dae_ssl.compute.done import done
from dae_ssl.files import delete, explained, weight, write_json
from dae_ssl.lock import held
from dae_ssl.store import CELL, FEATURES, LEFT_BEHIND, RECORD, Folder, Store

READERS = tuple(stage for stage, parent in config.PARENTS.items() if parent == "features")
"""The stages that read features."""
KEY = re.compile(r"[0-9a-f]{16}")
SPARE_BYTES = 10 * 10**9
"""The bytes that a run leaves free on a disk in addition to the features that it keeps."""
UNITS = {10**12: "TB", 10**9: "GB", 10**6: "MB", 10**3: "kB"}


def said(size: float) -> str:
    """Return a number of bytes in readable form, such as `983 MB`."""
    unit = next((unit for unit in UNITS if abs(size) >= unit), None)
    return f"{size:.0f} bytes" if unit is None else f"{size / unit:.3g} {UNITS[unit]}"


def shown(name: object) -> str:
    """Return a name that is safe to print on a terminal, whatever characters it has."""
    return str(name) if str(name).isprintable() else ascii(str(name))


def free(store: Store) -> int:
    """Return the free bytes on the disk of a store, which need not exist yet; quotas are not considered."""
    existing = next(folder for folder in (store.root.absolute(), *store.root.absolute().parents) if folder.exists())
    with explained(existing):
        return shutil.disk_usage(existing).free


def plain(path: Path, store: Store) -> bool:
    """Return whether no part of a path below the root of a store is a link, so that it is safe to remove."""
    below = [part for part in (path, *path.parents) if store.root in part.parents]
    return not any(part.is_symlink() for part in below)


# ---------------------------------------------------------------------------------- what the described cells need


Nodes = Mapping[str, str]
"""The key of each stage's node of a cell."""


class Descriptions:
    """The nodes that the described cells of a store need; `look` reads descriptions that were added since."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.cells: dict[str, Nodes] = {}
        """The nodes of each cell, by the cell's key."""
        self.damaged: set[str] = set()
        """The keys of cells whose descriptions cannot be read, which may need any node."""
        self.look()

    def look(self) -> None:
        """Read new descriptions and forget removed ones. Raises StoreError if the folder cannot be read."""
        folder = self.store.root / "cells"
        with explained(folder):
            paths = folder.iterdir() if folder.is_dir() else ()
            folders = {path.name: path for path in paths if not path.name.startswith(".")}
        self.cells = {key: nodes for key, nodes in self.cells.items() if key in folders}
        self.damaged = set()
        for key in folders.keys() - self.cells.keys():
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # it has no description, or not yet
                try:
                    self.cells[key] = _nodes(folders[key] / CELL)
                except ValueError:
                    self.damaged.add(key)

    def named(self) -> dict[tuple[str, str], list[str]]:
        """Return the keys of the cells that need each node, by the node's stage and key."""
        users: dict[tuple[str, str], list[str]] = {}
        for cell, nodes in self.cells.items():
            for id in nodes.items():
                users.setdefault(id, []).append(cell)
        return users

    def readers(self) -> dict[str, list[Nodes]]:
        """Return the nodes of all cells that have the same features, by the key of these."""
        readers: dict[str, list[Nodes]] = {}
        for nodes in self.cells.values():
            if "features" in nodes:
                readers.setdefault(nodes["features"], []).append(nodes)
        return readers

    def all_read(self, readers: list[Nodes]) -> bool:
        """Return whether every node that reads some features is done, given the nodes of all cells that have these."""
        return bool(readers) and not self.damaged and all(map(self._read, readers))

    def _read(self, nodes: Nodes) -> bool:
        parents = {stage: parent if (parent := config.PARENTS.get(stage)) in nodes else None for stage in nodes}
        records = {stage: self.store.node(stage, key).record() for stage, key in nodes.items()}
        committed = {stage: record for stage, record in records.items() if record is not None}
        return nodes.keys() & set(READERS) <= done(parents, committed, lambda _stage, _parent: False)


def _nodes(path: Path) -> Nodes:
    """Return the nodes that a description names, parents first. Raises ValueError if it is not a description."""
    try:
        nodes = json.loads(path.read_bytes())["nodes"]
        keys = {stage: nodes[stage] for stage in config.STAGES if stage in nodes}
        good = keys.keys() == nodes.keys() and bool(keys) and all(KEY.fullmatch(key) for key in keys.values())
    except (KeyError, TypeError, AttributeError, IsADirectoryError, PermissionError) as error:
        raise ValueError(str(error)) from error
    if not good:
        raise ValueError(f"no nodes: {nodes}")
    return keys


# ---------------------------------------------------------------------------------- dropping features


def keeps_features(asked: bool | None, store: Store, budget: float | None, needed: int = 0) -> bool:
    """Return whether a run on this machine keeps features that no node reads any more.

    asked: what the run's profile says. If that is None, features are dropped if the run has a budget of minutes, or if
    the disk has less room than the bytes that are `needed` and SPARE_BYTES.
    """
    return asked if asked is not None else budget is None and free(store) >= needed + SPARE_BYTES


def drop_features(key: str, described: Descriptions) -> int:
    """Remove features if all nodes that read them, of all described cells, are done; return the freed bytes.

    The node stays done. Its record names them as left behind before they are removed, so that at every moment they
    either exist or are known to be missing, also for a process that describes a cell and then looks for them. Raises
    Locked while the node is computed, StoreError if the disk cannot be written.
    """
    node = described.store.node("features", key)
    described.look()
    if not droppable(node, described, described.readers().get(key, [])):
        return 0
    with held(node.lock, wait=False):
        record, path = node.record(), node.product(FEATURES)
        if record is None:
            return 0
        if FEATURES in record["products"]:
            write_json(node.product(RECORD), _without(record, FEATURES))
            described.look()
            if not described.all_read(described.readers().get(key, [])):  # a reader was described just now
                write_json(node.product(RECORD), record)
                return 0
        freed = weight(path)
        delete(path)
        return freed


def droppable(node: Folder, described: Descriptions, readers: list[Nodes]) -> bool:
    """Return whether a node has features that can be dropped, given the nodes of all cells that have these."""
    path = node.product(FEATURES)
    return path.is_file() and plain(path, described.store) and node.record() is not None and described.all_read(readers)


def _without(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a copy of a record that names a product as left behind."""
    products = dict(record["products"])
    left = record.get(LEFT_BEHIND, {}) | {name: products.pop(name)}
    return dict(record) | {"products": products, LEFT_BEHIND: left}


# ---------------------------------------------------------------------------------- what a store holds


@dataclass
class Held:
    """The number of things of one kind in a store, and their size."""

    count: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        self.count, self.bytes = self.count + 1, self.bytes + size


KINDS = {"data": "data sets", "cells": "cells and pages", "experiments": "cells and pages", "launches": "submissions",
         "snapshots": "snapshots of the code", "compiled": "compiled steps"}  # fmt: skip
"""What the folders of a store other than those of nodes hold."""
STATES, ELSE = "rolling states", "all else"


def holds(store: Store) -> dict[str, Held]:
    """Return what a store holds, by kind; links are not followed."""
    kinds: dict[str, Held] = {}
    for stage in config.STAGES:
        for key in store.keys(stage):
            node = store.node(stage, key)
            size, states = weight(node.path), weight(node.states) if stage == "pretrain" else 0
            kinds.setdefault(stage, Held()).add(size - states)
            if states:
                kinds.setdefault(STATES, Held()).add(states)
    for name in sorted(os.listdir(store.root)) if store.root.is_dir() else ():  # noqa: PTH208
        if name not in config.STAGES:
            of_kind = kinds.setdefault(KINDS.get(name, ELSE), Held())
            for path in _inside(store.root / name):
                of_kind.add(weight(path))
    return kinds


def _inside(path: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return list(path.iterdir()) if path.is_dir() and not path.is_symlink() else [path]
    return []


def lines(store: Store) -> list[str]:
    """Return two lines for the user: what a store holds, and how much is free on its disk."""
    kinds = holds(store)
    parts = [f"{kind} {said(held.bytes)} ({held.count})" for kind, held in _largest_first(kinds) if held.bytes]
    total = sum(held.bytes for held in kinds.values())
    return [f"{store.root} holds {said(total)}" + (f": {', '.join(parts)}" if parts else ""),
            f"{said(free(store))} are free on its disk"]  # fmt: skip


def _largest_first(kinds: Mapping[str, Held]) -> list[tuple[str, Held]]:
    return sorted(kinds.items(), key=lambda item: -item[1].bytes)
