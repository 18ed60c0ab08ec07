"""What each stage computes: its inputs -> the products of its node. Only here do training and evaluation meet."""

import contextlib
import dataclasses
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dae_ssl import config
from dae_ssl.compute import cells, trained
from dae_ssl.compute.log import Log, read
from dae_ssl.compute.provenance import versions
from dae_ssl.config import Cell
from dae_ssl.data import prepared, sets
from dae_ssl.distributed import World
from dae_ssl.evaluation import features
from dae_ssl.evaluation.probe import Accuracy, few_labels, logistic_regression, train_probe
from dae_ssl.evaluation.reconstruction import match
from dae_ssl.files import write_bytes, write_json
from dae_ssl.store import (
    CORRECT,
    FEATURES,
    KMEANS,
    NETWORKS,
    PROBE,
    SCORES,
    Folder,
    Store,
    encoder_name,
    pictures_name,
)
from dae_ssl.training import networks as nets
from dae_ssl.training.checkpoint import States
from dae_ssl.training.monitor import evenly, passed_through, pictures
from dae_ssl.training.pretrain import SAVE_SECONDS, pretrain
from dae_ssl.training.step import compile_cache
from dae_ssl.training.weights import packed, read_encoder

PICTURED_IMAGES = 16
MATCHED_IMAGES = 1000
"""The number of test images whose reconstructions are measured."""


@dataclass(frozen=True)
class Context:
    """Where a stage runs and whom it informs; nothing here changes what it computes."""

    store: Store
    world: World
    tell: Callable[[str], None]
    """Shows a line to the user."""
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None
    """Receives the name of the work, how many of its parts are done, and how many there are."""
    stop: Callable[[], bool] = lambda: False
    """Returns whether this process was asked to stop."""
    save_seconds: float = SAVE_SECONDS
    """The seconds between two saved states of pretraining."""
    keep_features: bool = True
    """If False, features are dropped once all nodes that read them, of all described cells, are done."""
    memo: sets.Memo = field(default_factory=sets.Memo)
    """What this run has already read and verified; the contexts of one process share it, until the run ends."""


class _Parts(dict[str, float]):
    """The seconds of each part of a stage, by name; a part must end with work that waits for the device."""

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self[name] = self.get(name, 0) + time.perf_counter() - began


# ---------------------------------------------------------------------------------- what each stage computes


def _pretrain_stage(cell: Cell, node: Folder, log: Log, context: Context) -> dict[str, Any]:
    if not cell.method.trains:
        _write_weights(node.product(encoder_name(0)), cell, 0, _random_encoder(cell))
        return {}
    trained = train(cell, node, log, context)
    _write_weights(node.product(NETWORKS), cell, cell.optimisation.epochs, trained)
    return _how(node.log) | {
        "inputs": _inputs(context.store, cell.data.pretrain),
        SCORES: _reconstruction_scores(cell, trained, context),
    }


def _reconstruction_scores(cell: Cell, networks: nn.ModuleDict, context: Context) -> dict[str, float]:
    """Return how well reconstructions of the first view match that view and the clean image, on test images."""
    test = sets.load(context.store, cell.data.pretrain, "test", context.world.device, context.memo).images
    shown = passed_through(networks, cell, evenly(test, MATCHED_IMAGES))
    if "reconstruction1" not in shown:
        return {}
    made, clean = shown["reconstruction1"].float(), shown["clean"]
    view = shown.get("view1", clean)
    compared = {"to_view": match(made, view), "to_clean": match(made, clean), "view_to_clean": match(view, clean)}
    return {
        f"reconstruction_{name}_{to}": value
        for to, matched in compared.items()
        for name, value in dataclasses.asdict(matched).items()
    }


def _how(log: Path) -> dict[str, Any]:
    """Return the last logged facts about how the steps were computed, and the seconds of all compilations."""
    steps = [dict(entry.fields) for entry in read(log) if entry.event == "steps"]
    how = {name: value for facts in steps for name, value in facts.items()}
    seconds = [facts["compile_seconds"] for facts in steps if "compile_seconds" in facts]
    return how | ({"compile_seconds": round(sum(seconds), 3)} if seconds else {})


