"""Remove cells, their pages and the nodes that are theirs alone.

  dae-ssl remove 0123456789abcdef            what would go and what stays; nothing is changed
  dae-ssl remove 0123456789abcdef --yes      and it goes
  dae-ssl remove 0123 4567 --yes             several, by the beginnings of their keys

Cells that are being computed are refused, all of them. What MLflow has of a cell is a copy of its own, and stays there.
"""

import argparse
from collections.abc import Sequence

from dae_ssl import config
from dae_ssl.compute.disk import Descriptions, plain, said, shown
from dae_ssl.compute.spare import free_folder, free_node
from dae_ssl.files import StoreError, weight
from dae_ssl.lock import holder
from dae_ssl.store import Folder, Store
from jobs import asked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the cells, and the word without which nothing is changed."""
    parser.usage = f"{parser.prog} CELL... [--FLAG ...]"
    parser.add_argument("cells", nargs="+", metavar="CELL", help="its key, as status shows it, or the beginning of it")
    parser.add_argument("--yes", action="store_true", help="remove them; without this it is only told")


def run(given: argparse.Namespace) -> int:
    """Tell what goes and what stays, and remove it if that is wanted; return 0. Raises StoreError."""
    store = Store(given.store)
    described = Descriptions(store)
    keys = [*described.cells, *described.damaged]
    leaving = [asked.whole_key(beginning, keys, store) for beginning in dict.fromkeys(given.cells)]
    alone, shared = apart(described, leaving)
    _require_free(store, described, leaving, alone)
    for cell in leaving:
        print(f"cell {shown(cell)}: its description and its page, {said(weight(store.cell(cell).path))}")
    for stage, node in _folders(store, alone):
        print(f"  {stage} {node.key}: {said(weight(node.path))}")
    for (stage, key), cells in shared.items():
        print(f"  {stage} {key} stays: {_words(cells)}")
    for stage, key in alone:
        if not plain(store.node(stage, key).path, store):
            print(f"  {stage} {key} stays: it is behind a link, which is not followed")
    if not given.yes:
        print("nothing was changed: --yes removes it")
        return 0
    freed = 0
    for stage, node in reversed(_folders(store, alone)):  # readers first, so that what is left is whole
        freed += free_node(stage, node, described, leaving)
    for cell in leaving:  # last: the same command goes on if this one is interrupted
        freed += free_folder(store.cell(cell).path)
    print(f"{said(freed)} freed; what MLflow has of {'it' if len(leaving) == 1 else 'them'} stays there")
    return 0


Ids = dict[tuple[str, str], list[str]]


def apart(described: Descriptions, leaving: Sequence[str]) -> tuple[Ids, Ids]:
    """Return the nodes that only cells need which are leaving, and those that others need too, with these others."""
    alone: Ids = {}
    shared: Ids = {}
    for id, cells in described.named().items():
        others = [cell for cell in cells if cell not in leaving]
        if len(others) < len(cells):
            (shared if others else alone)[id] = others
    return alone, shared


def _folders(store: Store, ids: Ids) -> list[tuple[str, Folder]]:
    """Return those of the nodes that are there, parents first; what a link leads to is not there to be removed."""
    nodes = [(stage, store.node(stage, key)) for stage, key in sorted(ids, key=lambda id: config.STAGES.index(id[0]))]
    return [(stage, node) for stage, node in nodes if node.path.is_dir() and plain(node.path, store)]


def _require_free(store: Store, described: Descriptions, leaving: Sequence[str], alone: Ids) -> None:
    """Raise StoreError where a node is being computed, or where it cannot be told what other cells need."""
    for stage, key in alone:
        if (who := holder(store.node(stage, key).lock)) is not None:
            raise StoreError(f"{stage} {key} is being computed by {who}: stop it first (dae-ssl cancel), or wait")
    others = sorted(described.damaged - set(leaving))
    if alone and others:
        raise StoreError(
            f"cell {others[0]!r} is described in no way that can be read, so that nobody knows what it shares: "
            f"remove it first, or mend {store.cell(others[0]).path}"
        )


def _words(cells: Sequence[str]) -> str:
    more = f" and {len(cells) - 3} more" if len(cells) > 3 else ""
    return f"{', '.join(map(shown, cells[:3]))}{more} need{'s' if len(cells) == 1 else ''} it too"
