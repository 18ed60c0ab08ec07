"""Finished nodes <-> a folder of encoders that belongs to a file of results.

`KEY.safetensors` is the encoder after the last epoch of the pretraining with that key, `KEY-epoch0050.safetensors` an
earlier one. Each file must be, byte for byte, the product that the record in the file of results names: so a store
knows that a loaded encoder is the one whose scores were measured. Encoders from when they were PyTorch files keep that
form, as `KEY.pt`, since another form would have a digest that no record names.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dae_ssl import config
from dae_ssl.compute.archive import Archive, ArchiveError
from dae_ssl.config import Cell
from dae_ssl.files import StoreError, explained, require_replaceable, sha256, sha256_of, write_bytes, write_json
from dae_ssl.lock import Locked, held
from dae_ssl.store import LEFT_BEHIND, RECORD, SCORES, Folder, Store, encoder_epoch

INDEX = "README.md"
HEAD = """# Encoders

The settings of each encoder are the study's, except for those in the table; scores are percentages of the test images
of the data set on which they were measured. `dae-ssl results load` with the file of results next to this folder puts
the encoders into a store together with the scores. To load an encoder without a store:

    encoder = dae_ssl.load_encoder("KEY.safetensors")
    h = encoder(images)  # (n, 3, 32, 32), uint8 or floats in [0, 1] -> (n, 8192)

"""
SHOWN = {
    "test accuracy": "test_accuracy", "L-BFGS": "logistic_test_accuracy", "k-means matched": "kmeans_matched_accuracy",
}  # fmt: skip
COLUMNS = ("file", "settings", "epoch", "scored on", *SHOWN, "precision", "device", "commit", "bytes", "SHA-256")


@dataclass(frozen=True)
class Encoder:
    """An encoder that a commit record names."""

    key: str
    """The key of its pretraining."""
    epoch: int
    product: str
    bytes: int
    sha256: str
    record: Mapping[str, Any]


def named(archive: Archive) -> dict[str, Encoder]:
    """Return every trained encoder that an archive's records name, by its file name."""
    encoders: dict[str, Encoder] = {}
    for key, (cell, *_) in _trained(archive).items():
        if (entry := archive.nodes.get(("pretrain", key))) is not None:
            encoders |= dict(_of(key, cell.optimisation.epochs, entry["record"]))
    return encoders


def save(
    archive: Archive, folder: Path, wanted: Iterable[Cell], store: Store, *, at_most: int | None = None
) -> tuple[int, int]:
    """Write the encoders of some cells into a folder, with its index.

    These are, for each cell, the encoder after the last epoch and the one that its features are made with. Encoders
    that the store lacks, or that differ from the archive's record, are left out; so are, in the order of the cells,
    those that would make the folder larger than `at_most` bytes. Return how many encoders are new in the folder, and
    how many are left out for their size.
    """
    require_own(folder)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    every = named(archive)
    size = sum(encoder.bytes for name, encoder in every.items() if _is(folder / name, encoder))
    new = left_out = 0
    for name, encoder in _in_order(every, wanted).items():
        if _is(folder / name, encoder):
            continue
        if at_most is not None and size + encoder.bytes > at_most:
            left_out += 1
        elif _copied(store.node("pretrain", encoder.key), encoder, folder / name):
            new, size = new + 1, size + encoder.bytes
    write_bytes(folder / INDEX, index(archive, folder).encode())
    return new, left_out


def require_own(folder: Path) -> None:
    """Raise StoreError, before anything is written, if a folder's README.md is not an index of encoders."""
    path, first = folder / INDEX, HEAD.partition("\n")[0]
    require_replaceable(path)
    with explained(path):
        if path.exists() and path.read_bytes().partition(b"\n")[0] != first.encode():
            raise StoreError(f"{path} is not an index of encoders, and would be overwritten: name another folder, "
                             f"as in --weights FOLDER")  # fmt: skip


def _in_order(every: Mapping[str, Encoder], wanted: Iterable[Cell]) -> dict[str, Encoder]:
    """Return the encoders of some cells, in the order of the cells, by their file names."""
    by_training = {(encoder.key, encoder.epoch): (name, encoder) for name, encoder in every.items()}
    trainings = (
        (config.key(cell, "pretrain"), epoch)
        for cell in wanted
        if cell.method.trains
        for epoch in (cell.optimisation.epochs, _epoch(cell))
    )
    return dict(by_training[training] for training in trainings if training in by_training)


