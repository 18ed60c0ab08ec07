"""The stages of a cell: inputs -> a committed node. Training and evaluation meet here."""

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

from dae_ssl import config, data, store
from dae_ssl.batch import done
from dae_ssl.batch.log import Log, read
from dae_ssl.batch.provenance import provenance, versions
from dae_ssl.config import Cell
from dae_ssl.distributed import World, arithmetic
from dae_ssl.evaluation import features
from dae_ssl.evaluation.probe import Accuracy, few_labels, logistic_regression, train_probe
from dae_ssl.evaluation.reconstruction import match
from dae_ssl.lock import held
from dae_ssl.store import Node, Store, StoreError, write_bytes, write_json
from dae_ssl.training import networks as nets
from dae_ssl.training.checkpoint import States, serialise
from dae_ssl.training.monitor import evenly, passed_through, pictures
from dae_ssl.training.pretrain import SAVE_SECONDS, pretrain
from dae_ssl.training.step import compile_cache
from dae_ssl.training.weights import load_encoder, packed

PICTURED_IMAGES = 16
MATCHED_IMAGES = 1000
"""Test images whose reconstructions are measured."""


@dataclass(frozen=True)
class Place:
    """Where and for whom a stage runs; nothing here changes what it computes."""

    store: Store
    world: World
    tell: Callable[[str], None]
    """Takes a line for the person who watches."""
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None
    """Takes what is going on, how far it is, and how far it goes."""
    stop: Callable[[], bool] = lambda: False
    """Tells whether this process was asked to stop."""
    save_seconds: float = SAVE_SECONDS
    """How often pretraining saves its state."""
    memo: data.Memo = field(default_factory=data.Memo)
    """What this run has read and verified already; it is to be shared by places of one process, and dropped with it."""


def compute(cell: Cell, stage: str, place: Place) -> dict[str, Any]:
    """Compute one stage of a cell unless its node is done, and return the node's commit record.

    The first rank calls it, the others of a pretraining call `follow`. Raises what the stage raises, after writing the
    reason to the node's log; a later call goes on from what is there.
    """
    node, world = place.store.node(stage, config.key(cell, stage)), place.world
    record = _done(cell, stage, place)
    with contextlib.ExitStack() as stack:
        if record is None:
            node.create()
            waiting = world.size == 1  # several ranks would wait in an exchange, and run into its time limit
            lock = stack.enter_context(held(node.lock, wait=waiting, tell=place.tell, give_up=place.stop))
            record = _done(cell, stage, place)  # another process may have finished it while this one waited
        record = world.broadcast(record)
        if record is not None:
            return dict(record)
        if node.record() is not None:
            node.clear()  # made from products of its parent that are no longer there
        node.remove_leftovers()
        log = stack.enter_context(Log(node.log))
        source = provenance(world.device, world.size)
        log.event("started", stage=stage, key=node.key, **source)
        try:
            with arithmetic(world.device, cell.precision if stage == "pretrain" else "fp32"):
                facts = STAGES[stage](cell, node, log, place)
        except BaseException as error:
            log.event("stopped", error=type(error).__name__, reason=str(error))
            raise
        lock.check()
        log.event("finished")
        settings = config.stage_settings(cell, stage)
        times = {"finished": time.time(), "seconds": _worked_seconds(node.log)}
        read = {"parent": store.products_digest(parent)} if (parent := parent_record(cell, stage, place.store)) else {}
        known = {"stage": stage, "key": node.key, "settings": settings} | source | times
        return node.commit(known | facts | read, place.memo.digests)


def follow(cell: Cell, place: Place) -> None:
    """Take part in the pretraining of a cell as one of the ranks that are not the first."""
    if place.world.broadcast(None) is None:
        with arithmetic(place.world.device, cell.precision):
            _pretrain(cell, place.store.node("pretrain", config.key(cell, "pretrain")), None, place)


def parent_record(cell: Cell, stage: str, where: Store) -> dict[str, Any] | None:
    """Return the commit record of the node that a stage reads; None if there is none or it is not done."""
    parent = cell.parent(stage)
    return None if parent is None else where.node(parent, config.key(cell, parent)).record()


def _done(cell: Cell, stage: str, place: Place) -> dict[str, Any] | None:
    """Return the commit record of a finished node, or None. Raises StoreError if it was made from other images."""
    node = place.store.node(stage, config.key(cell, stage))
    record = done.records(cell, place.store).get(stage)
    committed = node.record()
    if record is None and committed is None and node.product(store.RECORD).exists():
        place.tell(f"{node.path} is damaged (a product is missing or has another size): computing it again")
    elif record is None and committed is not None and done.outdated(committed, parent_record(cell, stage, place.store)):
        place.tell(f"{node.path} was made from an earlier {cell.parent(stage)} of this cell: computing it again")
    elif record is None and committed is not None and committed.get(store.LEFT_BEHIND):
        place.tell(f"{node.path} came without its products, which are to be read: computing it again")
    for name, digests in (record or {}).get("inputs", {}).items():
        prepared = place.store.data(name).record()
        if prepared is not None and _digests(prepared) != digests:
            raise StoreError(
                f"{node.path} was computed from other images than those now prepared as {name!r}: "
                f"prepare these under another name, or delete the nodes made from the others"
            )
    return record