def train(cell: Cell, node: Folder, log: Log | None, context: Context) -> nn.ModuleDict:
    """Run the training loop on this rank; only the first rank has a log."""
    world = context.world
    images = sets.pretraining_images(context.store, cell.data, world.device, context.memo).images
    test = sets.load(context.store, cell.data.pretrain, "test", world.device, context.memo).images
    shown = evenly(test, PICTURED_IMAGES)
    watch = _Watch(cell, node, log, context, shown)
    with compile_cache(context.store.compiled):
        return pretrain(cell, images, world, States(node.states), watch, save_seconds=context.save_seconds)


@dataclass(frozen=True)
class _Watch:
    """Passes the reports of the training loop on to the node's log and to the user."""

    cell: Cell
    node: Folder
    logged: Log | None
    context: Context
    shown: Tensor
    """The images of which example pictures are kept."""

    def log(self, epoch: int, terms: Mapping[str, float]) -> None:
        assert self.logged is not None
        self.logged(epoch, terms)

    def event(self, kind: str, text: str) -> None:
        if self.logged is not None:
            self.logged.event(kind, text=text)
            self.context.tell(f"{kind} {text}" if kind == "resumed" else text)

    def facts(self, facts: Mapping[str, Any]) -> None:
        if self.logged is not None:
            self.logged.event("steps", **facts)

    def progress(self, epoch: int, step: int, steps: int) -> None:
        self.context.progress("pretrain", epoch * steps + step, self.cell.optimisation.epochs * steps)

    def keep(self, epoch: int, networks: nn.ModuleDict) -> None:
        _write_weights(self.node.product(encoder_name(epoch)), self.cell, epoch, networks["encoder"])
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **pictures(networks, self.cell, self.shown))
        write_bytes(self.node.product(pictures_name(epoch)), content.getvalue())

    def stop(self) -> bool:
        return self.context.stop()


def _features_stage(cell: Cell, node: Folder, log: Log, context: Context) -> dict[str, Any]:
    parts = _Parts()
    with parts.timed("load"):
        encode = _encoder(cell, context)
        splits = sets.evaluation_splits(context.store, cell.data, context.world.device, context.memo)
        kept = features.Kept(splits)
    with parts.timed("encode and write"):
        written = features.write(
            node.product(FEATURES),
            splits,
            encode,
            dtype=cell.features.dtype,
            attributes={
                "node": node.key,
                "settings": json.dumps(config.stage_settings(cell, "features")),
                "versions": json.dumps(versions()),
                "classes": json.dumps(splits["test"].classes),
            },
            kept=kept,
        )
    context.memo.digests.note(node.product(FEATURES), written)
    context.memo.leave(written.sha256, kept.sets())
    log.event("extracted", images={name: len(split) for name, split in splits.items()})
    return {"inputs": _inputs(context.store, cell.data.evaluate), "parts": parts}


def _encoder(cell: Cell, context: Context) -> Callable[[Tensor], Tensor]:
    """Return the function from uint8 images to representations: the cell's frozen encoder, or the raw pixels."""
    if not cell.method.has_encoder:
        return nets.pixels
    path = trained.encoder_file(cell, context.store, context.memo.digests)
    return nets.frozen(read_encoder(path), context.world.device)


