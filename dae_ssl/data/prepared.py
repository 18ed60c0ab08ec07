"""What the records of prepared image sets say, without their images: whether the sets are there, and serve a cell.

Nothing here needs PyTorch, so that whoever only plans or asks answers at once.
"""

from collections.abc import Hashable, Iterable
from typing import Any

from dae_ssl.config import Cell, require
from dae_ssl.files import StoreError
from dae_ssl.store import Store

SPLITS = ("train", "test")
SIDE = 32
"""The side of the images that the study's networks take, in pixels."""
EMBEDDED = {"digits": "scikit-learn", "photographs": "scikit-image"}
"""The sets that need no source, and the package that each comes with."""


class DataError(StoreError):
    """Images cannot be found, read or prepared; the message is one line that says what and what to do."""


def require_prepared(store: Store, *names: str) -> None:
    """Raise DataError, naming the command that prepares it, for the first of the data sets that is not there."""
    for name in names:
        if store.data(name).record() is None:
            known = dict.fromkeys(EMBEDDED, "") | {"cifar10": " --download", "cifar100": " --download"}
            source = known.get(name, " --from FOLDER")
            there = ", ".join(store.data_names()) or "none"
            command = f"dae-ssl data {name}{source} --store {store.root}"
            raise DataError(f"data set {name!r} is not prepared in {store.root} (prepared: {there}): run {command}")


def require_fits(store: Store, cell: Cell) -> None:
    """Raise DataError or ConfigError, before any work, for a cell that its prepared data sets cannot serve."""
    pretraining, evaluation = (cell.data.pretrain, cell.data.evaluate)
    names = (pretraining, evaluation) if cell.method.trains else (evaluation,)
    require_prepared(store, *names)
    if cell.method.trains:
        used = _used(store, pretraining, "pretrain_images", cell.data.pretrain_images)
        batch = cell.optimisation.batch_size
        require(batch <= used, "optimisation.batch_size", batch, f"at most {used}, the images used")
    for name in names:
        shape = facts(store, name)["shape"]
        if cell.method.has_encoder and shape != [3, SIDE, SIDE]:
            raise DataError(
                f"data set {name!r} has images of {shape[2]}x{shape[1]} pixels: the encoder takes {SIDE}x{SIDE}; "
                f"prepare it under another name with --size {SIDE}"
            )
    require(cell.views.crop <= SIDE, "views.crop", cell.views.crop, f"at most the images' side, {SIDE}")
    used = _used(store, evaluation, "evaluate_images", cell.data.evaluate_images)
    held_out, classes = cell.data.validation_images, len((store.data(evaluation).record() or {})["classes"])
    choices = f"fewer than the {used} training images of {evaluation} that are used, less those the probe needs"
    needed = (cell.probe.labels_per_class or 1) * classes
    require(used - held_out >= needed, "data.validation_images", held_out, choices)
    tested, clusters = splits(store, evaluation)["test"]["images"], cell.kmeans.clusters
    require(clusters <= tested, "kmeans.clusters", clusters, f"at most {tested}, the test images of {evaluation}")


def require_all_fit(store: Store, cells: Iterable[Cell]) -> None:
    """Raise what `require_fits` raises, for the first of some cells; of those that are alike to it one is looked at."""
    for cell in {_decisive(cell): cell for cell in cells}.values():
        require_fits(store, cell)


def _decisive(cell: Cell) -> Hashable:
    """Return all of a cell that `require_fits` looks at."""
    kind = cell.method.trains, cell.method.has_encoder
    return (cell.data, cell.views.crop, cell.optimisation.batch_size, cell.probe.labels_per_class,
            cell.kmeans.clusters, kind)  # fmt: skip


def _used(store: Store, name: str, setting: str, wanted: int | None) -> int:
    """Return how many training images of a set are used; None stands for all. Raises ConfigError for more."""
    there = facts(store, name)["images"]
    used: int = wanted or there
    choices = f"null (all) or at most {there}, the training images of {name}"
    require(used <= there, f"data.{setting}", used, choices)
    return used


def splits(store: Store, name: str) -> dict[str, Any]:
    """Return what the record of a set says of each split, as `facts` has it; nothing where the set is not prepared."""
    of_set: dict[str, Any] = (store.data(name).record() or {}).get("splits", {})
    return of_set


def facts(store: Store, name: str) -> dict[str, Any]:
    """Return what the record of a prepared set says of its training split: images, shape (3, h, w), digest."""
    of_split: dict[str, Any] = splits(store, name)["train"]
    return of_split


def digests(store: Store, name: str) -> dict[str, str] | None:
    """Return the digest of each split of a prepared set, by which records tell what they were made from, or None."""
    record = store.data(name).record()
    return None if record is None else {split: about["digest"] for split, about in record["splits"].items()}
