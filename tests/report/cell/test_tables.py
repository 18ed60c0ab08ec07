"""The tables of a cell: the numbers of the records, beside those of the floors, and how sure differences are."""

import re
from pathlib import Path

import numpy as np

from dae_ssl import config, store
from dae_ssl.config import Cell
from dae_ssl.report.cell.page import write_cell_page
from dae_ssl.report.numbers import p_values
from dae_ssl.report.significance import mcnemar, wilson_interval
from dae_ssl.store import Store
from tests.forged import TEST_IMAGES, Page, a_cell, forge_all
from tests.report.cell.conftest import Drawn

ACCURACIES = {
    "test_accuracy": "Test, the study's probe",
    "logistic_test_accuracy": "Test, logistic regression (L-BFGS)",
    "validation_accuracy": "Validation, the study's probe",
    "logistic_validation_accuracy": "Validation, logistic regression (L-BFGS)",
}


def right(drawn: Drawn, cell: Cell) -> np.ndarray:
    """Return which test images the probe got right, (seeds, n)."""
    with np.load(drawn.store.node("probe", config.key(cell, "probe")).product(store.CORRECT)) as content:
        return np.asarray(content["probe"])


def test_accuracies_are_those_of_the_records_and_differences_are_taken_of_them(drawn: Drawn) -> None:
    for name, title in ACCURACIES.items():
        mine, *theirs = (drawn.score(cell, "probe", name) for cell in (drawn.cell, *drawn.floors.values()))
        expected = [f"{100 * mine:.2f}"]
        for share in theirs:
            expected += [f"{100 * share:.2f}", f"{100 * (mine - share):+.2f}".replace("-", "−")]
        assert [text.split()[0] for text in drawn.page.row(title)] == expected


def test_accuracy_on_test_has_wilsons_interval_below_it_and_validation_accuracy_none(drawn: Drawn) -> None:
    share = drawn.score(drawn.cell, "probe", "test_accuracy")
    low, high = wilson_interval(share, TEST_IMAGES)
    assert drawn.page.row(ACCURACIES["test_accuracy"])[0].split(maxsplit=1)[1].strip() == (
        f"[{100 * low:.2f}, {100 * high:.2f}]"
    )
    assert "[" not in drawn.page.row(ACCURACIES["validation_accuracy"])[0]


def test_clusterings_are_those_of_the_records(drawn: Drawn) -> None:
    for name, title in {"inertia": "Inertia per point", "nmi": "Normalised mutual information"}.items():
        for prefix, kind in {"kmeans_": "plain", "kmeans_standardised_": "standardised"}.items():
            row = drawn.page.row(f"{title}, {kind}")
            for column, cell in ((0, drawn.cell), (1, drawn.floors["random encoder"]), (3, drawn.floors["raw pixels"])):
                assert row[column] == f"{drawn.score(cell, 'kmeans', prefix + name):.4f}"


def test_accuracy_of_each_probe_seed_is_shown(drawn: Drawn) -> None:
    for seed, correct in zip(drawn.cell.probe.seeds, right(drawn, drawn.cell), strict=True):
        assert drawn.page.row(f"– with probe seed {seed}")[0] == f"{100 * correct.mean():.2f}"


def test_differences_are_tested_seed_by_seed_on_the_same_images(drawn: Drawn) -> None:
    mine, theirs = right(drawn, drawn.cell), right(drawn, drawn.floors["raw pixels"])
    tested = [mcnemar(of_cell, of_floor) for of_cell, of_floor in zip(mine, theirs, strict=True)]
    assert f"against raw pixels ({100 * theirs.mean():.2f} %, {p_values(tested)})" in drawn.page.text
    for seed, p in zip(drawn.cell.probe.seeds, tested, strict=True):
        assert p_values([p]) in drawn.page.row(f"– with probe seed {seed}")[4]


def test_difference_with_one_probe_seed_has_its_p_below_it(tmp_path: Path) -> None:
    filled, cell = Store(tmp_path), a_cell(probe={"epochs": 3, "seeds": [0], "learning_rates": [0.001]})
    page = Page(write_cell_page(cell, filled, forge_all(filled, cell)))
    differences = page.row(ACCURACIES["test_accuracy"])[2::2]
    assert all(re.fullmatch(r"[+−]\d+\.\d\d +p [<=] 0\.\d+ ", text) for text in differences), differences