def _probe_stage(cell: Cell, node: Folder, log: Log, context: Context) -> dict[str, Any]:
    device, settings, parts = context.world.device, cell.probe, _Parts()

    def watch(epoch: int, terms: Mapping[str, float]) -> None:
        log(epoch, terms)
        context.progress("probe", epoch, settings.epochs)

    def captured(reason: str | None) -> None:
        if reason is not None:
            log.event("not_captured", text=reason)
            context.tell(reason)

    with parts.timed("read"):
        path, expected, classes = _features(cell, context)
        kept = context.memo.take(context.memo.digests.of(path))  # if an earlier stage of this run wrote them
        read = partial(features.read, path, expect=expected, device=device)
        split = read if kept is None else kept.__getitem__
        train, validation = split("train"), split("validation")
    with parts.timed("probe"):
        selection = train_probe(
            train.representations, train.labels, validation.representations, validation.labels,
            settings=settings, classes=classes, log=watch, tell=captured,
        )  # fmt: skip
    with parts.timed("logistic"):
        if settings.labels_per_class is not None:
            rows = few_labels(train.labels, settings.labels_per_class, classes=classes).to(device)
            train = dataclasses.replace(train, representations=train.representations[rows], labels=train.labels[rows])
        logistic = logistic_regression(train.representations, train.labels, classes=classes)
        logistic_validation = logistic.classifier.accuracy(validation.representations, validation.labels)
    del train, validation
    # The test split is read only here: nothing above depends on it, and nothing is chosen below.
    with parts.timed("test"):
        test = split("test")
        correct = selection.classifier.correct(test.representations, test.labels)
        logistic_correct = logistic.classifier.correct(test.representations, test.labels)
    scores = {
        "test_accuracy": Accuracy.of(correct).mean,
        "validation_accuracy": selection.validation[selection.learning_rate].mean,
        "probe_learning_rate": selection.learning_rate,
        "logistic_test_accuracy": Accuracy.of(logistic_correct).mean,
        "logistic_validation_accuracy": logistic_validation.mean,
        "logistic_converged": logistic.converged,
    }
    by_seed = dict(zip(map(str, settings.seeds), Accuracy.of(correct).seeds, strict=True))
    by_rate = {str(rate): accuracy.mean for rate, accuracy in selection.validation.items()}
    write_json(node.product(PROBE), scores | {"test_accuracy_by_seed": by_seed, "validation_by_rate": by_rate})
    _write_arrays(node.product(CORRECT), probe=correct, logistic=logistic_correct, ids=test.ids)
    return {SCORES: scores, "parts": parts}


def _write_arrays(path: Path, **arrays: Tensor) -> None:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **{name: array.cpu().numpy() for name, array in arrays.items()})
    write_bytes(path, content.getvalue())


def _kmeans_stage(cell: Cell, node: Folder, _log: Log, context: Context) -> dict[str, Any]:
    from dae_ssl.evaluation.kmeans import kmeans  # scikit-learn takes longer to import than most stages take to start

    parts = _Parts()
    with parts.timed("read"):
        path, expected, _ = _features(cell, context)
        test = features.read(path, "test", expect=expected)
    with parts.timed("kmeans"):
        clustering = kmeans(test.representations.numpy(), test.labels.numpy(), settings=cell.kmeans)
    scores = {f"kmeans_{name}": value for name, value in clustering.terms().items()}
    write_json(node.product(KMEANS), scores)
    return {SCORES: scores, "parts": parts}


STAGES: Mapping[str, Callable[[Cell, Folder, Log, Context], dict[str, Any]]] = {
    "pretrain": _pretrain_stage,
    "features": _features_stage,
    "probe": _probe_stage,
    "kmeans": _kmeans_stage,
}


def _random_encoder(cell: Cell) -> nn.Module:
    encoder = nets.encoder()
    nets.initialise(encoder, torch.Generator().manual_seed(cell.seed))
    return encoder


def _write_weights(path: Path, cell: Cell, epoch: int, network: nn.Module) -> None:
    """Write a network with its settings and epoch, so that the file is understood without its commit record."""
    settings = json.dumps(config.stage_settings(cell, "pretrain"), sort_keys=True)
    write_bytes(path, packed(network.state_dict(), {"format": "pt", "settings": settings, "epoch": str(epoch)}))


def _features(cell: Cell, context: Context) -> tuple[Path, Mapping[str, str], int]:
    """Return a cell's verified features file, the attributes that it must have, and its number of classes."""
    node = cells.nodes(cell, context.store)["features"]
    node.verify(context.memo.digests)
    path = node.product(FEATURES)
    return path, {"node": node.key}, len(json.loads(str(features.attributes(path)["classes"])))


def _inputs(store: Store, name: str) -> dict[str, Any]:
    """Return the digests of a data set's splits, which a record keeps to name the images it was computed from."""
    return {name: prepared.digests(store, name) or {}}
