"""A cell in a store: its description, the folders and records of its nodes, its scores and its floors."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from dae_ssl import config
from dae_ssl.compute import done
from dae_ssl.config import Cell, ConfigError
from dae_ssl.files import StoreError, write_json
from dae_ssl.store import CELL, SCORES, Folder, Store

MLFLOW_EXPERIMENT = "dae_ssl"


def floors(cell: Cell) -> dict[str, Cell]:
    """Return the floors, the cells that a method's accuracy is compared with, evaluated exactly as the cell is."""
    names = {"random encoder": "random", "raw pixels": "pixels"}
    features = replace(cell.features, epoch=None)
    return {
        words: replace(cell, method=config.method(name, {}), features=features)
        for words, name in names.items()
        if cell.method.name != name
    }


# ---------------------------------------------------------------------------------- descriptions


def describe(cell: Cell, store: Store) -> Folder:
    """Write the cell's settings and keys to the store, for later commands to find it; return its folder."""
    folder = store.cell(config.cell_key(cell))
    if not folder.product(CELL).exists():
        folder.create()
        write_json(folder.product(CELL), {"settings": config.settings(cell), "nodes": config.keys(cell)})
    return folder


def described(folder: Folder) -> Cell:
    """Return the cell that a folder describes. Raises ConfigError if this version of the package does not know it."""
    try:
        return config.cell(json.loads(folder.product(CELL).read_text())["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder.path} does not describe a cell that this version knows: {error}") from error


def known(key: str, store: Store) -> Cell:
    """Return the cell with a key. Raises StoreError if the store does not describe it, ConfigError as `described`."""
    folder = store.cell(key)
    if not folder.product(CELL).exists():
        others = f"which describes {len(store.cells())} cells"
        raise StoreError(f"cell {key} is not described in {store.root}, {others}: submit its experiment once")
    return described(folder)


# ---------------------------------------------------------------------------------- nodes and scores


def nodes(cell: Cell, store: Store) -> dict[str, Folder]:
    """Return the folder of each stage's node, whether it exists or not."""
    return {stage: store.node(stage, key) for stage, key in config.keys(cell).items()}


def begun(cell: Cell, store: Store) -> bool:
    """Return whether any node of a cell has a folder."""
    return any(node.path.exists() for node in nodes(cell, store).values())


def committed_records(cell: Cell, store: Store) -> dict[str, dict[str, Any]]:
    """Return the commit records of the committed stages, even if a parent was computed again since.

    Pages and MLflow show these, since every score was measured.
    """
    records = {stage: node.record() for stage, node in nodes(cell, store).items()}
    return {stage: record for stage, record in records.items() if record is not None}


def current_records(cell: Cell, store: Store) -> dict[str, dict[str, Any]]:
    """Return the commit records of the current stages: committed, and made from what their parents hold now.

    Plans and `status` count these as done, and a file of results holds these.
    """
    return done.counted(cell, committed_records(cell, store))


def require_cell(value: object) -> None:
    """Raise ConfigError for anything but a cell, such as its key or its settings."""
    if not isinstance(value, Cell):
        raise ConfigError(f"{value!r} is not a cell: make one with dae_ssl.cell")


def scores(cell: Cell, store: Store | Path | str) -> dict[str, float]:
    """Return the final scores of the committed stages; accuracies are shares between 0 and 1.

    The store may be named by its path. A stage that is not committed adds nothing, so a new cell has no scores.
    """
    require_cell(cell)
    merged: dict[str, float] = {}
    for record in committed_records(cell, Store.of(store)).values():
        merged |= {name: float(value) for name, value in record.get(SCORES, {}).items()}
    return merged


def validation_accuracy(cell: Cell, store: Store) -> float | None:
    """Return the probe's accuracy on validation images, between 0 and 1; None until the probe is done."""
    record = nodes(cell, store)["probe"].record()
    return None if record is None else float(record[SCORES]["validation_accuracy"])
