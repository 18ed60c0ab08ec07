"""k-means scores against hand-made clusters and slow, obvious computations."""

import itertools

import numpy as np
import pytest

from dae_ssl import config
from dae_ssl.evaluation.kmeans import kmeans, matched_accuracy

SETTINGS = config.KMeans(clusters=3, restarts=4)


def blobs(spread: float = 0.1, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return 3 round clusters of 50 points in 4 dimensions, off centre, labels shuffled with the points."""
    generator = np.random.default_rng(0)
    labels = generator.permutation(np.repeat([0, 1, 2], 50))
    centres = np.array([[5.0, 0, 0, 1], [0, 5, 0, 2], [0, 0, 5, 3]])
    x = centres[labels] + spread * generator.standard_normal((150, 4))
    return (scale * (x + 7)).astype(np.float32), labels


def test_separate_clusters_are_found_exactly() -> None:
    scores = kmeans(*blobs(), settings=SETTINGS)
    for clustering in (scores.plain, scores.standardised):
        found = (clustering.nmi, clustering.ari, clustering.matched_accuracy)
        assert found == pytest.approx((1, 1, 1))


def test_inertia_is_the_mean_squared_distance_to_the_cluster_means() -> None:
    x, labels = blobs()
    wide = x.astype(np.float64)

    def slow(points: np.ndarray) -> float:
        return sum(((p - points[labels == k].mean(0)) ** 2).sum() for p, k in zip(points, labels, strict=True)) / 150

    scores = kmeans(x, labels, settings=SETTINGS)
    assert scores.plain.inertia == pytest.approx(slow(wide), rel=1e-4)
    standardised = (wide - wide.mean(0)) / wide.std(0)
    assert scores.standardised.inertia == pytest.approx(slow(standardised), rel=1e-4)


def test_scale_changes_the_plain_inertia_only() -> None:
    one, other = (kmeans(*blobs(scale=scale), settings=SETTINGS) for scale in (1, 100))
    assert other.plain.inertia == pytest.approx(1e4 * one.plain.inertia, rel=1e-3)
    assert other.standardised.inertia == pytest.approx(one.standardised.inertia, rel=1e-3)


def test_one_large_feature_hides_the_clusters_from_the_plain_clustering_only() -> None:
    x, labels = blobs()
    noise = 1000 * np.random.default_rng(1).standard_normal((150, 1), dtype=np.float32)
    scores = kmeans(np.hstack([x, noise]), labels, settings=SETTINGS)
    assert scores.plain.ari < 0.2
    assert scores.standardised.ari > 0.9


def test_constant_features_do_not_matter() -> None:
    x, labels = blobs()
    padded = np.hstack([x, np.full((150, 1), 0.1, np.float32), np.zeros((150, 1), np.float32)])
    one, other = (kmeans(z, labels, settings=SETTINGS) for z in (x, padded))
    assert other.standardised.inertia == pytest.approx(one.standardised.inertia, rel=1e-4)


def test_half_precision_is_read_and_the_arrays_are_left_alone() -> None:
    x, labels = blobs()
    for dtype in (np.float16, np.float32):
        given = x.astype(dtype)
        kept = given.copy()
        assert kmeans(given, labels, settings=SETTINGS).plain.ari == pytest.approx(1)
        np.testing.assert_array_equal(given, kept)


def test_equal_seeds_give_equal_scores_and_another_seed_another_start() -> None:
    points = np.random.default_rng(0).standard_normal((300, 20), dtype=np.float32)
    labels = np.arange(300) % 3
    one, again, other = (
        kmeans(points, labels, settings=config.KMeans(clusters=8, restarts=1, seed=seed)) for seed in (0, 0, 1)
    )
    assert one == again
    assert one.plain.inertia != other.plain.inertia


def test_more_restarts_never_raise_the_inertia() -> None:
    points = np.random.default_rng(0).standard_normal((300, 5), dtype=np.float32)
    few, many = (
        kmeans(points, np.zeros(300), settings=config.KMeans(clusters=8, restarts=restarts)) for restarts in (1, 20)
    )
    assert many.plain.inertia < few.plain.inertia


@pytest.mark.parametrize(("clusters", "classes"), [(4, 4), (5, 3), (3, 5)])
def test_matched_accuracy_equals_the_best_of_all_pairings(clusters: int, classes: int) -> None:
    generator = np.random.default_rng(clusters)
    found, labels = generator.integers(clusters, size=40), generator.integers(classes, size=40)
    width = max(clusters, classes)
    best = max(np.mean(np.array(pairing)[found] == labels) for pairing in itertools.permutations(range(width)))
    assert matched_accuracy(found, labels) == pytest.approx(best)


def test_terms_name_every_score_once() -> None:
    scores = kmeans(*blobs(), settings=SETTINGS)
    terms = scores.terms()
    assert len(terms) == 8
    assert terms["inertia"] == scores.plain.inertia
    assert terms["standardised_matched_accuracy"] == scores.standardised.matched_accuracy


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        (np.zeros((4, 2, 2)), np.zeros(4), r"\(4, 2, 2\)"),
        (np.zeros((4, 2)), np.zeros(5), r"\(5,\)"),
        (np.zeros((2, 2)), np.zeros(2), "2 points for kmeans.clusters=3"),
        (np.array([[0.0], [np.nan], [1]]), np.zeros(3), "some representations are not finite"),
    ],
)
def test_arrays_that_cannot_be_clustered_are_refused(points: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kmeans(points, labels, settings=SETTINGS)