def present(archive: Archive, folder: Path) -> dict[Path, Encoder]:
    """Return the files of a folder that an archive names. Raises ArchiveError if one differs from its record."""
    files = {folder / name: encoder for name, encoder in named(archive).items() if (folder / name).is_file()}
    for path, encoder in files.items():
        if not _is(path, encoder):
            raise ArchiveError(f"{path} is not the encoder that was measured, whose SHA-256 is {encoder.sha256}: "
                               f"delete it, or save it again")  # fmt: skip
    return files


def load(files: Mapping[Path, Encoder], store: Store) -> int:
    """Put encoders into those nodes of a store that were loaded without them; return the number of nodes."""
    return sum(_put(path, encoder, store.node("pretrain", encoder.key)) for path, encoder in files.items())


def index(archive: Archive, folder: Path) -> str:
    """Return the table of a folder's encoders, with the provenance and the scores of each."""
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    trained = _trained(archive)
    for name, encoder in sorted(named(archive).items()):
        if _is(folder / name, encoder):
            lines += sorted(_rows(name, encoder, trained[encoder.key], archive))
    return HEAD + "".join(f"| {' | '.join(text.replace('|', '/') for text in line)} |\n" for line in lines)


def _rows(name: str, encoder: Encoder, same: list[Cell], archive: Archive) -> Iterator[tuple[str, ...]]:
    """Yield a row for each cell whose features are made with this encoder, or one row without scores."""
    readers = [cell for cell in same if _epoch(cell) == encoder.epoch]
    record = encoder.record
    for cell in readers or same[:1]:
        measured: dict[str, float] = {}
        for committed in archive.records(cell).values() if readers else ():
            measured |= committed.get(SCORES, {})
        read_at = cell if readers else replace(cell, features=replace(cell.features, epoch=encoder.epoch))
        scores = (f"{100 * measured[score]:.2f}" if score in measured else "" for score in SHOWN.values())
        origin = (cell.precision, str(record.get("device", "")), str(record.get("commit", ""))[:16])
        scored = cell.data.evaluate if measured else ""
        yield (f"`{name}`", config.title(read_at), str(encoder.epoch), scored, *scores, *origin,
               str(encoder.bytes), f"`{encoder.sha256}`")  # fmt: skip


def _of(key: str, last: int, record: Mapping[str, Any]) -> Iterator[tuple[str, Encoder]]:
    """Yield the file name and the encoder for each encoder of a pretraining."""
    for product, facts in (record["products"] | record.get(LEFT_BEHIND, {})).items():
        epoch = encoder_epoch(product)
        if epoch is not None:
            name = f"{key}{'' if epoch == last else f'-epoch{epoch:04d}'}{Path(product).suffix}"
            yield name, Encoder(key, epoch, product, facts["bytes"], facts["sha256"], record)


def _trained(archive: Archive) -> dict[str, list[Cell]]:
    """Return the cells of an archive that are trained, by the key of their pretraining."""
    trained: dict[str, list[Cell]] = {}
    for cell in archive.described():
        if cell.method.trains:
            trained.setdefault(config.key(cell, "pretrain"), []).append(cell)
    return trained


def _epoch(cell: Cell) -> int:
    """Return the epoch of the encoder with which a cell's features are made."""
    return cell.features.epoch or cell.optimisation.epochs


def _is(path: Path, encoder: Encoder) -> bool:
    return path.is_file() and sha256(path) == encoder.sha256


def _copied(node: Folder, encoder: Encoder, path: Path) -> bool:
    """Write a node's encoder to a path; return False if the node does not have it."""
    products = (node.record() or {}).get("products", {})
    if products.get(encoder.product, {}).get("sha256") != encoder.sha256:
        return False
    content = node.product(encoder.product).read_bytes()
    if sha256_of(content) != encoder.sha256:
        raise StoreError(
            f"{node.product(encoder.product)} changed since it was committed: delete {node.path} and run again"
        )
    write_bytes(path, content)
    return True


def _put(path: Path, encoder: Encoder, node: Folder) -> bool:
    """Write an encoder into a node whose record names it as left behind; return False if it has none such."""
    if node.record() is None:
        return False
    try:
        with held(node.lock, wait=False):
            record = node.record() or {}
            left = record.get(LEFT_BEHIND, {})
            if left.get(encoder.product, {}).get("sha256") != encoder.sha256:
                return False
            write_bytes(node.product(encoder.product), path.read_bytes())
            brought = {encoder.product: left[encoder.product]}
            still = {name: facts for name, facts in left.items() if name not in brought}
            both = {"products": record["products"] | brought, LEFT_BEHIND: still}
            write_json(node.product(RECORD), record | both)
    except Locked:
        return False
    return True