class _Parts(dict[str, float]):
    """Seconds that the parts of a stage took, by name; the last of a part's work has to wait for its device."""

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self[name] = self.get(name, 0) + time.perf_counter() - began


def _worked_seconds(log: Path) -> float:
    """Return the seconds worked on a node in all its attempts, each from its start to its last line in the log."""
    total = started = last = 0.0
    for entry in read(log):
        if entry.event == "started":
            total, started = total + last - started, entry.time
        last = entry.time
    return total + last - started


# ---------------------------------------------------------------------------------- what each stage computes


def _pretrain_stage(cell: Cell, node: Node, log: Log, place: Place) -> dict[str, Any]:
    if not cell.method.trains:
        _write_encoder(cell, node, 0, _random_encoder(cell))
        return {}
    trained = _pretrain(cell, node, log, place)
    write_bytes(node.product(store.NETWORKS), serialise(trained.state_dict()))
    return _how(node.log) | {
        "inputs": _inputs(place.store, cell.data.pretrain),
        "figures": _reconstruction_figures(cell, trained, place),
    }


def _reconstruction_figures(cell: Cell, networks: nn.ModuleDict, place: Place) -> dict[str, float]:
    """Return how well the first view's reconstructions match the view and the clean image, over test images."""
    test = data.load(place.store, cell.data.pretrain, "test", place.world.device, place.memo).images
    shown = passed_through(networks, cell, evenly(test, MATCHED_IMAGES))
    if "reconstruction1" not in shown:
        return {}
    made, clean = shown["reconstruction1"].float(), shown["clean"]
    view = shown.get("view1", clean)
    compared = {"to_view": match(made, view), "to_clean": match(made, clean), "view_to_clean": match(view, clean)}
    return {
        f"reconstruction_{name}_{to}": value
        for to, found in compared.items()
        for name, value in dataclasses.asdict(found).items()
    }


def _how(log: Path) -> dict[str, Any]:
    """Return how the steps were computed, as last told in a log, and the seconds of all compiling."""
    told = [dict(entry.fields) for entry in read(log) if entry.event == "steps"]
    how = {name: value for facts in told for name, value in facts.items()}
    seconds = [facts["compile_seconds"] for facts in told if "compile_seconds" in facts]
    return how | ({"compile_seconds": round(sum(seconds), 3)} if seconds else {})


def _pretrain(cell: Cell, node: Node, log: Log | None, place: Place) -> nn.ModuleDict:
    """Run the loop on this rank; the first one has a log."""
    world = place.world
    images = data.pretraining_images(place.store, cell.data, world.device, place.memo).images
    test = data.load(place.store, cell.data.pretrain, "test", world.device, place.memo).images
    shown = evenly(test, PICTURED_IMAGES)
    watch = _Watch(cell, node, log, place, shown)
    with compile_cache(place.store.compiled):
        return pretrain(cell, images, world, States(node.states), watch, save_seconds=place.save_seconds)


@dataclass(frozen=True)
class _Watch:
    """Passes what the loop tells on to the node's log and to the person who watches."""

    cell: Cell
    node: Node
    logged: Log | None
    place: Place
    shown: Tensor
    """Images to keep pictures of."""

    def log(self, step: int, terms: Mapping[str, float]) -> None:
        assert self.logged is not None
        self.logged(step, terms)

    def event(self, kind: str, text: str) -> None:
        if self.logged is not None:
            self.logged.event(kind, text=text)
            self.place.tell(text)

    def facts(self, facts: Mapping[str, Any]) -> None:
        if self.logged is not None:
            self.logged.event("steps", **facts)

    def progress(self, epoch: int, step: int, steps: int) -> None:
        self.place.progress("pretrain", epoch * steps + step, self.cell.optimisation.epochs * steps)

    def keep(self, epoch: int, networks: nn.ModuleDict) -> None:
        _write_encoder(self.cell, self.node, epoch, networks["encoder"])
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **pictures(networks, self.cell, self.shown))
        write_bytes(self.node.product(store.pictures_name(epoch)), content.getvalue())

    def stop(self) -> bool:
        return self.place.stop()


