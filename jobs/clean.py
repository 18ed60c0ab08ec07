"""Say what a store can be freed of, and free it.

  dae-ssl clean                      what would go, by kind; nothing is changed
  dae-ssl clean --yes                and it goes
  dae-ssl clean --store /scratch/store

It knows features that all their readers have read (computed again when something new asks), rolling states of finished
nodes, nodes that no cell described in the store needs, leftovers of killed processes, compiled steps, and, where SLURM
can be asked, submissions that ended and the copies of the code that none runs. It touches nothing else: no data set, no
description of a cell, nothing that is being computed, nothing that a link leads to.
"""

import argparse
import contextlib
from collections.abc import Sequence

from dae_ssl import config
from dae_ssl.cluster import queue
from dae_ssl.cluster.queue import Queued, SlurmError
from dae_ssl.cluster.spent import spent
from dae_ssl.compute.disk import Descriptions, said, shown
from dae_ssl.compute.spare import Spare, spare
from dae_ssl.files import StoreError
from dae_ssl.lock import Locked, held
from dae_ssl.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the word without which nothing is changed."""
    parser.add_argument("--yes", action="store_true", help="free it; without this it is only told")


def run(given: argparse.Namespace) -> int:
    """Tell what can be freed and free it if that is wanted; return 0, or 1 if something could not be."""
    store = Store(given.store)
    with contextlib.ExitStack() as stack:
        submitting = _alone(store, stack) if given.yes else None
        described = Descriptions(store)
        queued, reason = _queued(store)
        for line in (submitting, reason, _unknown(described)):
            if line:
                print(line)
        everything = list(spare(store, described))
        if submitting is None:
            everything = [*spent(store, described, queued), *everything]
        if not everything:
            print(f"nothing of {store.root} can be freed")
            return 0
        print_kinds(everything)
        if not given.yes:
            print("nothing was changed: --yes frees it")
            return 0
        return _free(everything)


def print_kinds(everything: Sequence[Spare]) -> None:
    """Print how many things of each kind there are, and how large they are together."""
    for kind in dict.fromkeys(item.kind for item in everything):
        sizes = [item.bytes for item in everything if item.kind == kind]
        print(f"{kind:52}{len(sizes):7}{said(sum(sizes)):>10}")
    print(f"{'together':52}{len(everything):7}{said(sum(item.bytes for item in everything)):>10}")


def _free(everything: Sequence[Spare]) -> int:
    freed, failed = 0, list[str]()
    for item in everything:
        try:
            freed += item.free()
        except Locked:
            print(f"stays, since a process works on it: {shown(item.path)}")
        except StoreError as error:
            failed.append(str(error))
    print(f"{said(freed)} freed")
    for line in failed[:10]:
        print(f"stays: {shown(line)}")
    return 1 if failed else 0


def _alone(store: Store, stack: contextlib.ExitStack) -> str | None:
    """Keep other processes from submitting meanwhile; return why submissions have to stay, if one does just that."""
    if not store.launching.parent.is_dir():
        return None
    try:
        stack.enter_context(held(store.launching, wait=False))
    except StoreError as error:
        return f"submissions and snapshots stay: {error}"
    return None


def _queued(store: Store) -> tuple[Sequence[Queued] | None, str | None]:
    """Return what SLURM has, or None and the reason why it cannot be asked, where that matters."""
    launches = store.launching.parent
    if not launches.is_dir() or not any(path.is_dir() for path in launches.iterdir()):
        return None, None
    try:
        return queue.queue(), None
    except SlurmError as error:
        return None, f"submissions stay, since SLURM cannot tell which ended: {error}"


def _unknown(described: Descriptions) -> str | None:
    """Return why nodes stay that seem to be needed by nobody."""
    if described.damaged:
        names = ", ".join(sorted(map(shown, described.damaged))[:3])
        return (f"nodes and features stay, since descriptions of cells cannot be read ({names}): "
                "`dae-ssl remove CELL` removes them")  # fmt: skip
    some = any(described.store.keys(stage) for stage in config.STAGES)
    return "nodes stay, since no cell is described here that could need them" if some and not described.cells else None
