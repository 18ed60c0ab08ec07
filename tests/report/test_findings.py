"""What the store has of a cell: read once, done or not."""

from pathlib import Path

import numpy as np
import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute.cells import floors
from dae_ssl.report.findings import Findings, paired_p_values, reader
from dae_ssl.report.significance import mcnemar
from dae_ssl.store import RECORD, Store
from tests.forged import TEST_IMAGES, a_cell, forge


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    store, cell = Store(tmp_path_factory.mktemp("store")), a_cell()
    forge(store, cell, right=0.9, seed=1)
    return Findings("this cell", cell, store)


def test_finished_cell_has_records_scores_curves_pictures_and_images(done: Findings) -> None:
    assert [*done.records] == [*done.cell.stages()]
    assert done.unfinished == []
    assert done.test_images == TEST_IMAGES
    assert [*done.pictures] == [1, 2, 4]
    assert [step for step, _ in done.curves("pretrain")["loss"]] == [1, 2, 3, 4]
    assert {*done.accuracy_by_seed} == {"0", "7"}


def test_curve_of_the_selected_learning_rate_comes_first(done: Findings) -> None:
    assert [*done.validation_curves()] == [0.01, 0.001]


def test_cell_that_was_not_begun_has_nothing(tmp_path: Path) -> None:
    nothing = Findings("", a_cell(), Store(tmp_path))
    assert (nothing.records, nothing.scores, nothing.correct, nothing.pictures) == ({}, {}, {}, {})
    assert nothing.unfinished == list(nothing.cell.stages())
    assert nothing.curves("pretrain") == {}


def test_page_shows_one_state_though_the_store_goes_on(tmp_path: Path) -> None:
    store, cell = Store(tmp_path), a_cell()
    read = reader(store)
    assert read(cell).unfinished == list(cell.stages())
    forge(store, cell, right=0.9, seed=1)
    assert read(cell).unfinished == list(cell.stages())
    assert reader(store)(cell).unfinished == []
    store.node("probe", config.key(cell, "probe")).product(RECORD).unlink()
    assert reader(store)(cell).unfinished == ["probe"]


def test_p_values_need_both_classifiers_of_the_same_images_and_seeds(done: Findings, tmp_path: Path) -> None:
    floor, store = floors(done.cell)["raw pixels"], Store(tmp_path)
    missing = Findings("raw pixels", floor, store)
    assert paired_p_values(done, missing, "probe") is None
    forge(store, floor, right=0.5, seed=2)
    other = Findings("raw pixels", floor, store)
    expected = [mcnemar(*pair) for pair in zip(done.correct["probe"], other.correct["probe"], strict=True)]
    assert paired_p_values(done, other, "probe") == expected
    unlike = Findings("", floor, store)
    unlike.__dict__["correct"] = other.correct | {"ids": np.arange(TEST_IMAGES) + 1}
    assert paired_p_values(done, unlike, "probe") is None
