"""Arrays -> clustering scores: how well k-means on representations recovers the classes without using labels."""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from dae_ssl import config

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
BLOCK_ROWS = 256
"""Rows that are converted to float64 at a time, so that the whole array never is."""


@dataclass(frozen=True, kw_only=True)
class Clustering:
    """Scores of one clustering against the classes."""

    inertia: float
    """Mean squared distance of a point to its centre."""
    nmi: float
    """Normalised mutual information, arithmetic mean, 0 to 1."""
    ari: float
    """Adjusted Rand index, 1 for equal partitions, about 0 for unrelated ones."""
    matched_accuracy: float
    """Share of points whose cluster is paired with their class, in the best one-to-one pairing."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of clustering the representations as they are, and standardised."""

    plain: Clustering
    """As in the study (Figure 7). Its inertia grows with the square of the representations' scale."""
    standardised: Clustering
    """With every feature at mean 0 and variance 1: independent of the scale, so that methods can be compared."""

    def terms(self) -> dict[str, float]:
        """Return all scores by name, the standardised ones as `standardised_NAME`."""
        return asdict(self.plain) | {f"standardised_{name}": value for name, value in asdict(self.standardised).items()}


def kmeans(representations: npt.ArrayLike, labels: npt.ArrayLike, *, settings: config.KMeans) -> Scores:
    """Cluster representations (n, d), plain and standardised, and score both against the labels (n,).

    The algorithm is scikit-learn's KMeans (Lloyd) in float32 with seeded k-means++ starts; of `settings.restarts` runs
    the one with the least inertia counts. The inertia is recomputed in float64, as scikit-learn sums it in float32.

    It holds two float32 copies of the representations. Raises ValueError for arrays that cannot be clustered.
    """
    x, y = np.asarray(representations), np.asarray(labels)
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"representations {x.shape} and labels {y.shape}: give (n, d) and (n,)")
    if len(x) < settings.clusters:
        raise ValueError(
            f"{len(x)} points for kmeans.clusters={settings.clusters}: give at least one point for each cluster"
        )
    if not all(np.isfinite(x[rows]).all() for rows in _slices(len(x))):
        raise ValueError("some representations are not finite: the encoder may have diverged in pretraining")
    centred, deviation = _centre(x)
    plain = _cluster(centred, y, settings)
    centred *= np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    return Scores(plain=plain, standardised=_cluster(centred, y, settings))


def matched_accuracy(clusters: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the share of points whose cluster is paired with their class, in the best one-to-one pairing (Kuhn 1955).

    Clusters beyond the number of classes, or classes beyond that of clusters, stay unpaired and count as wrong.
    """
    counts = contingency_matrix(labels, clusters)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / counts.sum())


def _cluster(x: Floats, labels: Integers, settings: config.KMeans) -> Clustering:
    """Cluster centred x (n, d), which scikit-learn changes in place and restores to within rounding."""
    fitted = KMeans(settings.clusters, n_init=settings.restarts, random_state=settings.seed, copy_x=False).fit(x)
    squares = sum(
        np.square(x[rows].astype(np.float64) - fitted.cluster_centers_[fitted.labels_[rows]]).sum()
        for rows in _slices(len(x))
    )
    return Clustering(
        inertia=float(squares / len(x)),
        nmi=float(normalized_mutual_info_score(labels, fitted.labels_)),
        ari=float(adjusted_rand_score(labels, fitted.labels_)),
        matched_accuracy=matched_accuracy(fitted.labels_, labels),
    )


def _centre(x: npt.NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Return x (n, d) minus its mean, and its standard deviations (d,), exactly 0 for a constant feature."""
    mean = np.sum([x[rows].astype(np.float64).sum(0) for rows in _slices(len(x))], axis=0) / len(x)
    centred = np.empty(x.shape, np.float32)
    squares, constant = np.zeros(x.shape[1]), np.ones(x.shape[1], bool)
    for rows in _slices(len(x)):
        block = x[rows] - mean
        squares += np.square(block).sum(0)
        constant &= (block == block[0]).all(0) & (x[rows.start] == x[0])
        centred[rows] = block
    # The mean of equal values may be rounded, which would leave a deviation that is only rounding error.
    return centred, np.where(constant, 0, np.sqrt(squares / len(x))).astype(np.float32)


def _slices(rows: int) -> list[slice]:
    return [slice(start, min(start + BLOCK_ROWS, rows)) for start in range(0, rows, BLOCK_ROWS)]
