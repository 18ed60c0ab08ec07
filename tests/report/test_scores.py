"""What tables and figures can name: from records, or made of logs and other scores."""

from pathlib import Path

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl.compute.cells import floors
from dae_ssl.experiments.form import SCORES
from dae_ssl.report.findings import Findings
from dae_ssl.report.scores import CLASSIFIERS, DERIVED, score
from dae_ssl.store import Store
from dae_ssl.training.networks import REPRESENTATION_SIZE
from tests.forged import a_cell, forge


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    store, cell = Store(tmp_path_factory.mktemp("store")), a_cell()
    forge(store, cell, right=0.9, seed=1)
    return Findings("this cell", cell, store)


def test_accuracies_are_in_percent_and_other_scores_as_they_are(done: Findings) -> None:
    assert score(done, "test_accuracy") == 100 * done.scores["test_accuracy"]
    assert score(done, "kmeans_nmi") == done.scores["kmeans_nmi"]


def test_terms_are_those_of_the_last_epoch_and_inertia_is_shared_among_the_features(done: Findings) -> None:
    epochs = done.cell.optimisation.epochs
    assert score(done, "final_reconstruction") == score(done, "final_embedding") == pytest.approx(0.5 / epochs)
    expected = done.scores["kmeans_standardised_inertia"] / REPRESENTATION_SIZE
    assert score(done, "kmeans_standardised_inertia_per_feature") == pytest.approx(expected)


def test_probe_has_converged_at_the_first_epoch_that_is_nearly_as_good_as_the_last(done: Findings) -> None:
    rate = done.scores["probe_learning_rate"]
    logged = Findings("", done.cell, done.store)
    logged.__dict__["_curves"] = {
        "probe": {f"validation_accuracy/lr{rate:g}": [(1, 0.5), (2, 0.989), (3, 0.991), (4, 0.9), (5, 1.0)]}
    }
    assert score(logged, "probe_epochs_to_converge") == 3.0


def test_no_score_is_there_before_its_stage_is_done(tmp_path: Path) -> None:
    nothing = Findings("", a_cell(), Store(tmp_path))
    assert {score(nothing, name) for name in SCORES} == {None}


def test_inertia_per_feature_of_pixels_needs_the_images(done: Findings) -> None:
    pixels = floors(done.cell)["raw pixels"]
    forge(done.store, pixels, right=0.5, seed=2)
    assert score(Findings("", pixels, done.store), "kmeans_standardised_inertia_per_feature") is None


def test_what_is_derived_or_has_images_can_be_named() -> None:
    assert {*DERIVED, *CLASSIFIERS} <= SCORES.keys()
