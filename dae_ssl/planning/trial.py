"""A short timed run of each method's training, to know what a cell will cost before any has run."""

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
"""The first one warms up, and compiles where that is done; the last one is taken."""


@dataclass
class _Watch:
    """Takes the terms of each epoch, and nothing else."""

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
    """Time each method that the cells train, in each precision; yield a line on each.

    It is timed with the ranks of this process's world: one in a process of its own, as packed cells have, or those of
    torchrun. What is measured is kept in the store, where later plans find it. Raises StoreError if data are not
    prepared.
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
    """Return how long training takes for one image in one epoch.

    What is looked at between epochs counts as often as a whole run has it, which is not after each.
    """
    from dae_ssl.data import sets
    from dae_ssl.distributed import arithmetic
    from dae_ssl.training.checkpoint import States
    from dae_ssl.training.monitor import is_looked_at
    from dae_ssl.training.pretrain import pretrain
    from dae_ssl.training.step import compile_cache

    batch, every = cell.optimisation.batch_size, sets.pretraining_images(store, cell.data, ranks.device).images
    images = every[: min(STEPS, len(every) // batch) * batch]
    short = replace(cell.optimisation, epochs=EPOCHS, checkpoints=(), schedule="constant")
    watch = _Watch()
    with (
        tempfile.TemporaryDirectory() as folder,
        arithmetic(ranks.device, cell.precision),
        compile_cache(store.compiled),
    ):
        own = replace(cell, optimisation=short, features=replace(cell.features, epoch=None))
        pretrain(own, images, ranks, States(Path(folder)), watch, save_seconds=float("inf"))
    if not watch.epochs:
        return float("nan")  # only the first rank is told; the others have nothing to say
    last, epochs = watch.epochs[-1], cell.optimisation.epochs
    looks = sum(is_looked_at(epoch, cell.optimisation) for epoch in range(1, epochs + 1)) / epochs
    around = (last["epoch_seconds"] - last["step_seconds"]) * looks
    return last["step_seconds"] / len(images) + around / len(every)


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
    """Return the trials that were kept."""
    return [json.loads(path.read_text()) for path in sorted(store.trials.glob("*.json"))]
