"""Time a short run of each method's training, so that the cost of a cell is known before any cell has run."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dae_ssl.compute.provenance import device_name
from dae_ssl.config import Cell
from dae_ssl.files import write_json
from dae_ssl.store import Store

if TYPE_CHECKING:
    from torch import nn

    from dae_ssl.distributed import World

STEPS = 20
EPOCHS = 2
"""The first epoch warms up, and compiles if compilation is on; the last one is timed."""


@dataclass
class _Watch:
    """A watch that keeps the terms of each epoch and ignores everything else."""

    epochs: list[dict[str, float]] = field(default_factory=list)

    def log(self, _epoch: int, terms: Any) -> None:
        self.epochs.append(dict(terms))

    def event(self, kind: str, text: str) -> None: ...

    def facts(self, facts: Any) -> None: ...

    def progress(self, epoch: int, step: int, steps: int) -> None: ...

    def keep(self, epoch: int, networks: "nn.ModuleDict") -> None: ...

    def stop(self) -> bool:
        return False


def run(cells: Iterable[Cell], store: Store, device: str) -> Iterator[str]:
    """Time each method that the cells train, in each precision; yield a line for each.

    The ranks are those of this process's world: one rank, as packed cells have, or the ranks of torchrun. The times are
    kept in the store, where later plans find them. Raises StoreError if the images are not prepared.
    """
    from dae_ssl.distributed import world

    seen: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        if cell.method.trains:
            seen.setdefault((cell.method.name, cell.precision), cell)
    with world(device) as ranks:
        for cell in seen.values():
            seconds = seconds_per_image(cell, store, ranks)
            if ranks.first:
                yield _keep(cell, seconds, store, ranks)


def seconds_per_image(cell: Cell, store: Store, ranks: "World") -> float:
    """Return the seconds of training per image and epoch.

    The time of the diagnostics between epochs is weighted by how often a whole run computes them, which is not after
    every epoch.
    """
    from dae_ssl.data import sets
    from dae_ssl.distributed import arithmetic
    from dae_ssl.training.checkpoint import States
    from dae_ssl.training.monitor import is_looked_at
    from dae_ssl.training.pretrain import pretrain
    from dae_ssl.training.step import compile_cache

    batch, all_images = cell.optimisation.batch_size, sets.pretraining_images(store, cell.data, ranks.device).images
    images = all_images[: min(STEPS, len(all_images) // batch) * batch]
    short = replace(cell.optimisation, epochs=EPOCHS, checkpoints=(), schedule="constant")
    watch = _Watch()
    with (
        tempfile.TemporaryDirectory() as folder,
        arithmetic(ranks.device, cell.precision),
        compile_cache(store.compiled),
    ):
        shortened = replace(cell, optimisation=short, features=replace(cell.features, epoch=None))
        pretrain(shortened, images, ranks, States(Path(folder)), watch, save_seconds=float("inf"))
    if not watch.epochs:
        return float("nan")  # only the first rank logs, and only its result is used
    last, epochs = watch.epochs[-1], cell.optimisation.epochs
    looks = sum(is_looked_at(epoch, cell.optimisation) for epoch in range(1, epochs + 1)) / epochs
    around = (last["epoch_seconds"] - last["step_seconds"]) * looks
    return last["step_seconds"] / len(images) + around / len(all_images)


def _keep(cell: Cell, seconds: float, store: Store, ranks: "World") -> str:
    import torch

    device, method, precision = device_name(ranks.device), cell.method.name, cell.precision
    store.trials.mkdir(parents=True, exist_ok=True)
    facts = {"method": method, "ranks": ranks.size, "precision": precision, "device": device,
             "device_type": ranks.device.type, "torch": torch.__version__, "seconds_per_image": seconds}  # fmt: skip
    write_json(store.trials / f"{method}-{precision}-{ranks.size}-{ranks.device.type}.json", facts)
    counted = f"{ranks.size} rank{'s' if ranks.size > 1 else ''}"
    return f"trial of {method} in {precision} on {counted} ({device}): {1 / seconds:,.0f} images/s"


def measured(store: Store) -> Sequence[dict[str, Any]]:
    """Return the trials that a store has."""
    return [json.loads(path.read_text()) for path in sorted(store.trials.glob("*.json"))]
