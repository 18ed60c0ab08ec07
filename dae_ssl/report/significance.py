"""Compute confidence intervals of scores, and tests of differences, over seeds and over test images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, ndtr, ndtri, stdtr, stdtrit  # scipy.stats takes seconds to import

OVER_IMAGES, OVER_SEEDS, OVER_BOTH, OVER_NOTHING = "images", "seeds", "seeds and images", "nothing"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score or a difference with its 95 % confidence interval."""

    mean: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """The two-sided p-value of the hypothesis that the true value is 0."""
    seeds: int
    over: str = OVER_NOTHING
    """What the interval accounts for: the choice of seeds, of test images, or both."""


def over_seeds(values: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """Return the mean of the values of seeds with Student's interval, or without an interval for a single seed.

    Raises ValueError without values.
    """
    if not values:
        raise ValueError("there are no values: give one for each seed")
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return Estimate(mean=mean, seeds=1)
    variance = float(np.var(values, ddof=1)) / n
    return _student(mean, variance, n - 1.0, seeds=n, over=OVER_SEEDS, confidence=confidence)


def over_images(share: float, images: int) -> Estimate:
    """Return the accuracy of one seed with Wilson's interval over the choice of test images."""
    low, high = wilson_interval(share, images)
    return Estimate(mean=share, low=low, high=high, seeds=1, over=OVER_IMAGES)


def contrast(
    correct: Sequence[npt.NDArray[np.bool_] | npt.NDArray[np.float64]],
    weights: Sequence[float],
    *,
    confidence: float = 0.95,
) -> Estimate:
    """Return the weighted sum of several classifiers' accuracies, paired over the same test images and seeds.

    correct: for each classifier an array of shape (seeds, n), whether it got each image right, or a share from 0 to 1.
    The variance of the mean is the variance between seeds plus that between images; each is estimated as if the other
    were absent, which makes intervals too wide rather than too narrow. The degrees of freedom are those of
    Welch-Satterthwaite (Satterthwaite 1946). With one seed only the variance between images counts, and the p of a
    difference of two classifiers is McNemar's. Raises ValueError for arrays that cannot be paired.
    """
    if len(correct) != len(weights) or len({right.shape for right in correct}) != 1 or correct[0].ndim != 2:
        shapes = [right.shape for right in correct]
        raise ValueError(f"arrays of shapes {shapes} for {len(weights)} weights: give one array (seeds, n) each")
    by_image = sum(weight * right.astype(np.float64) for weight, right in zip(weights, correct, strict=True))
    by_image = np.asarray(by_image)
    seeds, images = by_image.shape
    mean = float(by_image.mean())
    of_images = float(by_image.mean(0).var(ddof=1)) / images if images > 1 else math.inf
    if seeds == 1:
        estimate = _student(mean, of_images, math.inf, seeds=1, over=OVER_IMAGES, confidence=confidence)
        rounded = [right[0].astype(bool) for right in correct]
        binary = all(np.array_equal(right[0], whole) for right, whole in zip(correct, rounded, strict=True))
        if binary and list(weights) in ([1.0, -1.0], [-1.0, 1.0]):
            exact = mcnemar(*rounded)
            return Estimate(mean=mean, low=estimate.low, high=estimate.high, p=exact, seeds=1, over=OVER_IMAGES)
        return estimate
    of_seeds = float(by_image.mean(1).var(ddof=1)) / seeds
    total = of_seeds + of_images
    freedom = (seeds - 1) * (total / of_seeds) ** 2 if of_seeds > 0 else math.inf
    return _student(mean, total, freedom, seeds=seeds, over=OVER_BOTH, confidence=confidence)


def _student(mean: float, variance: float, freedom: float, *, seeds: int, over: str, confidence: float) -> Estimate:
    """Return the estimate of a mean whose error has this variance and these degrees of freedom."""
    error, many = math.sqrt(variance), not math.isfinite(freedom)
    quantile = (1 + confidence) / 2
    reach = error * float(ndtri(quantile) if many else stdtrit(freedom, quantile))
    if error == 0:
        p = 1.0 if mean == 0 else 0.0
    else:
        tail = -abs(mean) / error
        p = 2 * float(ndtr(tail) if many else stdtr(freedom, tail))
    return Estimate(mean=mean, low=mean - reach, high=mean + reach, p=p, seeds=seeds, over=over)


def wilson_interval(share: float, images: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the confidence interval, within [0, 1], of an accuracy `share` that was measured on `images` images.

    This is the score interval of Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    The share may be a mean over seeds on the same images; the interval does not cover the choice of seeds. Raises
    ValueError if there is no image or the share is not in [0, 1].
    """
    if images < 1 or not 0 <= share <= 1:
        raise ValueError(f"share={share}, images={images}: give a share between 0 and 1, and at least one image")
    z = float(ndtri((1 + confidence) / 2))
    centre = (share + z * z / (2 * images)) / (1 + z * z / images)
    reach = z / (1 + z * z / images) * np.sqrt(share * (1 - share) / images + (z / (2 * images)) ** 2)
    return max(0.0, float(centre - reach)), min(1.0, float(centre + reach))


def mcnemar(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Return the two-sided p-value of McNemar's exact test that two classifiers are equally good.

    one, other: which of the same images each of them got right, shape (n,). Only images that exactly one of them got
    right count: if they are equally good, each of these is the toss of a fair coin (McNemar 1947; exact by the binomial
    distribution). Raises ValueError for arrays that cannot be paired.
    """
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"arrays of shapes {one.shape} and {other.shape}: give two arrays (n,) of the same images")
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    return min(1.0, 2 * float(bdtr(min(only_one, only_other), only_one + only_other, 0.5)))
