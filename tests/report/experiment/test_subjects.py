"""The rows of an experiment as far as they were measured: which is chosen, and which floors stand beside them."""

from pathlib import Path

import numpy as np

from dae_ssl import config
from dae_ssl.compute import cells
from dae_ssl.experiments.form import Row
from dae_ssl.report.experiment.subjects import Subject, change, paired
from dae_ssl.store import Store
from tests.forged import forge
from tests.report.experiment.conftest import by_label, sections


def test_row_that_validation_chooses_is_the_best_on_validation_and_says_among_how_many(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (section,) = sections("methods")
    row = next(row for row in section.shown if row.label == "DAE, L2")
    best: dict[str, float] = {}
    for number, candidate in enumerate(row.among[:4]):
        for cell in section.cells[candidate]:
            forge(store, cell, right=0.9 - 0.1 * number, seed=number + 10 * cell.seed)
        accuracies = [cells.scores(cell, store)["validation_accuracy"] for cell in section.cells[candidate]]
        best[candidate.key] = float(np.mean(accuracies))
    chosen = by_label(store, "methods")["DAE, L2"]
    candidate = next(row for row in row.among if row.key == max(best, key=lambda key: best[key]))
    assert config.cell_key(chosen.findings[0].cell) == config.cell_key(section.cells[candidate][0])
    assert chosen.chosen == f"α = {candidate.at['alpha']:g}, chosen among the 4 of 7 done"


def test_candidates_are_compared_over_the_seed_that_most_of_them_have(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (section,) = sections("methods")
    row = next(row for row in section.shown if row.label == "DAE, L2")
    for number, candidate in enumerate(row.among):
        for cell in section.cells[candidate][: 2 if number < 3 else 1]:
            forge(store, cell, right=0.8, seed=number + 10 * cell.seed)
    of_first = {row: cells.scores(section.cells[row][0], store)["validation_accuracy"] for row in row.among}
    best = max(of_first, key=lambda row: of_first[row])
    chosen = by_label(store, "methods")["DAE, L2"]
    assert config.cell_key(chosen.findings[0].cell) == config.cell_key(section.cells[best][0])
    assert chosen.chosen.endswith("chosen among 7")


def test_floors_that_are_evaluated_otherwise_stand_apart(tmp_path: Path) -> None:
    shown = by_label(Store(tmp_path), "as_published_code")
    beside = {label: subject.row.key for label, subject in shown.items() if subject.floor}
    assert beside == {
        "random encoder": "random", "random encoder, probe.epochs = 150": "random, probe.epochs = 150",
        "raw pixels": "pixels", "raw pixels, probe.epochs = 150": "pixels, probe.epochs = 150",
    }  # fmt: skip
    assert [of_seed.cell.seed for of_seed in shown["random encoder"].findings] == [0, 1]


def test_change_is_the_paired_difference_and_nothing_for_what_it_starts_from(store: Store) -> None:
    shown = by_label(store, "denoising")
    dae, ae = (shown[f"{kind}, no embedding loss"] for kind in ("DAE", "AE"))
    moved = change(dae, ae, "test_accuracy")
    assert moved == paired([(dae, 1.0), (ae, -1.0)], "test_accuracy")
    assert moved is not None
    assert moved.seeds == 2
    start = change(ae, ae, "test_accuracy")
    assert start is not None
    assert (start.mean, start.low, start.seeds) == (0.0, None, 2)
    assert change(dae, Subject(Row("not measured")), "test_accuracy") is None


def test_raw_pixels_stand_beside_every_seed(store: Store) -> None:
    shown = by_label(store, "denoising")
    dae, pixels = shown["DAE, no embedding loss"], shown["raw pixels"]
    assert (dae.seeded, pixels.seeded) == (True, False)
    difference = paired([(dae, 1.0), (pixels, -1.0)], "kmeans_nmi")
    assert difference is not None
    (floor,) = pixels.by_seed("kmeans_nmi").values()
    assert difference.seeds == 2
    assert np.isclose(difference.mean, np.mean(list(dae.by_seed("kmeans_nmi").values())) - floor)
