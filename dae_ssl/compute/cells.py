"""A cell in a store: what describes it, the folders and records of its nodes, its scores, the floors beside it."""

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
    """Return the cells that tell what a method's accuracy is worth, evaluated exactly as the cell itself is."""
    names = {"random encoder": "random", "raw pixels": "pixels"}
    features = replace(cell.features, epoch=None)
    return {
        words: replace(cell, method=config.method(name, {}), features=features)
        for words, name in names.items()
        if cell.method.name != name
    }


# ---------------------------------------------------------------------------------- what describes it


def describe(cell: Cell, store: Store) -> Folder:
    """Write down what the cell is, so that it can be found, copied and reported later; return its folder."""
    folder = store.cell(config.cell_key(cell))
    if not folder.product(CELL).exists():
        folder.create()
        write_json(folder.product(CELL), {"settings": config.settings(cell), "nodes": config.keys(cell)})
    return folder


def described(folder: Folder) -> Cell:
    """Return the cell that a folder describes. Raises ConfigError when this version knows no such cell."""
    try:
        return config.cell(json.loads(folder.product(CELL).read_text())["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder.path} does not describe a cell that this version knows: {error}") from error


def known(key: str, store: Store) -> Cell:
    """Return the cell of a key. Raises StoreError if the store does not describe it, ConfigError as `described`."""
    folder = store.cell(key)
    if not folder.product(CELL).exists():
        there = f"{len(store.cells())} cells are described there"
        raise StoreError(f"cell {key} is not described in {store.root} ({there}): submit its experiment once")
    return described(folder)


# ---------------------------------------------------------------------------------- what was computed of it


def nodes(cell: Cell, store: Store) -> dict[str, Folder]:
    """Return the folder of every stage's node, whether anything is in it or not."""
    return {stage: store.node(stage, key) for stage, key in config.keys(cell).items()}


def begun(cell: Cell, store: Store) -> bool:
    """Tell whether anything of a cell was computed."""
    return any(node.path.exists() for node in nodes(cell, store).values())


def committed_records(cell: Cell, store: Store) -> dict[str, dict[str, Any]]:
    """Return the commit records of the stages that have one, also where its parent was computed anew since.

    These are what pages show and MLflow gets: every score was measured.
    """
    found = {stage: node.record() for stage, node in nodes(cell, store).items()}
    return {stage: record for stage, record in found.items() if record is not None}


def current_records(cell: Cell, store: Store) -> dict[str, dict[str, Any]]:
    """Return the commit records of the stages that have not to be computed: made from what their parents hold now.

    These are what plans and `status` count as done, and what a file of results takes.
    """
    return done.counted(cell, committed_records(cell, store))


def scores(cell: Cell, store: Store | Path | str) -> dict[str, float]:
    """Return the final scores of the committed stages, accuracies as shares between 0 and 1.

    The store may be named by its path. A stage that is not committed adds nothing, so a new cell has no scores.
    """
    merged: dict[str, float] = {}
    for record in committed_records(cell, Store.of(store)).values():
        merged |= {name: float(value) for name, value in record.get(SCORES, {}).items()}
    return merged


def validation_accuracy(cell: Cell, store: Store) -> float | None:
    """Return the probe's accuracy on validation images, a share; None until it is done."""
    record = nodes(cell, store)["probe"].record()
    return None if record is None else float(record[SCORES]["validation_accuracy"])
