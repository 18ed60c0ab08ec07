"""Read the results of a cell, done or not, from the store: records, scores, curves, and images classified right."""

import functools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dae_ssl import config
from dae_ssl.compute import cells
from dae_ssl.compute.log import Entry, curves, read
from dae_ssl.config import Cell
from dae_ssl.report.significance import mcnemar
from dae_ssl.store import CORRECT, PROBE, Folder, Store, pictures_name

Booleans = npt.NDArray[np.bool_]
Image = npt.NDArray[np.uint8]
Pictures = Mapping[str, Image]
"""Images by kind: clean, view1, view2, and reconstruction1, reconstruction2 if any; shape (n, side, side, 3)."""
Curve = list[tuple[int, float]]
"""Pairs of a step and the value at this step."""


@dataclass(frozen=True)
class Findings:
    """The results of a cell in the store; each is read only once, so that a page is consistent."""

    name: str
    """The label of the cell, such as "this cell" or "random encoder"."""
    cell: Cell
    store: Store

    def node(self, stage: str) -> Folder:
        """Return the folder of a stage's node, done or not."""
        return cells.nodes(self.cell, self.store)[stage]

    @cached_property
    def records(self) -> dict[str, dict[str, Any]]:
        """The commit records of the committed stages, even if the parent has been computed again since."""
        return cells.committed_records(self.cell, self.store)

    @cached_property
    def scores(self) -> dict[str, float]:
        """The scores of the committed stages; accuracies are shares."""
        return cells.scores(self.cell, self.store)

    @property
    def unfinished(self) -> list[str]:
        """The stages that are not committed."""
        return [stage for stage in self.cell.stages() if stage not in self.records]

    @cached_property
    def accuracy_by_seed(self) -> dict[str, float]:
        """The test accuracy of the study's probe for each probe seed; empty until the probe is done."""
        if "probe" not in self.records:
            return {}
        return dict(json.loads(self.node("probe").product(PROBE).read_text())["test_accuracy_by_seed"])

    @cached_property
    def correct(self) -> dict[str, Booleans]:
        """Which test images `probe` and `logistic` got right, shape (seeds, n), and their `ids`; empty until done."""
        if "probe" not in self.records:
            return {}
        return _arrays(self.node("probe").product(CORRECT))

    @property
    def test_images(self) -> int | None:
        """The number of test images of the accuracies; None until the probe is done."""
        return len(self.correct["ids"]) if self.correct else None

    @property
    def image_size(self) -> int:
        """The number of values in an image of the evaluation set; 0 if the set is not prepared in this store."""
        prepared = self.store.data(self.cell.data.evaluate).record() or {"splits": {"test": {"shape": [0]}}}
        return math.prod(prepared["splits"]["test"]["shape"])

    @cached_property
    def pictures(self) -> dict[int, Pictures]:
        """The example pictures by epoch, ascending, as far as they have been written."""
        if not self.cell.method.trains:
            return {}
        node = self.node("pretrain")
        paths = {epoch: node.product(pictures_name(epoch)) for epoch in self.cell.optimisation.kept_epochs()}
        return {epoch: _arrays(path) for epoch, path in paths.items() if path.is_file()}

    def curves(self, stage: str) -> dict[str, Curve]:
        """Return the curve of each logged term; none for a stage that the cell has not started or does not have."""
        return self._curves.get(stage, {})

    @cached_property
    def _curves(self) -> dict[str, dict[str, Curve]]:
        logged = {stage: curves(self.node(stage).log) for stage in self.cell.stages()}
        return {
            stage: {term: [(step, value) for step, value, _ in points] for term, points in terms.items()}
            for stage, terms in logged.items()
        }

    def events(self, stage: str, kind: str) -> list[Entry]:
        """Return the events of one kind in a stage's log."""
        return [entry for entry in read(self.node(stage).log) if entry.event == kind]

    def validation_curves(self) -> dict[float, Curve]:
        """Return the curves of validation accuracy by probe epoch for each learning rate, the selected one first."""
        logged = self.curves("probe")
        by_rate = {rate: logged.get(f"validation_accuracy/lr{rate:g}", []) for rate in self.cell.probe.learning_rates}
        chosen = self.scores.get("probe_learning_rate")
        return dict(sorted(by_rate.items(), key=lambda item: item[0] != chosen))


Reader = Callable[[Cell], Findings]


def reader(store: Store) -> Reader:
    """Return a function that reads the cells of a store, each only once, however many rows need it."""
    return functools.cache(lambda cell: Findings(config.title(cell), cell, store))


def paired_p_values(one: Findings, other: Findings, classifier: str) -> list[float] | None:
    """Return McNemar's p for each seed of a classifier, `probe` or `logistic`, or None if the cells cannot be paired.

    To be paired, both must be done, on the same test images and with the same number of seeds.
    """
    if not one.correct or not other.correct:
        return None
    mine, theirs = one.correct[classifier], other.correct[classifier]
    if mine.shape != theirs.shape or not np.array_equal(one.correct["ids"], other.correct["ids"]):
        return None
    return [mcnemar(a, b) for a, b in zip(mine, theirs, strict=True)]


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}
