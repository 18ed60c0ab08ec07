"""How sure a score is, and whether two classifiers differ: over seeds, and over the test images they got right."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, ndtr, ndtri, stdtr, stdtrit  # scipy.stats takes seconds to import

OVER_IMAGES, OVER_SEEDS, OVER_BOTH, OVER_NOTHING = "images", "seeds", "seeds and images", "nothing"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score or a difference, how far it reaches with 95 % confidence, and over what that is."""

    mean: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """Two-sided, that the true one is 0."""
    seeds: int
    over: str = OVER_NOTHING
    """What the interval accounts for: the choice of seeds, of test images, or of both."""


def over_seeds(values: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """Return the mean of one value for each seed with Student's interval; without an interval for one seed.

    Raises ValueError without values.
    """
    if not values:
        raise ValueError("no values: give one for each seed")
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return Estimate(mean=mean, seeds=1)
    variance = float(np.var(values, ddof=1)) / n
    return _student(mean, variance, n - 1.0, seeds=n, over=OVER_SEEDS, confidence=confidence)


def over_images(share: float, images: int) -> Estimate:
    """Return an accuracy of one seed with Wilson's interval over the choice of test images."""
    low, high = wilson_interval(share, images)
    return Estimate(mean=share, low=low, high=high, seeds=1, over=OVER_IMAGES)


def contrast(
    correct: Sequence[npt.NDArray[np.bool_] | npt.NDArray[np.float64]],
    weights: Sequence[float],
    *,
    confidence: float = 0.95,
) -> Estimate:
    """Return the weighted sum of several classifiers' accuracies, paired over the same test images and seeds.

    correct: of each classifier which images it got right (or with which share, 0 to 1), (seeds, n), alike in shape.
    The variance of the mean is that
    between seeds plus that between images; each is estimated as if the other were not there, which errs towards wide
    intervals. Degrees of freedom: Welch-Satterthwaite (Satterthwaite 1946). With one seed only the images count, and
    the p of a difference of two is McNemar's. Raises ValueError for arrays that cannot be paired.
    """
    if len(correct) != len(weights) or len({one.shape for one in correct}) != 1 or correct[0].ndim != 2:
        shapes = [one.shape for one in correct]
        raise ValueError(f"images right {shapes} for {len(weights)} weights: give as many arrays (seeds, n) alike")
    by_image = sum(weight * one.astype(np.float64) for weight, one in zip(weights, correct, strict=True))
    by_image = np.asarray(by_image)
    seeds, images = by_image.shape
    mean = float(by_image.mean())
    of_images = float(by_image.mean(0).var(ddof=1)) / images if images > 1 else math.inf
    if seeds == 1:
        found = _student(mean, of_images, math.inf, seeds=1, over=OVER_IMAGES, confidence=confidence)
        right = [one[0].astype(bool) for one in correct]
        certain = all(np.array_equal(one[0], whole) for one, whole in zip(correct, right, strict=True))
        if certain and list(weights) in ([1.0, -1.0], [-1.0, 1.0]):
            exact = mcnemar(*right)
            return Estimate(mean=mean, low=found.low, high=found.high, p=exact, seeds=1, over=OVER_IMAGES)
        return found
    of_seeds = float(by_image.mean(1).var(ddof=1)) / seeds
    total = of_seeds + of_images
    freedom = (seeds - 1) * (total / of_seeds) ** 2 if of_seeds > 0 else math.inf
    return _student(mean, total, freedom, seeds=seeds, over=OVER_BOTH, confidence=confidence)


def _student(mean: float, variance: float, freedom: float, *, seeds: int, over: str, confidence: float) -> Estimate:
    """Return the estimate whose error has this variance and so many degrees of freedom."""
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
    """Return the interval within [0, 1] for an accuracy that is `share` on so many images, not over seeds.

    The score interval of Wilson 1927, "Probable inference, the law of succession, and statistical inference"; the
    share may be the mean over seeds that saw the same images. Raises ValueError without images or with no share.
    """
    if images < 1 or not 0 <= share <= 1:
        raise ValueError(f"share={share}, images={images}: give a share between 0 and 1 of at least one image")
    z = float(ndtri((1 + confidence) / 2))
    centre = (share + z * z / (2 * images)) / (1 + z * z / images)
    reach = z / (1 + z * z / images) * np.sqrt(share * (1 - share) / images + (z / (2 * images)) ** 2)
    return max(0.0, float(centre - reach)), min(1.0, float(centre + reach))


def mcnemar(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Return the two-sided exact p-value of McNemar's test that two classifiers err equally often.

    one, other: which of the same images each got right, (n,). Only images that just one of them got right count: each
    is a toss of a fair coin if they are equally good (McNemar 1947; exact, by the binomial distribution). Raises
    ValueError for arrays that cannot be paired.
    """
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"images right {one.shape} and {other.shape}: give two arrays (n,) of the same images")
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    return min(1.0, 2 * float(bdtr(min(only_one, only_other), only_one + only_other, 0.5)))
