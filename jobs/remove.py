"""Remove cells, their pages, and nodes that no other cell needs.

  dae-ssl remove 0123456789abcdef            list what would be removed and what is kept; nothing is changed
  dae-ssl remove 0123456789abcdef --yes      remove it
  dae-ssl remove 0123 4567 --yes             remove several cells, given the first characters of their keys

If one of the cells is being computed, nothing is removed. The copies of cells in MLflow are kept.
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
    """Add the cells, and `--yes`, without which nothing is changed."""
    parser.usage = f"{parser.prog} CELL... [--FLAG ...]"
    parser.add_argument("cells", nargs="+", metavar="CELL",
                        help="key of a cell, as status shows it, or its first characters")  # fmt: skip
    parser.add_argument("--yes", action="store_true", help="remove them; without this flag they are only listed")


def run(given: argparse.Namespace) -> int:
    """List what will be removed and what is kept, and remove it with `--yes`; return 0. Raises StoreError."""
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
        print(f"  {stage} {key} is kept: {_words(cells)}")
    for stage, key in alone:
        if not plain(store.node(stage, key).path, store):
            print(f"  {stage} {key} is kept: it is behind a link, and links are not followed")
    if not given.yes:
        print("nothing was changed; --yes removes it")
        return 0
    freed = 0
    for stage, node in reversed(_folders(store, alone)):  # children first, so that none loses its parent
        freed += free_node(stage, node, described, leaving)
    for cell in leaving:  # last, so that the same command continues after an interruption
        freed += free_folder(store.cell(cell).path)
    print(f"{said(freed)} freed; copies in MLflow are kept")
    return 0


Ids = dict[tuple[str, str], list[str]]


def apart(described: Descriptions, leaving: Sequence[str]) -> tuple[Ids, Ids]:
    """Return the nodes that only the removed cells need, and those that other cells need too, with these cells."""
    alone: Ids = {}
    shared: Ids = {}
    for id, cells in described.named().items():
        others = [cell for cell in cells if cell not in leaving]
        if len(others) < len(cells):
            (shared if others else alone)[id] = others
    return alone, shared


def _folders(store: Store, ids: Ids) -> list[tuple[str, Folder]]:
    """Return the folders of the nodes that exist, parents first, without those behind a link."""
    nodes = [(stage, store.node(stage, key)) for stage, key in sorted(ids, key=lambda id: config.STAGES.index(id[0]))]
    return [(stage, node) for stage, node in nodes if node.path.is_dir() and plain(node.path, store)]


def _require_free(store: Store, described: Descriptions, leaving: Sequence[str], alone: Ids) -> None:
    """Raise StoreError if a node is being computed, or if the description of another cell cannot be read."""
    for stage, key in alone:
        if (who := holder(store.node(stage, key).lock)) is not None:
            raise StoreError(f"{stage} {key} is being computed by {who}: stop it first (dae-ssl cancel), or wait")
    others = sorted(described.damaged - set(leaving))
    if alone and others:
        raise StoreError(
            f"the description of cell {others[0]!r} cannot be read, so the nodes that it needs are unknown: "
            f"remove it first, or repair {store.cell(others[0]).path}"
        )


def _words(cells: Sequence[str]) -> str:
    more = f" and {len(cells) - 3} more" if len(cells) > 3 else ""
    return f"{', '.join(map(shown, cells[:3]))}{more} need{'s' if len(cells) == 1 else ''} it too"
