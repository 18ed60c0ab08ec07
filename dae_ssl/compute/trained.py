"""The encoder of a cell: from a store, by the cell's settings or by its key, or from a file."""

import shlex
from pathlib import Path
from typing import Any

from dae_ssl import config
from dae_ssl.compute import cells, done
from dae_ssl.compute.command import run_again
from dae_ssl.config import Cell, ConfigError, require
from dae_ssl.files import Digests, StoreError
from dae_ssl.store import LEFT_BEHIND, Folder, Store, encoder_epoch
from dae_ssl.training.frozen import FrozenEncoder
from dae_ssl.training.weights import read_encoder

EXPORTED = "encoder.safetensors"
"""The file of weights in a folder that an encoder was exported to."""


def load_encoder(store: Store | Path | str, cell: Cell | str | None = None, /, **settings: Any) -> FrozenEncoder:
    """Return a trained encoder, images (n, 3, 32, 32) of uint8 or floats in [0, 1] -> representations (n, 8192).

        load_encoder("store", method="dae", embedding="l2", alpha=1)     # settings, as `dae_ssl.cell` takes them
        load_encoder("store", cell)                                      # a cell that `dae_ssl.cell` has made
        load_encoder("store", "3f0c1d")                                  # the key of a cell or of a pretraining
        load_encoder("KEY.safetensors")                                  # a file that was saved, or an exported folder

    A key may be cut short as long as it stays the only one. The encoder of a cell is the one that its features are
    made with, after the epoch `features.epoch` or after the last one; that of a pretraining is the last. The encoder is
    on the CPU, and `.to("cuda")` moves it.

    Raises ConfigError for settings that cannot be, StoreError where the store does not have the encoder, which names
    the command that computes it, and for a file that is damaged or no encoder of this suite.
    """
    if cell is not None and settings:
        raise ConfigError(f"a cell and {sorted(settings)[0]} are both given: name it by its key or by its settings")
    if settings:
        cell = config.cell(settings)
    if cell is None:
        return FrozenEncoder(read_encoder(_file(store)))
    store = Store.of(store)
    path = encoder_file(cell, store) if isinstance(cell, Cell) else _file_by_key(cell, store)
    return FrozenEncoder(read_encoder(path))


def encoder_file(cell: Cell, store: Store, digests: Digests | None = None) -> Path:
    """Return the file of the encoder that a cell's features are made with, its node verified.

    Raises ConfigError for a method without an encoder, and StoreError where the file is not there or has changed.
    """
    require(cell.method.has_encoder, "method", cell.method.name, "a method with an encoder: this one has none")
    node, names = cells.nodes(cell, store)["pretrain"], done.reads(cell, "features")
    record = node.record()
    if record is None:
        command = f"{run_again(cell)} --store {shlex.quote(str(store.root))}"
        raise StoreError(f"{store.root} has no encoder of this cell: `{command}` computes it{_others(cell, store)}")
    found = next((name for name in names if name in record["products"]), None)
    if found is None:
        _refuse_absent(node, record, *names)
        raise StoreError(f"{node.product(names[0])} is missing, although pretraining is done: "
                         f"delete {node.path} and run again")  # fmt: skip
    node.verify(digests)
    return node.product(found)


def _file(path: Store | Path | str) -> Path:
    """Return the path of a file, or of the one in an exported folder.

    Raises ConfigError for a store, in which a cell has to be named, and for what does not exist.
    """
    root = Store.of(path).root
    if isinstance(path, Store) or root.is_dir():
        if (root / EXPORTED).is_file():
            return root / EXPORTED
        raise ConfigError(f"{root} is a folder: of a store name a cell as well, by its key or by settings, "
                          f'as method="dae"')  # fmt: skip
    if not root.exists():
        raise ConfigError(f"{root} does not exist: name a file of weights, or a store and a cell")
    return root


def _file_by_key(beginning: str, store: Store) -> Path:
    """Return the file of the encoder of a cell, or of a pretraining, whose key begins so."""
    described, pretrained = {folder.key for folder in store.cells()}, store.keys("pretrain")
    begin_so = [key for key in {*described, *pretrained} if beginning and key.startswith(beginning)]
    same = [key for key in begin_so if key == beginning] or begin_so
    if len(same) != 1:
        raise StoreError(
            f"{len(same)} cells or pretrainings in {store.root} have a key that begins with {beginning!r}: "
            f'name one by more of its key, which `dae-ssl status EXPERIMENT` shows, or by settings, as method="dae"'
        )
    key = same[0]
    return encoder_file(cells.known(key, store), store) if key in described else _last(store.node("pretrain", key))


def _last(node: Folder) -> Path:
    """Return the file of the last encoder of a pretraining, which is verified."""
    record = node.verify()
    epochs = {epoch: name for name in record["products"] if (epoch := encoder_epoch(name)) is not None}
    left = [name for name in record.get(LEFT_BEHIND, {}) if (encoder_epoch(name) or 0) > max(epochs, default=-1)]
    if left or not epochs:
        _refuse_absent(node, record, *left)
        raise StoreError(f"{node.path} holds no encoder, though pretraining is done: delete it and run again")
    return node.product(epochs[max(epochs)])


def _refuse_absent(node: Folder, record: done.Record, *names: str) -> None:
    """Raise StoreError where a product was left behind in the store that it was measured in."""
    if not record.get(LEFT_BEHIND, {}).keys().isdisjoint(names):
        raise StoreError(f"the encoder of pretraining {node.key} did not come along with its scores: load it from "
                         f"where it was kept, as in `dae-ssl results load FILE --weights FOLDER`")  # fmt: skip


def _others(cell: Cell, store: Store) -> str:
    """Return what a message says of other encoders of the same method that a store has; "" where it has none."""
    found = {}
    for folder in store.cells():
        try:
            other = cells.described(folder)
        except ConfigError:  # as a cell of a method that only its author's script knows
            continue
        if other.method.name == cell.method.name:
            record = cells.nodes(other, store)["pretrain"].record() or {"products": {}}
            if not record["products"].keys().isdisjoint(done.reads(other, "features")):
                found[folder.key] = config.title(other)
    if not found:
        return ""
    key, title = next(iter(found.items()))
    return f"; the store has {len(found)} of the same method with other settings, such as {key} ({title})"
