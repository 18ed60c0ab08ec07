"""Finished cells that nobody computed, written through the store's own doors, and what a browser takes from a page."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config, files
from dae_ssl.compute.cells import floors
from dae_ssl.compute.log import Log
from dae_ssl.compute.provenance import versions
from dae_ssl.config import Cell
from dae_ssl.store import CORRECT, KMEANS, PROBE, Store, pictures_name

TEST_IMAGES = 200
VOID = {"meta", "br", "img"}


# ---------------------------------------------------------------------------------- a forged finished cell


def a_cell(**more: Any) -> Cell:
    given: dict[str, Any] = {
        "method": {"name": "dae", "embedding": "l2", "alpha": 1},
        "data": {"pretrain": "digits", "evaluate": "digits", "validation_images": 300},
        "optimisation": {"epochs": 4, "checkpoints": [1, 2]},
        "probe": {"epochs": 3, "seeds": [0, 7], "learning_rates": [0.001, 0.01]},
    }
    return config.cell(given | more)


def commit(store: Store, cell: Cell, stage: str, **facts: Any) -> None:
    source = {
        "commit": "0123abc-modified", "image": None, "versions": versions(), "device": "a <fast> one", "ranks": 2,
        "host": "node & co", "slurm": {"slurm_job_id": "17"}, "finished": 1.7e9, "seconds": 12.5,
    }  # fmt: skip
    node = store.node(stage, config.key(cell, stage))
    node.commit({"stage": stage, "key": node.key, "settings": config.stage_settings(cell, stage)} | source | facts)


def forge(store: Store, cell: Cell, *, right: float, seed: int, decodes: bool = True) -> None:
    """Write a finished cell through the store's and the log's own doors; about `right` of its test images are right."""
    random = np.random.default_rng(seed)
    for stage in cell.stages():
        node = store.node(stage, config.key(cell, stage))
        node.create()
        {"pretrain": forge_pretrain, "probe": forge_probe}.get(stage, forge_nothing)(store, cell, random, decodes)
        figures: dict[str, Any] = {}
        if stage == "probe":
            figures = forge_correct(store, cell, random, right)
        if stage == "kmeans":
            names = ("inertia", "nmi", "ari", "matched_accuracy")
            figures = {f"kmeans_{kind}{name}": random.random() for kind in ("", "standardised_") for name in names}
            files.write_json(node.product(KMEANS), figures)
        commit(store, cell, stage, figures=figures)


def forge_nothing(store: Store, cell: Cell, random: np.random.Generator, decodes: bool) -> None:
    """Features and k-means leave nothing in their logs that the page shows."""


def forge_pretrain(store: Store, cell: Cell, random: np.random.Generator, decodes: bool) -> None:
    if not cell.method.trains:
        return
    node = store.node("pretrain", config.key(cell, "pretrain"))
    names = ["clean", "view1", "view2", *(["reconstruction1", "reconstruction2"] if decodes else [])]
    with Log(node.log) as log:
        log.event("started", stage="pretrain")
        for epoch in range(1, cell.optimisation.epochs + 1):
            terms = {"loss": 1 / epoch, "embedding": 0.5 / epoch, "embedding_std": 0.4, "learning_rate": 1e-4 / epoch}
            log(epoch, terms | ({"reconstruction": 0.5 / epoch} if decodes else {}) | {"images_per_second": 1e4})
    for epoch in cell.optimisation.kept_epochs():
        images = {name: random.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8) for name in names}
        with files.appearing(node.product(pictures_name(epoch))) as path, path.open("wb") as file:
            np.savez(file, allow_pickle=False, **images)


def forge_probe(store: Store, cell: Cell, random: np.random.Generator, decodes: bool) -> None:  # noqa: ARG001
    with Log(store.node("probe", config.key(cell, "probe")).log) as log:
        for epoch in range(1, cell.probe.epochs + 1):
            log(epoch, {f"validation_accuracy/lr{rate:g}": random.random() for rate in cell.probe.learning_rates})


def forge_correct(store: Store, cell: Cell, random: np.random.Generator, right: float) -> dict[str, Any]:
    node = store.node("probe", config.key(cell, "probe"))
    probe = random.random((len(cell.probe.seeds), TEST_IMAGES)) < right
    logistic = random.random((1, TEST_IMAGES)) < right
    figures = {
        "test_accuracy": float(probe.mean()),
        "validation_accuracy": float(random.random()),
        "probe_learning_rate": cell.probe.learning_rates[-1],
        "logistic_test_accuracy": float(logistic.mean()),
        "logistic_validation_accuracy": float(random.random()),
        "logistic_converged": True,
    }
    by_seed = {str(seed): float(mine.mean()) for seed, mine in zip(cell.probe.seeds, probe, strict=True)}
    files.write_json(node.product(PROBE), figures | {"test_accuracy_by_seed": by_seed})
    with files.appearing(node.product(CORRECT)) as path, path.open("wb") as file:
        np.savez(file, probe=probe, logistic=logistic, ids=np.arange(TEST_IMAGES))
    return figures


def forge_all(store: Store, cell: Cell, **more: Any) -> dict[str, Cell]:
    forge(store, cell, right=0.9, seed=1, **more)
    beside = floors(cell)
    for seed, floor in enumerate(beside.values(), 2):
        forge(store, floor, right=0.8, seed=seed)
    return beside


# ---------------------------------------------------------------------------------- reading a page


class Page(HTMLParser):
    """What a browser would take from a page: links and sources, rows of tables, text; fails on unbalanced tags."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._open: list[str] = []
        self.raw = path.read_text(encoding="utf-8")
        self.feed(self.raw)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data if self._open[-1] in ("td", "th") else f"{data} "

    def row(self, name: str) -> list[str]:
        (found,) = (row[1:] for row in self.rows if row and row[0].strip() == name)
        return found
