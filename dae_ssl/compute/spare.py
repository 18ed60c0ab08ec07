"""What can be removed from a store because no cell needs it: only what is recognised, and nothing that is locked."""

import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dae_ssl import config
from dae_ssl.compute import disk
from dae_ssl.compute.disk import KEY, Descriptions
from dae_ssl.files import LEFTOVER, delete, discard, weight
from dae_ssl.lock import Locked, held, holder
from dae_ssl.store import FEATURES, Folder, Store

DAY = 24 * 3600.0
"""Seconds for which a temporary file without a lock is left alone, since it may still be in use."""
LEFTOVERS, STATES, COMPILED = "leftovers of killed processes", "rolling states of finished nodes", "compiled steps"
UNNAMED, DROPPED = "nodes that no cell described here needs", "features that all their readers have read"
HOUSEHOLD = ("cells", "experiments", "launches")
"""Folders of a store whose subfolders are not nodes; data sets are never removed."""


@dataclass(frozen=True)
class Spare:
    """Something in a store that no cell needs."""

    kind: str
    path: Path
    bytes: int
    free: Callable[[], int]
    """Removes it and returns the freed bytes, 0 if a cell needs it by now. Raises Locked or StoreError."""


def spare(store: Store, described: Descriptions) -> Iterator[Spare]:
    """Yield what no cell needs, small things first: dropping features on a full disk needs room for new records."""
    yield from _leftovers(store)
    named, readers = described.named(), described.readers()
    nodes = list(_free_nodes(store))
    known = may_tell(described)
    unnamed = [(stage, node) for stage, node in nodes if known and (stage, node.key) not in named]
    needed = [(stage, node) for stage, node in nodes if not known or (stage, node.key) in named]
    for _, node in needed:
        yield from _left_in(node)
        if node.states.is_dir() and not node.states.is_symlink() and node.record() is not None:
            yield Spare(STATES, node.states, weight(node.states), partial(_free_states, node))
    if store.compiled.is_dir() and not store.compiled.is_symlink() and not _training(store):
        yield Spare(COMPILED, store.compiled, weight(store.compiled), partial(_free_compiled, store))
    for stage, node in unnamed:
        yield Spare(UNNAMED, node.path, weight(node.path), partial(free_node, stage, node, described, ()))
    for stage, node in needed:
        if stage == "features" and disk.droppable(node, described, readers.get(node.key, [])):
            path = node.product(FEATURES)
            yield Spare(DROPPED, path, weight(path), partial(disk.drop_features, node.key, described))


def may_tell(described: Descriptions) -> bool:
    """Return whether it is known which nodes are needed: cells are described, and all descriptions can be read."""
    return bool(described.cells) and not described.damaged


def free_node(stage: str, node: Folder, described: Descriptions, leaving: Iterable[str]) -> int:
    """Remove a node unless a described cell, other than those `leaving`, needs it; return the freed bytes."""

    def unneeded() -> bool:
        described.look()
        return described.damaged | set(described.named().get((stage, node.key), ())) <= set(leaving)

    if not unneeded():
        return 0
    size = weight(node.path)
    with held(node.lock, wait=False):
        # `unneeded` is asked again after the node has vanished: a cell described later will not find it.
        return size if discard(node.path, unneeded) else 0


def free_folder(path: Path) -> int:
    """Remove a folder, whose name vanishes at once for other processes, and return the freed bytes."""
    size = weight(path)
    discard(path)
    return size


# ---------------------------------------------------------------------------------- finding it


def _free_nodes(store: Store) -> Iterator[tuple[str, Folder]]:
    """Yield the nodes of a store that are not locked, without links and without folders that are not named by a key."""
    for stage in config.STAGES:
        for node in (store.node(stage, key) for key in sorted(store.keys(stage)) if KEY.fullmatch(key)):
            if disk.plain(node.path, store) and node.path.is_dir() and not _locked(node):
                yield stage, node


def _locked(node: Folder) -> bool:
    """Return whether a process computes a node, or may do so because its lock cannot be read."""
    try:
        return holder(node.lock) is not None
    except OSError:
        return True


def _training(store: Store) -> bool:
    return any(_locked(store.node("pretrain", key)) for key in store.keys("pretrain"))


def _left_in(node: Folder) -> Iterator[Spare]:
    """Yield what killed processes left in a node; a living process would hold the node's lock."""
    paths = [path for path in _named_so(node.path) if stat.S_ISREG(path.lstat().st_mode)]
    if paths:
        yield Spare(LEFTOVERS, node.path, sum(map(weight, paths)), partial(_free_left_in, node))


def _leftovers(store: Store) -> Iterator[Spare]:
    """Yield what killed processes left outside nodes, where only its age shows that they are gone."""
    stages = [store.root / name for name in (*config.STAGES, *HOUSEHOLD, "trials", "snapshots")]
    inside = [path for name in HOUSEHOLD for path in _folders(store.root / name)]
    for folder in (*stages, *inside):
        for path in _named_so(folder) if disk.plain(folder, store) else ():
            status = path.lstat()
            if time.time() - max(status.st_mtime, status.st_ctime) > DAY:
                yield Spare(LEFTOVERS, path, weight(path), partial(_free_path, path))


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _named_so(folder: Path) -> list[Path]:
    return [path for path in folder.glob(".*") if LEFTOVER.fullmatch(path.name)] if folder.is_dir() else []


# ---------------------------------------------------------------------------------- freeing it


def _free_path(path: Path) -> int:
    size = weight(path)
    delete(path)
    return size


def _free_left_in(node: Folder) -> int:
    with held(node.lock, wait=False):
        return sum(_free_path(path) for path in _named_so(node.path) if stat.S_ISREG(path.lstat().st_mode))


def _free_states(node: Folder) -> int:
    with held(node.lock, wait=False):
        return _free_path(node.states) if node.record() is not None else 0


def _free_compiled(store: Store) -> int:
    if _training(store):
        raise Locked(f"{store.compiled} is in use: a pretraining is running")
    return free_folder(store.compiled)
