"""What the records of prepared data sets say, and whether a cell can be computed from them; no image is read."""

from typing import Any

from dae_ssl import config
from dae_ssl.files import StoreError
from dae_ssl.store import Store

SIDE = 32
"""Of the images that the study's networks take, in pixels."""


class DataError(StoreError):
    """Images cannot be found, read or prepared; the message is one line that says what and what to do."""


def require_prepared(store: Store, *names: str) -> None:
    """Raise DataError, naming the command that prepares it, for the first of the data sets that is not there."""
    for name in names:
        if store.data(name).record() is None:
            given = {"digits": "", "cifar10": " --download", "cifar100": " --download"}.get(name, " --from FOLDER")
            prepared = ", ".join(store.data_names()) or "none"
            command = f"dae-ssl data {name}{given} --store {store.root}"
            raise DataError(f"data set {name!r} is not prepared in {store.root} (prepared: {prepared}): run {command}")


def require_fits(store: Store, cell: config.Cell) -> None:
    """Raise DataError or ConfigError, before any work, for a cell that its prepared data sets cannot serve."""
    wanted, trains = cell.data, cell.method.trains
    names = (wanted.pretrain, wanted.evaluate) if trains else (wanted.evaluate,)
    require_prepared(store, *names)
    evaluated = _facts(store, wanted.evaluate)
    if trains:
        seen = _facts(store, wanted.pretrain)
        given = f"{seen['images']}, the training images of {wanted.pretrain}"
        used = wanted.pretrain_images or seen["images"]
        config.require(used <= seen["images"], "data.pretrain_images", used, f"null (all) or at most {given}")
        batch = cell.optimisation.batch_size
        config.require(batch <= used, "optimisation.batch_size", batch, f"at most {used}, the images used")
    for name in names:
        shape = _facts(store, name)["shape"]
        if cell.method.has_encoder and shape != [3, SIDE, SIDE]:
            raise DataError(
                f"data set {name!r} has images of {shape[2]}x{shape[1]} pixels: the encoder takes {SIDE}x{SIDE}; "
                f"prepare it under another name with --size {SIDE}"
            )
    config.require(cell.views.crop <= SIDE, "views.crop", cell.views.crop, f"at most the images' side, {SIDE}")
    few, classes = cell.probe.labels_per_class, len((store.data(wanted.evaluate).record() or {})["classes"])
    used = wanted.evaluate_images or evaluated["images"]
    given = f"{evaluated['images']}, the training images of {wanted.evaluate}"
    config.require(used <= evaluated["images"], "data.evaluate_images", used, f"null (all) or at most {given}")
    left = used - wanted.validation_images
    choices = f"fewer than the {used} training images of {wanted.evaluate} that are used, less those the probe needs"
    needed = (few or 1) * classes
    config.require(left >= needed, "data.validation_images", wanted.validation_images, choices)


def _facts(store: Store, name: str) -> dict[str, Any]:
    """Return what the record of a prepared set says of its training split."""
    facts: dict[str, Any] = (store.data(name).record() or {})["splits"]["train"]
    return facts