def _features_stage(cell: Cell, node: Node, log: Log, place: Place) -> dict[str, Any]:
    parts = _Parts()
    with parts.timed("load"):
        encode = _encoder(cell, place)
        splits = data.evaluation_splits(place.store, cell.data, place.world.device, place.memo)
        kept = features.Kept(splits)
    with parts.timed("encode and write"):
        written = features.write(
            node.product(store.FEATURES),
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
    place.memo.digests.note(node.product(store.FEATURES), written)
    place.memo.leave(written.sha256, kept.sets())
    log.event("extracted", images={name: len(split) for name, split in splits.items()})
    return {"inputs": _inputs(place.store, cell.data.evaluate), "parts": parts}


def _encoder(cell: Cell, place: Place) -> Callable[[Tensor], Tensor]:
    """Return what makes representations of uint8 images: the cell's encoder, frozen, or the pixels as they are."""
    if not cell.method.has_encoder:
        return nets.pixels
    node = place.store.node("pretrain", config.key(cell, "pretrain"))
    products, names = node.verify(place.memo.digests)["products"], done.reads(cell, "features")
    for name in names:
        if name in products:
            return nets.frozen(load_encoder(node.product(name)), place.world.device)
    missing = node.product(names[0])
    raise StoreError(f"{missing} is not there, though pretraining is done: delete {node.path} and run again")


def _probe_stage(cell: Cell, node: Node, log: Log, place: Place) -> dict[str, Any]:
    device, settings, parts = place.world.device, cell.probe, _Parts()

    def watch(epoch: int, terms: Mapping[str, float]) -> None:
        log(epoch, terms)
        place.progress("probe", epoch, settings.epochs)

    def captured(reason: str | None) -> None:
        if reason is not None:
            log.event("not_captured", text=reason)
            place.tell(reason)

    with parts.timed("read"):
        path, expected, classes = _features(cell, place)
        kept = place.memo.take(place.memo.digests.of(path))  # of a stage that has just written the file in this run
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
    # The one look at the test split: nothing above depends on it, nothing below goes back.
    with parts.timed("test"):
        test = split("test")
        correct = selection.classifier.correct(test.representations, test.labels)
        logistic_correct = logistic.classifier.correct(test.representations, test.labels)
    figures = {
        "test_accuracy": Accuracy.of(correct).mean,
        "validation_accuracy": selection.validation[selection.learning_rate].mean,
        "probe_learning_rate": selection.learning_rate,
        "logistic_test_accuracy": Accuracy.of(logistic_correct).mean,
        "logistic_validation_accuracy": logistic_validation.mean,
        "logistic_converged": logistic.converged,
    }
    by_seed = dict(zip(map(str, settings.seeds), Accuracy.of(correct).seeds, strict=True))
    by_rate = {str(rate): accuracy.mean for rate, accuracy in selection.validation.items()}
    write_json(node.product(store.PROBE), figures | {"test_accuracy_by_seed": by_seed, "validation_by_rate": by_rate})
    _write_arrays(node.product(store.CORRECT), probe=correct, logistic=logistic_correct, ids=test.ids)
    return {"figures": figures, "parts": parts}


def _write_arrays(path: Path, **arrays: Tensor) -> None:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **{name: array.cpu().numpy() for name, array in arrays.items()})
    write_bytes(path, content.getvalue())


def _kmeans_stage(cell: Cell, node: Node, _log: Log, place: Place) -> dict[str, Any]:
    from dae_ssl.evaluation.kmeans import kmeans  # scikit-learn takes longer to import than most stages to begin

    parts = _Parts()
    with parts.timed("read"):
        path, expected, _ = _features(cell, place)
        test = features.read(path, "test", expect=expected)
    with parts.timed("kmeans"):
        scores = kmeans(test.representations.numpy(), test.labels.numpy(), settings=cell.kmeans)
    figures = {f"kmeans_{name}": value for name, value in scores.terms().items()}
    write_json(node.product(store.KMEANS), figures)
    return {"figures": figures, "parts": parts}


STAGES: Mapping[str, Callable[[Cell, Node, Log, Place], dict[str, Any]]] = {
    "pretrain": _pretrain_stage,
    "features": _features_stage,
    "probe": _probe_stage,
    "kmeans": _kmeans_stage,
}


def _random_encoder(cell: Cell) -> nn.Module:
    encoder = nets.encoder()
    nets.initialise(encoder, torch.Generator().manual_seed(cell.seed))
    return encoder


def _write_encoder(cell: Cell, node: Node, epoch: int, encoder: nn.Module) -> None:
    """Write an encoder with what it is, so that the file can be told without the record beside it."""
    settings = json.dumps(config.stage_settings(cell, "pretrain"), sort_keys=True)
    content = packed(encoder.state_dict(), {"format": "pt", "settings": settings, "epoch": str(epoch)})
    write_bytes(node.product(store.encoder_name(epoch)), content)


def _features(cell: Cell, place: Place) -> tuple[Path, Mapping[str, str], int]:
    """Return a cell's features file, verified, the attributes it must have, and how many classes it knows."""
    node = place.store.node("features", config.key(cell, "features"))
    node.verify(place.memo.digests)
    path = node.product(store.FEATURES)
    return path, {"node": node.key}, len(json.loads(str(features.attributes(path)["classes"])))


def _inputs(where: Store, name: str) -> dict[str, Any]:
    """Return the digests of a data set's splits, by which a record tells what it was computed from."""
    return {name: _digests(where.data(name).record() or {})}


def _digests(prepared: Mapping[str, Any]) -> dict[str, str]:
    return {split: facts["digest"] for split, facts in prepared.get("splits", {}).items()}
