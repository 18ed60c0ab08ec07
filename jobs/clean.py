"""List what can be deleted from a store, and delete it.

  dae-ssl clean                      list what can be deleted, by kind; nothing is changed
  dae-ssl clean --yes                delete it
  dae-ssl clean --store /scratch/store

It deletes features that all of their readers have read (they are computed again if a new node needs them), saved states
of finished nodes, nodes that no cell described in the store needs, leftovers of killed processes, compiled training
steps and, if SLURM can be asked, finished submissions and copies of the code that no submission uses. It never deletes
data sets, descriptions of cells, nodes that are being computed, or anything behind a link.
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
    """Add `--yes`, without which nothing is changed."""
    parser.add_argument("--yes", action="store_true", help="delete it; without this flag it is only listed")


def run(given: argparse.Namespace) -> int:
    """List what can be deleted, and delete it with `--yes`; return 0, or 1 if something could not be deleted."""
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
            print(f"nothing in {store.root} can be deleted")
            return 0
        print_kinds(everything)
        if not given.yes:
            print("nothing was changed; --yes deletes it")
            return 0
        return _free(everything)


def print_kinds(everything: Sequence[Spare]) -> None:
    """Print the number of items of each kind, and their total size."""
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
            print(f"kept, since a process is using it: {shown(item.path)}")
        except StoreError as error:
            failed.append(str(error))
    print(f"{said(freed)} freed")
    for line in failed[:10]:
        print(f"kept: {shown(line)}")
    return 1 if failed else 0


def _alone(store: Store, stack: contextlib.ExitStack) -> str | None:
    """Prevent other processes from submitting; if one is submitting now, return why submissions are kept."""
    if not store.launching.parent.is_dir():
        return None
    try:
        stack.enter_context(held(store.launching, wait=False))
    except StoreError as error:
        return f"submissions and snapshots are kept: {error}"
    return None


def _queued(store: Store) -> tuple[Sequence[Queued] | None, str | None]:
    """Return SLURM's queue, or None and, if the store has submissions, the reason why SLURM cannot be asked."""
    launches = store.launching.parent
    if not launches.is_dir() or not any(path.is_dir() for path in launches.iterdir()):
        return None, None
    try:
        return queue.queue(), None
    except SlurmError as error:
        return None, f"submissions are kept, since SLURM cannot be asked which have ended: {error}"


def _unknown(described: Descriptions) -> str | None:
    """Return why nodes are kept although no cell seems to need them; None if none are."""
    if described.damaged:
        names = ", ".join(sorted(map(shown, described.damaged))[:3])
        return (f"nodes and features are kept, since descriptions of cells cannot be read ({names}): "
                "`dae-ssl remove CELL` removes them")  # fmt: skip
    some = any(described.store.keys(stage) for stage in config.STAGES)
    return "nodes are kept, since the store describes no cells that need them" if some and not described.cells else None
